"""The weights of an OpenVINO model by its XML: type and size of each constant; the .bin is not read."""

from __future__ import annotations

import math
from pathlib import Path
from xml.etree.ElementTree import Element, ParseError, iterparse

_BITS = {"f32": 32, "f16": 16, "bf16": 16, "i8": 8, "u8": 8, "i4": 4, "u4": 4, "nf4": 4, "f8e4m3": 8, "f4e2m1": 4}
"""Of the types that weights are held in; integers of more bits are shapes and indices."""
# the names that NNCF gives
_COMPANIONS = ("/scale", "/zero_point", "_lora_A", "_lora_B")


def of_openvino(folder: Path) -> tuple[int, float]:
    """Bits of every constant of more than one number, and how many weights they stand for.

    The tokenizer's graphs beside an exported language model are not counted.

    Raises:
        ValueError: the XML is damaged.
    """
    bits = weights = 0
    try:
        for file in sorted(path for path in folder.glob("*.xml") if "tokenizer" not in path.stem):
            for _, layer in iterparse(file):
                if layer.tag == "layer":
                    held, counted = _constant(layer)
                    bits, weights = bits + held, weights + counted
                    layer.clear()
    except ParseError as error:
        raise ValueError(str(error)) from error
    return bits, weights


def _constant(layer: Element) -> tuple[int, int]:
    data = layer.find("data")
    if layer.get("type") != "Const" or data is None or data.get("element_type") not in _BITS:
        return 0, 0
    count = math.prod(int(size) for size in data.get("shape", "").split(",") if size.strip())
    if count < 2:
        return 0, 0
    companion = layer.get("name", "").endswith(_COMPANIONS)
    return count * _BITS[str(data.get("element_type"))], 0 if companion else count
