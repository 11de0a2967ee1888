"""AWQ with GPTQModel on a tiny Llama: nearer to the model than rounding, read as GPTQModel reads it, refusals."""

from pathlib import Path

import numpy as np
import pytest
from gptqmodel.quantization.awq.utils.packing_utils import dequantize_gemm
from safetensors.torch import load_file
from test_gptq import off
from tiny_text import calibration, loud, make, run, spoilt

from stages._quantized import floats, quantization
from stages.base import Artifact, Refused
from stages.quantize_awq import QuantizeAwq
from stages.quantize_gptq import QuantizeGptq

SMALL = QuantizeAwq(group_size=32, windows=8, window=32)
LAYER = "model.layers.1.self_attn.q_proj"


@pytest.fixture(scope="module")
def hf(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return make(tmp_path_factory.mktemp("tiny") / "hf", width=128)


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return calibration(tmp_path_factory.mktemp("text") / "text")


def test_awq_is_nearer_to_the_model_than_rounding_to_nearest(hf: Artifact, text: Artifact, tmp_path: Path) -> None:
    made, produced = run(SMALL, hf, tmp_path / "awq", calibration=text)
    rounded, _ = run(QuantizeGptq(group_size=32, method="rtn"), hf, tmp_path / "rtn")

    assert off(hf, made) < off(hf, rounded)
    assert produced.facts["calibration_tokens"] == 256
    assert produced.facts["bits_a_weight"] == 4 + 20 / 32


@pytest.mark.parametrize("symmetric", [True, False])
def test_the_codes_mean_to_gptqmodel_what_they_mean_here(
    hf: Artifact, text: Artifact, tmp_path: Path, symmetric: bool
) -> None:
    made, _ = run(SMALL.model_copy(update={"symmetric": symmetric}), hf, tmp_path / "awq", calibration=text)
    how, stored = quantization(made.path), load_file(made.path / "model.safetensors")
    assert how is not None
    assert (how.method, how.symmetric, how.group_size) == ("awq", symmetric, 32)
    theirs = dequantize_gemm(*(stored[f"{LAYER}.{part}"] for part in ("qweight", "qzeros", "scales")), 4, 32)
    ours = dict(floats(made.path, how))[f"{LAYER}.weight"]

    assert np.allclose(ours.T, theirs.float().numpy(), rtol=1e-3, atol=1e-6)


def test_a_layer_that_cannot_be_clipped_and_a_group_size_are_refused_by_name(text: Artifact, tmp_path: Path) -> None:
    narrow = make(tmp_path / "narrow")
    with pytest.raises(Refused, match=r"`model\.layers\.0\.self_attn\.k_proj` has 32 outputs"):
        run(SMALL, narrow, tmp_path / "a", calibration=text)
    with pytest.raises(Refused, match=r"groups of 48 do not divide"):
        run(SMALL.model_copy(update={"group_size": 48}), narrow, tmp_path / "b", calibration=text)


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
