"""A block size that the builder cannot pack is refused before it runs, with those that it can."""

import json
from pathlib import Path

import pytest

from stages.base import Artifact, Context, Refused
from stages.build_onnx_llm import BuildOnnxLlm


def folder(path: Path, told: dict[str, object] | None = None, **shapes: list[int]) -> Artifact:
    """A Hugging Face folder with a safetensors header and no weights."""
    header = {name: {"dtype": "F32", "shape": shape, "data_offsets": [0, 0]} for name, shape in shapes.items()}
    head = json.dumps(header).encode()
    (path / "model.safetensors").write_bytes(len(head).to_bytes(8, "little") + head)
    (path / "config.json").write_text(json.dumps({"quantization_config": told} if told else {}))
    return Artifact(kind="hf", path=path, digest="0")


@pytest.mark.parametrize(
    "fields", [{"method": "k_quant"}, {"method": "k_quant", "symmetric": False}, {"symmetric": False}]
)
def test_an_odd_number_of_packed_zero_points_is_refused_with_the_sizes_that_work(
    tmp_path: Path, fields: dict[str, object]
) -> None:
    model = folder(tmp_path, norm=[576], q=[192, 576], down=[576, 1536])
    stage = BuildOnnxLlm.model_validate({"precision": "int4", "block_size": 64, **fields})

    with pytest.raises(Refused) as refused:
        stage.run(model, Context(out=tmp_path, scratch=tmp_path))

    assert refused.value.message == (
        "`block_size: 64` cuts the 576 inputs of `q` into 9 blocks: zero points of 4 bits are packed in pairs, and "
        "that number is odd"
    )
    assert refused.value.hint == (
        "`block_size: 16 or 32` divides every layer evenly; `method: rtn` with `symmetric: true` has no zero points"
    )


@pytest.mark.parametrize(
    "fields",
    [
        {"precision": "int4"},
        {"precision": "int4", "method": "k_quant", "block_size": 32},
        {"precision": "int8", "method": "k_quant"},
    ],
)
def test_what_has_no_pairs_of_zero_points_goes_to_the_builder(tmp_path: Path, fields: dict[str, object]) -> None:
    model = folder(tmp_path, q=[192, 576])

    with pytest.raises(ModuleNotFoundError, match="onnxruntime_genai"):
        BuildOnnxLlm.model_validate(fields).run(model, Context(out=tmp_path, scratch=tmp_path))


@pytest.mark.parametrize(
    ("told", "message"),
    [
        (
            {"quant_method": "gptq", "group_size": -1},
            "the checkpoint is quantized in groups of -1, and ONNX Runtime has none such",
        ),
        (
            {"quant_method": "gptq", "group_size": 32, "checkpoint_format": "gptq_v2"},
            "the checkpoint's `checkpoint_format` is gptq_v2, and onnxruntime-genai's builder reads it as gptq",
        ),
        (
            {"quant_method": "awq", "group_size": 32, "version": "gemv"},
            "the checkpoint's `version` is gemv, and onnxruntime-genai's builder reads it as gemm",
        ),
    ],
)
def test_a_checkpoint_that_the_builder_would_misread_is_refused(
    tmp_path: Path, told: dict[str, object], message: str
) -> None:
    model = folder(tmp_path, {"bits": 4, **told}, q=[192, 576])

    with pytest.raises(Refused) as refused:
        BuildOnnxLlm(precision="int4").run(model, Context(out=tmp_path, scratch=tmp_path))

    assert refused.value.message == message
