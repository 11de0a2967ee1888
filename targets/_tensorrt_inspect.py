"""What is inside an engine, from the description that TensorRT logs while it builds one in detail.

An engine that was built without a GPU cannot be opened on that machine, so this is the one look into it that there is.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

from stages.base import Frozen

_LAYER = re.compile(
    r"^Name: (?P<name>.*?), LayerType: (?P<type>\w+), Inputs: (?P<inputs>.*?), Constants: (?P<constants>.*?), "
    r"Outputs: (?P<outputs>.*?), TacticName: .*?, Metadata: (?P<metadata>.*)$",
    re.MULTILINE,
)
_TENSOR = re.compile(
    r"^ Name: (?P<name>.*?), IOMode: (?P<mode>Input|Output), DataType: (?P<dtype>\w+), "
    r"Dimensions: \[(?P<shape>[^\]]*)\]"
    r"(?:.*?MinShape: \[(?P<min>[^\]]*)\], OptShape: \[(?P<opt>[^\]]*)\], MaxShape: \[(?P<max>[^\]]*)\])?",
    re.MULTILINE,
)
_DATATYPE, _ONNX = re.compile(r"Datatype: (\w+)"), re.compile(r"\[ONNX Layer: ([^\]]+)\]")
_GENERATED = "kgen"  # pointwise code around the operators proper: casts, scales, biases, activations
_NUMPY = {
    "Float": "float32", "Half": "float16", "BFloat16": "bfloat16", "Int8": "int8", "UInt8": "uint8", "FP8": "float8",
    "Int32": "int32", "Int64": "int64", "Bool": "bool",
}  # fmt: skip


class Layer(Frozen):
    """One kernel of an engine; `onnx` names the nodes that it computes a part of."""

    name: str
    type: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    onnx: tuple[str, ...]


class Tensor(Frozen):
    """An input or an output of an engine. -1 is a dynamic axis; least, best and greatest shape are an input's."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    profile: tuple[tuple[int, ...], ...] = ()


class Inspected(Frozen):
    """An engine's layers, inputs and outputs, each in its order."""

    layers: tuple[Layer, ...]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]

    def layer_types(self) -> dict[str, int]:
        """Layers by type, most frequent first."""
        return dict(Counter(layer.type for layer in self.layers).most_common())

    def computed_in(self, nodes: Iterable[str]) -> dict[str, int]:
        """ONNX nodes by the datatype that the engine multiplies them in, `unknown` where no layer names a node."""
        return dict(Counter(self._datatype(name) for name in nodes).most_common())

    def _datatype(self, node: str) -> str:
        named = [layer for layer in self.layers if node in layer.onnx and layer.inputs]
        chosen = next((layer for layer in named if layer.type != _GENERATED), named[0] if named else None)
        return chosen.inputs[0] if chosen else "unknown"


def inspected(messages: Sequence[str]) -> Inspected | None:
    """Read the last description among the logged messages; None if there is none."""
    text = next((message for message in reversed(messages) if "LayerType: " in message), None)
    if text is None:
        return None
    tensors = list(_TENSOR.finditer(text))
    return Inspected(
        layers=tuple(_layer(found) for found in _LAYER.finditer(text)),
        inputs=tuple(_tensor(found) for found in tensors if found["mode"] == "Input"),
        outputs=tuple(_tensor(found) for found in tensors if found["mode"] == "Output"),
    )


def _layer(found: re.Match[str]) -> Layer:
    return Layer(
        name=found["name"],
        type=found["type"],
        inputs=_datatypes(found["inputs"]),
        outputs=_datatypes(found["outputs"]),
        onnx=tuple(_ONNX.findall(found["metadata"])),
    )


def _tensor(found: re.Match[str]) -> Tensor:
    profile = tuple(_shape(found[key]) for key in ("min", "opt", "max") if found[key] is not None)
    return Tensor(
        name=found["name"],
        dtype=_NUMPY.get(found["dtype"], found["dtype"]),
        shape=_shape(found["shape"]),
        profile=profile,
    )


def _datatypes(text: str) -> tuple[str, ...]:
    return tuple(_NUMPY.get(name, name) for name in _DATATYPE.findall(text))


def _shape(text: str) -> tuple[int, ...]:
    return tuple(int(size) for size in text.split(",") if size)
