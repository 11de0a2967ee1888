"""An ONNX model on disk: reading it with every doubt settled, writing it, and what is known of it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import JsonValue

from stages.base import Refused

NAME, EXTERNAL = "model.onnx", "model.onnx.data"
LARGEST_MESSAGE = 2**31 - 1  # bytes, of any protobuf message
_STANDARD = ("", "ai.onnx", "ai.onnx.ml")
_MICROSOFT = "com.microsoft"


def find(folder: Path) -> Path:
    """The one .onnx file of a folder.

    Raises:
        Refused: there is none, or more than one and none is called model.onnx.
    """
    files = sorted(folder.glob("*.onnx"))
    if (folder / NAME).is_file():
        return folder / NAME
    if len(files) != 1:
        raise Refused(f"{len(files)} .onnx files in the model's folder", f"keep one, or call one {NAME}")
    return files[0]


def read(folder: Path) -> Any:
    """The ModelProto with its external data in memory.

    Raises:
        Refused: damaged, without its external data, with an operator nobody knows, or with weights that are NaN.
    """
    import onnx
    from google.protobuf.message import DecodeError

    file = find(folder)
    try:
        model = onnx.load(str(file))
    except DecodeError as error:
        raise Refused(f"{file.name} is no ONNX file, or truncated: {error}", "export or fetch it again") from error
    except (onnx.checker.ValidationError, FileNotFoundError, ValueError) as error:
        raise Refused(f"{file.name}: external data: {error}", "keep the data files beside the .onnx file") from error
    if not model.graph.node or not model.opset_import:
        raise Refused(f"{file.name} holds no graph", "export or fetch it again")
    _refuse_unknown_operators(file.name, model)
    _refuse_not_finite(file.name, model)
    return model


def write(model: Any, folder: Path) -> Path:
    """Save as model.onnx; a model that no single file can hold gets its weights beside it."""
    import onnx

    file = folder / NAME
    onnx.save_model(model, str(file), save_as_external_data=size_bytes(model) > LARGEST_MESSAGE // 2, location=EXTERNAL)
    return file


def size_bytes(model: Any) -> int:
    """Bytes of the weights, which are all but all of the model."""
    return sum(len(tensor.raw_data) or tensor.ByteSize() for tensor in model.graph.initializer)


def refuse_too_large(model: Any, what: str) -> None:
    """Optimizers hand a model on as one message."""
    if size_bytes(model) > LARGEST_MESSAGE // 2:
        raise Refused(
            f"{size_bytes(model) / 1e9:.1f} GB of weights are too many for {what}: it passes the model on whole, "
            "and a protobuf message ends at 2 GB",
            f"leave `{what}` out",
        )


def opset(model: Any) -> int:
    """The version of the standard operators."""
    return next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 1)


def operators(model: Any) -> dict[str, int]:
    """Nodes by operator, most frequent first."""
    counted = Counter(node.op_type for node in model.graph.node)
    return dict(sorted(counted.items(), key=lambda entry: (-entry[1], entry[0])))


def precision_of(model: Any) -> str:
    """int8 where anything is quantized, float16 where most weights are, else float32."""
    import onnx

    if any("quantize" in node.op_type.lower() or node.op_type.endswith("Integer") for node in model.graph.node):
        return "int8"
    kinds = Counter({onnx.TensorProto.FLOAT: 0})
    for tensor in model.graph.initializer:
        kinds[tensor.data_type] += math.prod(tensor.dims)
    return "float16" if kinds[onnx.TensorProto.FLOAT16] > kinds[onnx.TensorProto.FLOAT] else "float32"


def graph_facts(model: Any, precision: str) -> dict[str, JsonValue]:
    """What an `onnx` artifact says of itself."""
    fed = {tensor.name for tensor in model.graph.initializer}
    return {
        "opset": opset(model),
        "precision": precision,
        "inputs": {value.name: _described(value) for value in model.graph.input if value.name not in fed},
        "outputs": {value.name: _described(value) for value in model.graph.output},
        "operators": {**operators(model)},
    }


def _described(value: Any) -> dict[str, JsonValue]:
    import onnx

    kind = value.type.tensor_type
    shape: list[JsonValue] = [
        each.dim_param or (each.dim_value if each.HasField("dim_value") else None) for each in kind.shape.dim
    ]
    return {"shape": shape, "dtype": onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type).name}


def _refuse_unknown_operators(file: str, model: Any) -> None:
    versions = {entry.domain: entry.version for entry in model.opset_import}
    own = {(function.domain, function.name) for function in model.functions}
    for node in _nodes(model.graph):
        if (node.domain, node.op_type) in own or node.domain.startswith(_MICROSOFT):
            continue
        if node.domain not in _STANDARD:
            raise Refused(
                f"{file}: node `{node.name}` is a custom operator, {node.domain}::{node.op_type}",
                "export the model with standard operators; the code of a custom one is not in the file",
            )
        _refuse_unknown(file, node, versions.get(node.domain, versions.get("ai.onnx", 1)))


def _refuse_unknown(file: str, node: Any, version: int) -> None:
    import onnx

    domain = "" if node.domain == "ai.onnx" else node.domain
    if onnx.defs.has(node.op_type, max_inclusive_version=version, domain=domain):
        return
    since = [
        schema.since_version
        for schema in onnx.defs.get_all_schemas_with_history()
        if (schema.name, schema.domain) == (node.op_type, domain)
    ]
    hint = f"opset {min(since)} has it: export with that" if since else "no opset has it"
    raise Refused(f"{file}: node `{node.name}`: opset {version} has no operator {node.op_type}", hint)


def _nodes(graph: Any) -> Iterator[Any]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in [attribute.g] if attribute.HasField("g") else attribute.graphs:
                yield from _nodes(inner)


def _refuse_not_finite(file: str, model: Any) -> None:
    import numpy as np
    import onnx

    floating = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE)
    held = [(tensor.name, tensor) for tensor in model.graph.initializer]
    for node in model.graph.node:
        held += [
            (node.output[0], each.t) for each in node.attribute if node.op_type == "Constant" and each.name == "value"
        ]
    for name, tensor in held:
        # infinity stands in attention masks
        if tensor.data_type in floating and np.isnan(onnx.numpy_helper.to_array(tensor)).any():
            raise Refused(f"{file}: the weights `{name}` hold NaN", "train or export the model again")
