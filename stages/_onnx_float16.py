"""float16 weights and arithmetic in an ONNX model whose inputs and outputs stay float32."""

from __future__ import annotations

from typing import Any


def halved(model: Any, keep: tuple[str, ...] = ()) -> Any:
    """The model in float16; nodes and operators named in `keep` stay float32."""
    from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16

    names = {node.name for node in model.graph.node}
    return convert_float_to_float16(
        model,
        keep_io_types=True,
        op_block_list=[*DEFAULT_OP_BLOCK_LIST, *(each for each in keep if each not in names)],
        node_block_list=[each for each in keep if each in names],
    )
