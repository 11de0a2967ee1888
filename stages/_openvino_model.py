"""An OpenVINO model on disk: reading it out of ONNX or its own format, writing it, and what is known of it."""

from __future__ import annotations

from collections import Counter
from math import prod
from pathlib import Path
from typing import Any

from pydantic import JsonValue

from stages import _onnx_file
from stages._openvino_runtime import gist, not_converted, toolkit, version
from stages.base import Artifact, Refused

KIND, NAME, WEIGHTS = "openvino", "openvino.xml", "openvino.bin"
_PLUMBING = frozenset({"Constant", "Parameter", "Result", "FakeQuantize", "Convert"})
_LAYERS = frozenset(
    {"Convolution", "GroupConvolution", "ConvolutionBackpropData", "MatMul", "LSTMSequence", "GRUSequence"}
)
# they pass quantized values on as they are
_PASSING = frozenset({"MaxPool", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Concat", "Split", "VariadicSplit"})


def read(artifact: Artifact) -> Any:
    """The model of an `onnx` or `openvino` artifact as an openvino.Model.

    Raises:
        Refused: damaged, with weights that are NaN, or with an operator that OpenVINO lacks.
    """
    return _read_ir(artifact.path) if artifact.kind == KIND else _converted(artifact.path)


def write(model: Any, folder: Path, half: bool = False) -> Path:
    """Save as openvino.xml and openvino.bin; `half` keeps float weights in 16 bits."""
    file = folder / NAME
    toolkit().save_model(model, str(file), compress_to_fp16=half)
    return file


def _read_ir(folder: Path) -> Any:
    file = folder / NAME
    lacking = [name for name in (NAME, WEIGHTS) if not (folder / name).is_file()]
    if lacking:
        raise Refused(f"the model's folder holds no {' and no '.join(lacking)}", "an OpenVINO model is both files")
    try:
        return toolkit().Core().read_model(str(file))
    except RuntimeError as error:
        raise Refused(
            f"OpenVINO {version()} cannot read {NAME}: {gist(str(error))}", "make the model again, it is damaged"
        ) from error


def _converted(folder: Path) -> Any:
    openvino = toolkit()
    from openvino.tools.ovc.error import Error

    said = openvino.frontend
    failures = (said.OpConversionFailure, said.GeneralFailure, said.OpValidationFailure, said.NotImplementedFailure)
    proto = _onnx_file.read(folder)  # names what is wrong better than OpenVINO does, and sees NaN
    file = _onnx_file.find(folder)
    nodes = {node.op_type: node.name or node.output[0] for node in reversed(proto.graph.node)}
    try:
        return openvino.convert_model(str(file))
    except (*failures, Error, RuntimeError) as error:
        raise not_converted(file, str(error), nodes) from error


def model_facts(model: Any) -> dict[str, JsonValue]:
    """What an `openvino` artifact says of itself."""
    counted = Counter(each.get_type_name() for each in model.get_ops())
    operators = {name: counted[name] for name in sorted(counted) if name not in _PLUMBING - {"FakeQuantize"}}
    return {
        "precision": precision(model),
        "inputs": {tensor_name(port): _described(port) for port in model.inputs},
        "outputs": {tensor_name(port): _described(port) for port in model.outputs},
        "operators": {**operators},
        "openvino": version(),
    }


def tensor_name(port: Any) -> str:
    """The name a tensor is fed or read by; that of its node where the model gives it none."""
    return str(port.get_any_name()) if port.get_names() else str(port.get_node().get_friendly_name())


def precision(model: Any) -> str:
    """`int8` with quantized activations, `int8_weights` or `int4_weights` with weights alone, else the weights' own."""
    types = Counter[str]()
    for each in model.get_ops():
        kind = each.get_type_name()
        types["FakeQuantize"] += kind == "FakeQuantize"
        if kind == "Constant":
            types[each.get_element_type().get_type_name()] += prod(each.get_output_shape(0))
    if types["FakeQuantize"]:
        return "int8"
    if types["i4"] + types["u4"] > types["f32"] + types["f16"]:
        return "int4_weights"
    if types["i8"] + types["u8"] > types["f32"] + types["f16"]:
        return "int8_weights"
    return "float16" if types["f16"] > types["f32"] else "float32"


def quantized_operators(model: Any) -> tuple[dict[str, int], dict[str, int]]:
    """Operators that read quantized values, and those that compute in float; those that only move values are left out.

    Returns:
        Two counts by operator.
    """
    quantized, floats = Counter[str](), Counter[str]()
    for each in model.get_ordered_ops():
        kind = each.get_type_name()
        if kind in _PLUMBING | _PASSING or _constant(each):
            continue
        (quantized if each.get_input_size() and _reads_quantized(each) else floats)[kind] += 1
    return dict(sorted(quantized.items())), dict(sorted(floats.items()))


def float_layers(model: Any) -> list[str]:
    """Names of the layers with weights, or with two inputs to multiply, that compute in float."""
    layers = [each for each in model.get_ordered_ops() if each.get_type_name() in _LAYERS]
    return [each.get_friendly_name() for each in layers if not _reads_quantized(each)]


def _reads_quantized(node: Any) -> bool:
    source = node.input_value(0).get_node()
    while source.get_type_name() in _PASSING:
        source = source.input_value(0).get_node()
    return bool(source.get_type_name() == "FakeQuantize")


def _constant(node: Any) -> bool:
    """Whether the node works on weights alone: it de-quantizes them."""
    if node.get_type_name() == "Constant":
        return True
    sources = [node.input_value(index).get_node() for index in range(node.get_input_size())]
    return bool(sources) and all(map(_constant, sources))


def _described(port: Any) -> dict[str, JsonValue]:
    dimensions = list(port.get_partial_shape())
    shape: list[JsonValue] = [
        each.get_length() if each.is_static else ("batch" if index == 0 else None)
        for index, each in enumerate(dimensions)
    ]
    return {"shape": shape, "dtype": str(port.get_element_type().to_dtype())}
