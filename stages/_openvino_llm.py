"""A language model in OpenVINO's format, as optimum-intel exports it: a graph that keeps its own key-value cache."""

from __future__ import annotations

import shutil
from collections import Counter
from math import prod
from pathlib import Path
from typing import Any

from pydantic import JsonValue

from stages._openvino_runtime import gist, toolkit, version
from stages.base import Refused

KIND = "openvino_llm"
NAME, WEIGHTS, TOKENIZER = "openvino_model.xml", "openvino_model.bin", "tokenizer.json"
FLOATS = frozenset({"f32", "f16", "bf16"})
QUANTIZED = {"i8": 8, "u8": 8, "i4": 4, "u4": 4}
"""Bits of the types that weights are compressed to."""


def read_llm(folder: Path) -> Any:
    """The graph as an openvino.Model, its weights mapped from the file.

    Raises:
        Refused: a file is missing, or OpenVINO cannot read it.
    """
    for name in (NAME, WEIGHTS):
        if not (folder / name).is_file():
            raise Refused(f"the model's folder holds no {name}", "an OpenVINO language model is both files")
    try:
        return toolkit().Core().read_model(str(folder / NAME))
    except RuntimeError as error:
        raise Refused(
            f"OpenVINO {version()} cannot read {NAME}: {gist(str(error))}", "make the model again, it is damaged"
        ) from error


def write_llm(model: Any, source: Path, folder: Path, half: bool = False) -> None:
    """Save the graph beside the source's tokenizer and settings; `half` keeps float weights in 16 bits."""
    toolkit().save_model(model, str(folder / NAME), compress_to_fp16=half)
    for file in sorted(path for path in source.iterdir() if path.name not in (NAME, WEIGHTS)):
        shutil.copyfile(file, folder / file.name)


def llm_facts(model: Any) -> dict[str, JsonValue]:
    """What an `openvino_llm` artifact says of itself: how many matrices are held in which type, and in which most."""
    held, elements = Counter[str](), Counter[str]()
    for each in model.get_ops():
        kind = each.get_element_type().get_type_name() if each.get_type_name() == "Constant" else ""
        shape = list(each.get_output_shape(0)) if kind in FLOATS | QUANTIZED.keys() else []
        if len(shape) > 1 and prod(shape) > shape[0] and shape[-1] > 1:  # neither a vector nor a column of scales
            held[kind] += 1
            elements[kind] += prod(shape)
    most = elements.most_common(1)[0][0] if elements else "f32"
    return {"precision": most, "matrices": {**dict(sorted(held.items()))}, "openvino": version()}


def refuse_compressed(facts: dict[str, JsonValue]) -> None:
    """Refuse weights that are compressed already: a second rounding would only add to the first."""
    matrices = facts["matrices"]
    assert isinstance(matrices, dict)
    found = sorted(QUANTIZED.keys() & matrices.keys())
    if found:
        raise Refused(
            f"the model's weights are compressed already: {', '.join(found)}", "take the float model: leave a step out"
        )


def refuse_broken_scales(model: Any) -> None:
    """Refuse weights whose scales are no numbers: NaN came out of the layer's calibration, or was in its weights.

    Raises:
        Refused: naming the layer.
    """
    import numpy as np

    for each in model.get_ops():
        name = each.get_friendly_name()
        if each.get_type_name() == "Constant" and name.endswith("/scale") and not np.isfinite(each.data).all():
            raise Refused(
                f"the scales of `{name.removesuffix('/scale')}` hold NaN or infinity",
                "the model is broken there, or its activations overflow: leave out `awq`, `scale_estimation`, `gptq`",
            )
