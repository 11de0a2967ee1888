"""config.pbtxt as Triton reads it, by the message that its own client brings."""

from __future__ import annotations

from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import DataType, ModelConfig, ModelInstanceGroup


def read(text: str) -> ModelConfig:
    """Raises text_format.ParseError for a field, an enumeration or a type that Triton does not have."""
    return text_format.Parse(text, ModelConfig())


def tensors(declared: object) -> dict[str, tuple[str, list[int]]]:
    """Datatype and dims of a config's `input` or `output`, by the tensor's name."""
    return {each.name: (DataType.Name(each.data_type), list(each.dims)) for each in declared}  # type: ignore[attr-defined]


def kinds(config: ModelConfig) -> list[str]:
    """What each group of instances runs on."""
    return [ModelInstanceGroup.Kind.Name(group.kind) for group in config.instance_group]
