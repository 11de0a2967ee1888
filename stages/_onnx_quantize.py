"""ONNX Runtime's quantizers, each from a prepared file to a ModelProto."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import JsonValue

from stages._onnx_file import opset, write
from stages._onnx_float_layers import kept_float
from stages._onnx_graph import Graph, lifted
from stages.base import Refused

_PER_CHANNEL_OPSET = 13  # before it, DequantizeLinear has no axis
_WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_INTEGER = ("MatMulNBits", "QAttention", "GatherBlockQuantized", "DynamicQuantizeLSTM")
_CONVERSIONS = ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "Cast", "Mul")


def prepared(graph: Graph, scratch: Path) -> Path:
    """The graph with weights as initializers, shapes inferred, and an opset that quantizers can write.

    Weights in Constant nodes would be left out in silence, and the model broken: 15% accuracy, no error.

    Raises:
        Refused: the opset is too old and cannot be converted.
    """
    import onnx
    from onnxruntime.quantization.shape_inference import quant_pre_process

    if opset(graph.model) < _PER_CHANNEL_OPSET:
        try:
            graph = Graph(onnx.version_converter.convert_version(graph.model, _PER_CHANNEL_OPSET))
        except (RuntimeError, ValueError) as error:
            raise Refused(
                f"opset {opset(graph.model)} is too old, and cannot be converted to {_PER_CHANNEL_OPSET}: {error}",
                f"export with opset {_PER_CHANNEL_OPSET} or later",
            ) from error
    ready = scratch / "prepared"
    ready.mkdir()
    quant_pre_process(write(graph.model, scratch), ready / "model.onnx", skip_symbolic_shape=True)
    made = onnx.load(str(ready / "model.onnx"))
    lifted(made)
    return write(made, ready)


def excluded(model: Any, exclude: Sequence[str]) -> list[str]:
    """The nodes that `exclude` names, by their own names or by operator.

    Raises:
        Refused: it names neither.
    """
    names, kinds = {node.name for node in model.graph.node}, {node.op_type for node in model.graph.node}
    for wanted in exclude:
        if wanted not in names | kinds:
            near = difflib.get_close_matches(wanted, sorted(names | kinds), 3, 0.4)
            raise Refused(
                f"`exclude` names `{wanted}`, which is neither a node nor an operator of the model",
                f"did you mean {' or '.join(f'`{each}`' for each in near)}?"
                if near
                else f"it has {', '.join(sorted(kinds))}",
            )
    return [node.name for node in model.graph.node if node.name in exclude or node.op_type in exclude]


def static(
    file: Path, found: Any, exclude: list[str], per_channel: bool, symmetric: bool, reduce_range: bool = False
) -> Any:
    """INT8 with the given activation ranges: uint8 activations, or int8 around 0, and int8 weights around 0, in QDQ."""
    import onnx
    from onnxruntime.quantization import QuantType
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
    from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

    quantizer = QDQQuantizer(
        onnx.shape_inference.infer_shapes(onnx.load(str(file))),
        per_channel,
        reduce_range,
        QuantType.QInt8,
        QuantType.QInt8 if symmetric else QuantType.QUInt8,
        found,
        [],
        exclude,
        sorted({*QDQRegistry, *QLinearOpsRegistry}),
        {"ActivationSymmetric": symmetric},
    )
    quantizer.quantize_model()
    quantizer.model.topological_sort()
    return kept_float(quantizer.model.model)


def dynamic(file: Path, exclude: list[str], per_channel: bool, reduce_range: bool = False) -> Any:
    """INT8 with a range taken of each input as it comes: no calibration.

    Convolutions stay float: their dynamic form has one scale for all of a weight, and 15% accuracy was left of 80%.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.quantization.registry import IntegerOpsRegistry

    made = file.with_name("dynamic.onnx")
    operators = sorted({*IntegerOpsRegistry} - {"Conv"})
    quantize_dynamic(
        file,
        made,
        operators,
        per_channel=per_channel,
        reduce_range=reduce_range,
        weight_type=QuantType.QInt8,
        nodes_to_exclude=exclude,
    )
    return onnx.load(str(made))


def int4(file: Path, exclude: list[str], block: int) -> Any:
    """4-bit weights of MatMul, a scale for each block of them; activations stay float."""
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    quantizer = MatMulNBitsQuantizer(str(file), block_size=block, is_symmetric=True, nodes_to_exclude=exclude)
    quantizer.process()
    return quantizer.model.model


def counted(model: Any) -> dict[str, JsonValue]:
    """How many nodes are computed from quantized values, and which are left in float, by operator."""
    produced = {name: node.op_type for node in model.graph.node for name in node.output}
    weights = {tensor.name for tensor in model.graph.initializer}
    quantized, left = 0, []
    for node in model.graph.node:
        from_integers = bool(node.input) and produced.get(node.input[0]) == "DequantizeLinear"
        from_integers &= node.op_type not in _WEIGHTED or node.input[1] not in weights
        if from_integers or node.op_type.endswith("Integer") or node.op_type in _INTEGER:
            quantized += node.op_type not in _CONVERSIONS
        elif node.op_type not in _CONVERSIONS:
            left.append(f"{node.name or node.output[0]} ({node.op_type})")
    return {"quantized_nodes": quantized, "float_nodes": list(left)}
