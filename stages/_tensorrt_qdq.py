"""The QDQ graph that TensorRT takes: ONNX Runtime's quantizer, with every option that TensorRT asks for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from stages._onnx_file import opset
from stages._onnx_quantize import excluded
from stages.base import Refused

WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
QUANTIZERS = ("QuantizeLinear", "DequantizeLinear")
SMALLEST_HALF_SCALE = 2.0**-20  # below, float16 rounds a scale by up to 3%, and to 0 from 2**-25 on


def quantized(source: Path, ranges: Any, nodes: list[str], per_channel: bool) -> Any:
    """The nodes' inputs and weights in QDQ pairs, with ONNX Runtime's TensorsData of ranges.

    No zero points, because TensorRT takes none (`shiftIsAllZeros(zeroPoint)`); biases stay float, because it takes no
    int32; an output stays float, because the ReLU behind it would not be fused otherwise.
    """
    import onnx
    from onnxruntime.quantization import QuantType
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

    options = {
        "ActivationSymmetric": True,
        "WeightSymmetric": True,
        "QuantizeBias": False,
        "OpTypesToExcludeOutputQuantization": list(WEIGHTED),
    }
    model, int8 = onnx.shape_inference.infer_shapes(onnx.load(str(source))), QuantType.QInt8
    quantizer = QDQQuantizer(model, per_channel, False, int8, int8, ranges, nodes, [], list(WEIGHTED), options)
    quantizer.quantize_model()
    return quantizer.model.model


def selected(model: Any, exclude: tuple[str, ...]) -> list[str]:
    """Names of the nodes to quantize: those with weights, but for the excluded names and operators.

    Raises:
        Refused: an excluded name is in the graph neither as a node nor as an operator, or nothing remains.
    """
    out = set(excluded(model, exclude))
    weighted = [node.name for node in model.graph.node if node.op_type in WEIGHTED]
    found = [name for name in weighted if name not in out]
    if not found:
        what = f"{len(weighted)} nodes with weights, all excluded" if weighted else "no node with weights"
        raise Refused(f"nothing to quantize: {what}", "INT8 is for " + ", ".join(WEIGHTED))
    return found


def with_opset(model: Any, least: int) -> Any:
    """The model with operators of at least that version.

    Raises:
        Refused: the onnx package cannot convert it.
    """
    from onnx.version_converter import ConvertError, convert_version

    if opset(model) >= least:
        return model
    try:
        return convert_version(model, least)
    except (ConvertError, RuntimeError) as error:
        what = " ".join(str(error).split())
        raise Refused(
            f"opset {opset(model)} cannot be converted to {least}: {what}", f"export with opset {least} or later"
        ) from error


def refuse_small_scales(model: Any) -> None:
    """Refuse scales that float16 cannot hold."""
    import onnx

    held = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type in QUANTIZERS and node.input[1] in held:
            least = float(np.min(onnx.numpy_helper.to_array(held[node.input[1]])))
            if least < SMALLEST_HALF_SCALE:
                raise Refused(
                    f"node `{node.name}` has a scale of {least:.2g}, too small for float16",
                    "exclude the node that takes it, or set `float_type: float32`",
                )
