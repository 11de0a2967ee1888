"""AWQ with llm-compressor on a tiny Llama: what the compressed-tensors checkpoint means, and refusals."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from stages._causal_lm import load_lm
from stages._quantized import quantization
from stages.base import Artifact, Refused
from stages.quantize_awq import QuantizeAwq
from stages.scale_channels import ScaleChannels
from tests.toolchain.gptq.tiny_text import calibration, changed, loud, make_uneven, run, spoilt

SMALL = QuantizeAwq(backend="llmcompressor", group_size=32, windows=8, window=32)


@pytest.fixture(scope="module")
def hf(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return make_uneven(tmp_path_factory.mktemp("tiny") / "hf")


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return calibration(tmp_path_factory.mktemp("text") / "text")


@pytest.mark.parametrize("symmetric", [True, False])
def test_the_checkpoint_keeps_the_model(hf: Artifact, text: Artifact, tmp_path: Path, symmetric: bool) -> None:
    made, produced = run(SMALL.model_copy(update={"symmetric": symmetric}), hf, tmp_path / "awq", calibration=text)

    how = quantization(made.path)
    assert how is not None
    assert (how.method, how.bits, how.group_size, how.symmetric) == ("compressed-tensors", 4, 32, symmetric)
    assert changed(hf, made) < 0.25
    assert 4.5 <= float(str(produced.facts["bits_a_weight"])) < 4.7


def test_a_group_size_that_does_not_divide_a_layer_is_refused_by_its_name(
    hf: Artifact, text: Artifact, tmp_path: Path
) -> None:
    with pytest.raises(Refused, match=r"groups of 48 do not divide"):
        run(SMALL.model_copy(update={"group_size": 48}), hf, tmp_path / "awq", calibration=text)


def test_scaled_channels_compute_what_they_did(hf: Artifact, text: Artifact, tmp_path: Path) -> None:
    made, produced = run(ScaleChannels(group_size=32, windows=8, window=32), hf, tmp_path / "scaled", calibration=text)

    before, after = (load_file(folder / "model.safetensors") for folder in (hf.path, made.path))
    assert before.keys() == after.keys()
    moved = [name for name in before if not torch.equal(before[name], after[name])]
    assert {name.split(".")[-2] for name in moved} >= {"input_layernorm", "q_proj", "k_proj", "v_proj", "down_proj"}
    tokens = torch.arange(48)[None]
    with torch.no_grad():
        was, now = (load_lm(folder, 1)(tokens).logits for folder in (hf.path, made.path))
    assert (now - was).abs().max() < 1e-4 * was.abs().max()
    assert produced.facts["calibration_tokens"] == 256


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e6])
def test_a_weight_that_is_not_finite_in_float16_is_named(
    hf: Artifact, text: Artifact, tmp_path: Path, value: float
) -> None:
    broken = spoilt(hf, tmp_path / "hf", "model.layers.1.mlp.up_proj.weight", value)

    with pytest.raises(Refused, match=r"^`model\.layers\.1\.mlp\.up_proj\.weight` holds NaN, infinity or"):
        run(SMALL, broken, tmp_path / "awq", calibration=text)


def test_a_layer_without_a_finite_loss_is_named(hf: Artifact, text: Artifact, tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"^`model\.layers\.1\.mlp\.\w+_proj`: no scale has a finite loss"):
        run(SMALL, loud(hf, tmp_path / "hf"), tmp_path / "awq", calibration=text)
