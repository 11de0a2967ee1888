"""AWQ with llm-compressor on a tiny Llama: what the compressed-tensors checkpoint means, and refusals."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from stages._quantized import floats, quantization
from stages.base import Artifact, Refused
from stages.quantize_awq import QuantizeAwq
from tests.toolchain.gptq.tiny_text import calibration, make, run

FIRST = "model.layers.0"
SMALL = QuantizeAwq(backend="llmcompressor", group_size=32, windows=8, window=32)


@pytest.fixture(scope="module")
def hf(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """Every fourth input of the first layer has larger weights."""
    made = make(tmp_path_factory.mktemp("tiny") / "hf", width=128)
    tensors = load_file(made.path / "model.safetensors")
    for part in "qkv":
        tensors[f"{FIRST}.self_attn.{part}_proj.weight"][:, ::4] *= 8
    save_file(tensors, made.path / "model.safetensors", metadata={"format": "pt"})
    return made


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return calibration(tmp_path_factory.mktemp("text") / "text")


@pytest.mark.parametrize("symmetric", [True, False])
def test_the_checkpoint_keeps_the_model(hf: Artifact, text: Artifact, tmp_path: Path, symmetric: bool) -> None:
    made, produced = run(SMALL.model_copy(update={"symmetric": symmetric}), hf, tmp_path / "awq", calibration=text)
    how, before = quantization(made.path), load_file(hf.path / "model.safetensors")
    assert how is not None
    assert (how.method, how.bits, how.group_size, how.symmetric) == ("compressed-tensors", 4, 32, symmetric)
    after = dict(floats(made.path, how))
    was, now = (
        np.asarray(of[f"{FIRST}.self_attn.q_proj.weight"]) * np.asarray(of[f"{FIRST}.input_layernorm.weight"])
        for of in (before, after)
    )

    assert np.abs(now - was).mean() < 0.25 * np.abs(was).mean()
    assert 4.5 <= float(str(produced.facts["bits_a_weight"])) < 4.7


def test_a_group_size_that_does_not_divide_a_layer_is_refused_by_its_name(
    hf: Artifact, text: Artifact, tmp_path: Path
) -> None:
    with pytest.raises(Refused, match=r"groups of 48 do not divide"):
        run(SMALL.model_copy(update={"group_size": 48}), hf, tmp_path / "awq", calibration=text)
