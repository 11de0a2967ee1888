"""Bits a weight are counted from the headers of each format, scales and zero points included."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from onnx_bytes import model, node, tensor

from pipelines.weighing.bits import bits_a_weight
from stages.base import ROOT, Artifact

sys.path.append(str(ROOT / "tests/unit/stages"))
from gguf_bytes import gguf_bytes

FLOAT, FLOAT16, UINT8, INT64 = 1, 10, 2, 7


def artifact(kind: str, path: Path) -> Artifact:
    return Artifact(kind=kind, path=path, digest="0")


def checkpoint(folder: Path, tensors: dict[str, tuple[str, list[int], int]], **quantization: object) -> Artifact:
    """A Hugging Face folder of headers: type, shape and bytes of each tensor."""
    header = {name: {"dtype": d, "shape": s, "data_offsets": [0, size]} for name, (d, s, size) in tensors.items()}
    head = json.dumps({"__metadata__": {"format": "pt"}, **header}).encode()
    (folder / "model.safetensors").write_bytes(len(head).to_bytes(8, "little") + head)
    (folder / "config.json").write_text(json.dumps({"quantization_config": quantization} if quantization else {}))
    return artifact("hf", folder)


def test_a_gguf_weighs_what_its_tensor_types_hold(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(gguf_bytes())

    assert bits_a_weight(artifact("gguf", tmp_path)) == 32


def test_a_checkpoint_in_floats_weighs_what_its_type_holds(tmp_path: Path) -> None:
    assert bits_a_weight(checkpoint(tmp_path, {"w": ("F16", [4, 8], 64), "norm": ("F32", [8], 32)})) == 8 * 96 / 40


def test_gptq_words_stand_for_their_codes_and_scales_for_nothing(tmp_path: Path) -> None:
    tensors = {
        "up.qweight": ("I32", [8, 32], 1024),  # 64 inputs of 4 bits, 32 outputs
        "up.scales": ("F16", [1, 32], 64),
        "up.qzeros": ("I32", [1, 4], 16),
        "up.g_idx": ("I32", [64], 256),
        "norm.weight": ("F16", [32], 64),
    }
    made = checkpoint(tmp_path, tensors, quant_method="gptq", bits=4, group_size=64, sym=True)

    assert bits_a_weight(made) == 8 * (1024 + 64 + 16 + 256 + 64) / (64 * 32 + 32)


def test_an_onnx_language_model_counts_packed_inputs_by_their_shape(tmp_path: Path) -> None:
    graph = model(
        tensor("w", UINT8, 32, 1, 32),  # 32 outputs, a block of 64 inputs, two a byte
        tensor("w_scales", FLOAT, 32),
        tensor("embedding", FLOAT16, 100, 64, packed=True),
        tensor("cos_cache", FLOAT, 128, 8),
        tensor("shape", INT64, 4),
        node("MatMulNBits", ["x", "w", "w_scales"], K=64, N=32, bits=4),
        node("Gather", ["embedding", "ids"]),
    )
    (tmp_path / "model.onnx").write_bytes(graph)

    bits = 4 * 64 * 32 + 32 * 32 + 16 * 6400
    assert bits_a_weight(artifact("onnx_llm", tmp_path)) == bits / (64 * 32 + 6400)


def test_a_head_that_is_the_embedding_too_counts_once(tmp_path: Path) -> None:
    graph = model(
        tensor("head", UINT8, 96, 2, 32),  # 8 bits: 96 tokens, two blocks of 32
        tensor("head_scales", FLOAT, 96, 2),
        node("Reshape", ["head", "shape"]),
        node("GatherBlockQuantized", ["reshaped", "ids", "head_scales"], bits=8),
        node("MatMulNBits", ["x", "head", "head_scales"], K=64, N=96, bits=8),
    )
    (tmp_path / "model.onnx").write_bytes(graph)

    assert bits_a_weight(artifact("onnx_llm", tmp_path)) == 8 + 32 / 32


def test_quantize_dequantize_pairs_count_the_integers(tmp_path: Path) -> None:
    graph = model(
        tensor("w", 3, 10, 10),
        tensor("s", FLOAT, 10),
        tensor("z", 3, 10),
        node("DequantizeLinear", ["w", "s", "z"]),
    )
    (tmp_path / "model.onnx").write_bytes(graph)

    assert bits_a_weight(artifact("onnx", tmp_path)) == (800 + 320 + 80) / 100


def test_an_openvino_model_counts_constants_without_shapes_and_tokenizer(tmp_path: Path) -> None:
    layers = [
        ("w_compressed", "i4", "8, 2, 64"),
        ("w_compressed/scale", "f16", "8, 2, 1"),
        ("w_lora_A", "i8", "8, 128"),  # of LoRA correction: it stands for no weight of the model
        ("norm", "f16", "1, 1, 128"),
        ("axis", "i64", "2"),
        ("epsilon", "f32", "1"),
    ]
    xml = "".join(
        f'<layer name="{name}" type="Const"><data element_type="{kind}" shape="{shape}"/></layer>'
        for name, kind, shape in layers
    )
    (tmp_path / "openvino_model.xml").write_text(f"<net><layers>{xml}</layers></net>")
    (tmp_path / "openvino_tokenizer.xml").write_text("not looked at")

    assert bits_a_weight(artifact("openvino_llm", tmp_path)) == (4 * 1024 + 16 * 16 + 8 * 1024 + 16 * 128) / (
        1024 + 128
    )


@pytest.mark.parametrize(
    ("kind", "file"), [("onnx", "model.onnx"), ("openvino", "model.xml"), ("gguf", "model.gguf"), ("hf", "config.json")]
)
def test_a_damaged_file_has_no_figure(tmp_path: Path, kind: str, file: str) -> None:
    (tmp_path / file).write_bytes(b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff")

    assert bits_a_weight(artifact(kind, tmp_path)) is None


def test_what_holds_no_weights_has_no_figure(tmp_path: Path) -> None:
    assert bits_a_weight(artifact("text", tmp_path)) is None
