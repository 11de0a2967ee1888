"""The messages of a model server graph, as far as a bundle writes them, by their names and numbers upstream.

mediapipe/framework/calculator.proto and stream_handler/sync_set_input_stream_handler.proto of MediaPipe,
src/llm/llm_calculator.proto of OpenVINO Model Server.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import any_pb2, descriptor_pb2, descriptor_pool, message_factory, text_format

F = descriptor_pb2.FieldDescriptorProto
STRING, BOOL, UINT64, MESSAGE = F.TYPE_STRING, F.TYPE_BOOL, F.TYPE_UINT64, F.TYPE_MESSAGE
ANY = ".google.protobuf.Any"
Fields = list[tuple[str, int, Any, str | None, bool]]


def _message(name: str, fields: Fields, extensible: bool = False) -> descriptor_pb2.DescriptorProto:
    made = descriptor_pb2.DescriptorProto(name=name)
    for field, number, kind, of, repeated in fields:
        label = F.LABEL_REPEATED if repeated else F.LABEL_OPTIONAL
        made.field.add(name=field, number=number, type=kind, label=label, type_name=of)
    if extensible:
        made.extension_range.add(start=20000, end=536870912)
    return made


def _file() -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(name="graph.proto", package="mediapipe", syntax="proto2")
    file.dependency.append("google/protobuf/any.proto")
    text = lambda name, number: (name, number, STRING, None, True)  # noqa: E731
    one = lambda name, number, kind, of=None: (name, number, kind, of, False)  # noqa: E731
    info = [one("tag_index", 1, STRING), one("back_edge", 2, BOOL)]
    handler = [one("input_stream_handler", 1, STRING), one("options", 3, MESSAGE, ".mediapipe.MediaPipeOptions")]
    node = [
        one("name", 1, STRING), one("calculator", 2, STRING), text("input_stream", 3), text("output_stream", 4),
        text("input_side_packet", 5), ("node_options", 8, MESSAGE, ANY, True),
        one("input_stream_handler", 11, MESSAGE, ".mediapipe.InputStreamHandlerConfig"),
        ("input_stream_info", 13, MESSAGE, ".mediapipe.InputStreamInfo", True),
    ]  # fmt: skip
    options = [
        one("models_path", 1, STRING), one("max_num_batched_tokens", 2, UINT64), one("cache_size", 3, UINT64),
        one("max_num_seqs", 4, UINT64), one("dynamic_split_fuse", 5, BOOL), one("device", 6, STRING),
        one("plugin_config", 7, STRING), one("enable_prefix_caching", 10, BOOL),
    ]  # fmt: skip
    graph = [("node", 1, MESSAGE, ".mediapipe.Node", True), text("input_stream", 10), text("output_stream", 15)]
    file.message_type.extend(
        [
            _message("MediaPipeOptions", [], extensible=True),
            _message("SyncSet", [text("tag_index", 1)]),
            _message("SyncSetInputStreamHandlerOptions", [("sync_set", 1, MESSAGE, ".mediapipe.SyncSet", True)]),
            _message("InputStreamInfo", info),
            _message("InputStreamHandlerConfig", handler),
            _message("LLMCalculatorOptions", options),
            _message("Node", node),
            _message("CalculatorGraphConfig", graph),
        ]
    )
    handler_options = next(each for each in file.message_type if each.name == "SyncSetInputStreamHandlerOptions")
    handler_options.extension.add(
        name="ext", number=23453001, label=F.LABEL_OPTIONAL, type=MESSAGE, extendee=".mediapipe.MediaPipeOptions",
        type_name=".mediapipe.SyncSetInputStreamHandlerOptions",
    )  # fmt: skip
    return file


def parsed(text: str) -> tuple[Any, Any]:
    """The graph, and its one node's LLMCalculatorOptions; raises for a name or a type that upstream has not."""
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(any_pb2.DESCRIPTOR.serialized_pb)
    pool.Add(_file())
    kinds = message_factory.GetMessageClassesForFiles(["graph.proto"], pool)
    graph = text_format.Parse(text, kinds["mediapipe.CalculatorGraphConfig"](), descriptor_pool=pool)
    options = kinds["mediapipe.LLMCalculatorOptions"]()
    assert options.ParseFromString(graph.node[0].node_options[0].value)
    return graph, options
