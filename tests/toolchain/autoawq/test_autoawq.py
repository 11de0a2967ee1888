"""AutoAWQ on a tiny Llama: what its checkpoint means, and the trap that its search for scales is on a CPU."""

import json
from pathlib import Path

import pytest

from stages import _awq_autoawq
from stages.base import Artifact, Refused
from stages.quantize_awq import QuantizeAwq
from tests.toolchain.gptq.tiny_text import calibration, changed, loud, make_uneven, run, spoilt

SMALL = QuantizeAwq(backend="autoawq", group_size=32, symmetric=False, windows=8, window=32)


@pytest.fixture(scope="module")
def hf(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """As transformers 5 saves it: rope_theta inside rope_parameters."""
    made = make_uneven(tmp_path_factory.mktemp("tiny") / "hf")
    file = made.path / "config.json"
    told = json.loads(file.read_text())
    del told["rope_theta"]
    file.write_text(json.dumps({**told, "rope_parameters": {"rope_theta": 100.0, "rope_type": "default"}}))
    return made


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return calibration(tmp_path_factory.mktemp("text") / "text")


def test_the_checkpoint_keeps_the_model(hf: Artifact, text: Artifact, tmp_path: Path) -> None:
    made, produced = run(SMALL, hf, tmp_path / "awq", calibration=text)

    assert changed(hf, made) < 0.25
    assert produced.facts["bits_a_weight"] == 4 + 20 / 32
    assert json.loads((made.path / "config.json").read_text())["rope_parameters"]["rope_theta"] == 100.0


def test_autoawqs_own_quantizer_leaves_the_first_scales_it_tries_in_the_weights(
    hf: Artifact, text: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from awq.quantize.quantizer import AwqQuantizer

    kept, _ = run(SMALL, hf, tmp_path / "kept", calibration=text)
    monkeypatch.setattr(_awq_autoawq, "_with_a_copy", lambda: AwqQuantizer)
    broken, _ = run(SMALL, hf, tmp_path / "broken", calibration=text)

    assert changed(hf, broken) > 3 * changed(hf, kept)


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
