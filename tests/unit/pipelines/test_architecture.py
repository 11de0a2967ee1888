"""A checkpoint of another architecture than its config's model is refused with every difference."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from commanding import Command, home, tapeout
from onnx_bytes import message, model, node, number, tensor

from configs import RIGHT
from pipelines.config import LoadedConfig
from pipelines.errors import SourceError
from pipelines.parsing import parse
from pipelines.watching.architecture import check_architecture
from pipelines.watching.content import digest_of
from pipelines.watching.ledger import Ledger

__all__ = ["home", "tapeout"]

WAY_OUT = "give it a config of its own, or let `source:` name a model of the new architecture"


def value(field: int, name: str, *dims: int) -> bytes:
    """An input (field 11) or output (12); a dimension of 0 is not fixed."""
    shape = message(2, *(message(1, *([number(1, size)] if size else [message(2, b"batch")])) for size in dims))
    return message(field, message(1, name.encode()), message(2, message(1, number(1, 1), shape)))


def onnx(path: Path, classes: int = 10, side: int = 8, weight: int = 64) -> Path:
    parts = [tensor("w", 1, weight, classes), node("Gemm", ["image", "w"])]
    listed = [value(11, "image", 0, 1, side, side), value(11, "w", weight, classes), value(12, "logits", 0, classes)]
    path.write_bytes(model(*parts, *listed))
    return path


def hf(folder: Path, **settings: object) -> Path:
    folder.mkdir()
    known = {"architectures": ["LlamaForCausalLM"], "hidden_size": 64, "num_hidden_layers": 2, "torch_dtype": "float32"}
    (folder / "config.json").write_text(json.dumps({**known, **settings}))
    header = json.dumps({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    return folder


def config(folder: Path, source: Path, checkpoint: Path) -> tuple[LoadedConfig, LoadedConfig]:
    file = folder / "a.yaml"
    file.write_text(RIGHT.replace("model.gguf", source.name))
    return parse(file), parse(file, (f"source={{path: {checkpoint}}}",))


def refused(folder: Path, source: Path, checkpoint: Path) -> str:
    with pytest.raises(SourceError) as caught:
        check_architecture(*config(folder, source, checkpoint))
    assert caught.value.hint == WAY_OUT
    return caught.value.message.replace(f"{folder}/", "")


def test_onnx_checkpoint_with_other_inputs_and_outputs_is_refused(tmp_path: Path) -> None:
    own, other = onnx(tmp_path / "own.onnx"), onnx(tmp_path / "new.onnx", classes=100, side=16)

    assert refused(tmp_path, own, other) == (
        "new.onnx: another architecture than own.onnx, the config's model: "
        "input `image` is ?x1x16x16, not ?x1x8x8; output `logits` is ?x100, not ?x10"
    )


def test_onnx_checkpoint_with_other_weights_is_of_the_architecture(tmp_path: Path) -> None:
    own, other = onnx(tmp_path / "own.onnx"), onnx(tmp_path / "new.onnx", weight=32)

    check_architecture(*config(tmp_path, own, other))


def test_hugging_face_checkpoint_of_another_name_or_size_is_refused(tmp_path: Path) -> None:
    own = hf(tmp_path / "own")
    other = hf(tmp_path / "new", architectures=["GPT2LMHeadModel"], num_hidden_layers=3)

    assert refused(tmp_path, own, other) == (
        "new: another architecture than own, the config's model: "
        "architecture is GPT2LMHeadModel, not LlamaForCausalLM; num_hidden_layers is 3, not 2"
    )
    check_architecture(*config(tmp_path, own, hf(tmp_path / "retrained", torch_dtype="bfloat16")))


def test_checkpoint_in_another_format_is_refused(tmp_path: Path) -> None:
    assert refused(tmp_path, hf(tmp_path / "own"), onnx(tmp_path / "new.onnx")).startswith(
        "new.onnx: another architecture than own, the config's model: architecture is not there, not LlamaForCausalLM"
    )


def test_config_whose_own_model_is_gone_takes_what_lands(tmp_path: Path) -> None:
    check_architecture(*config(tmp_path, tmp_path / "gone.onnx", onnx(tmp_path / "new.onnx")))


def test_refusal_is_the_checkpoints_reason(tapeout: Command, home: Path, tmp_path: Path) -> None:
    own, other = onnx(tmp_path / "own.onnx"), onnx(tmp_path / "new.onnx", classes=100)
    loaded, _ = config(tmp_path, own, other)
    ledger = Ledger(home, loaded.config.name)
    digest = digest_of(other, None)
    ledger.add(digest, "new.onnx", (f"source={{path: {other}}}",))

    ended = tapeout("run", loaded.path, "--checkpoint", digest, "--no-mlflow", "--no-prefect")

    assert ended.code == 2
    assert "output `logits` is ?x100, not ?x10" in ended.err
    (known,) = ledger.all()
    assert known.open
    assert "another architecture than own.onnx" in known.reason
