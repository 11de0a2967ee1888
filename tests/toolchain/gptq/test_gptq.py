"""GPTQ on a tiny Llama: what the codes mean, what is refused, and that a kill changes nothing."""

import json
import multiprocessing
import os
import random
import secrets
import signal
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gptqmodel.nn_modules.qlinear.torch import TorchLinear
from safetensors.torch import load_file
from tiny_text import TEXT, calibration, make, run, spoilt

from stages import _gptq_walk
from stages._quantized import floats, quantization
from stages.base import Artifact, Context, Refused
from stages.quantize_gptq import QuantizeGptq
from targets.transformers import Transformers

SMALL = QuantizeGptq(group_size=32, windows=4, window=32)
LAYER = "model.layers.1.mlp.down_proj"
LAYERS = 5


@pytest.fixture(scope="module")
def hf(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return make(tmp_path_factory.mktemp("tiny") / "hf")


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return calibration(tmp_path_factory.mktemp("text") / "text")


def logits(artifact: Artifact) -> np.ndarray:
    session = Transformers().open(artifact, 1, 64)
    return session.logits(session.encode(TEXT)[:64]).copy()


def off(hf: Artifact, made: Artifact) -> float:
    return float(np.square(logits(made) - logits(hf)).mean())


def bytes_of(made: Artifact) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(made.path.iterdir())}


def test_gptq_is_nearer_to_the_model_than_rounding_to_nearest(hf: Artifact, text: Artifact, tmp_path: Path) -> None:
    learnt, produced = run(SMALL, hf, tmp_path / "gptq", calibration=text)
    rounded, _ = run(SMALL.model_copy(update={"method": "rtn"}), hf, tmp_path / "rtn")

    assert off(hf, learnt) < 0.8 * off(hf, rounded)
    assert produced.facts["calibration_tokens"] == 128
    assert 4 < float(str(produced.facts["bits_a_weight"])) < 5.5


@pytest.mark.parametrize("bits", [2, 4, 5, 6, 7, 8])
def test_the_codes_mean_to_gptqmodels_own_layer_what_they_mean_here(
    hf: Artifact, text: Artifact, tmp_path: Path, bits: int
) -> None:
    made, _ = run(SMALL.model_copy(update={"bits": bits}), hf, tmp_path / "made", calibration=text)
    how = quantization(made.path)
    assert how is not None
    stored = load_file(made.path / "model.safetensors")
    parts = {name.rpartition(".")[2]: value for name, value in stored.items() if name.startswith(LAYER)}
    theirs = TorchLinear(
        bits=bits, group_size=32, sym=True, desc_act=True, in_features=128, out_features=64, bias=False,
        pack_dtype=torch.int32, register_buffers=True,
    )  # fmt: skip
    theirs.load_state_dict(parts, strict=False)
    zeros = theirs.qzeros
    theirs.post_init()
    one = sum(1 << (bits * place) for place in range(32 // bits))
    if not how.planar:
        theirs.qzeros = (zeros.to(torch.int64) + one).to(torch.int32)  # what their loader does to the first format
    ours = dict(floats(made.path, how))[f"{LAYER}.weight"]

    assert np.allclose(ours, theirs.dequantize_weight().T.float().numpy(), atol=2e-3)


def test_more_bits_are_nearer(hf: Artifact, text: Artifact, tmp_path: Path) -> None:
    losses = [
        off(hf, run(SMALL.model_copy(update={"bits": bits}), hf, tmp_path / str(bits), calibration=text)[0])
        for bits in (2, 3, 4, 5, 6, 7, 8)
    ]

    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 0.01 * losses[0]


def kill_at(moment: int, hf: Artifact, text: Artifact, out: Path, kept: Path) -> None:
    """Run, and be killed: every layer has two moments, before it is quantized and before it is kept."""
    through, moments = _gptq_walk._through, count()

    def through_or_killed(*given: Any) -> Any:
        if next(moments) == moment:
            os.kill(os.getpid(), signal.SIGKILL)
        return through(*given)

    _gptq_walk._through = through_or_killed
    go(SMALL, hf, text, out, kept)


@pytest.mark.parametrize("seed", [secrets.randbelow(2**32)])
def test_a_run_killed_at_a_random_layer_goes_on_there_and_gives_the_same_bytes(
    text: Artifact, tmp_path: Path, seed: int
) -> None:
    moment = random.Random(seed).randrange(2 * LAYERS)
    hf = make(tmp_path / "hf", layers=LAYERS)
    undisturbed, _ = run(SMALL, hf, tmp_path / "undisturbed", calibration=text)
    kept = tmp_path / "kept"
    child = multiprocessing.get_context("spawn").Process(
        target=kill_at, args=(moment, hf, text, tmp_path / "killed", kept)
    )
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    assert len(list(kept.glob("layer-*"))) == moment // 2

    resumed = go(SMALL, hf, text, tmp_path / "resumed", kept)

    assert bytes_of(resumed) == bytes_of(undisturbed)


def go(stage: QuantizeGptq, model: Artifact, text: Artifact, out: Path, kept: Path) -> Artifact:
    for folder in (out, out.with_suffix(".scratch")):
        folder.mkdir()
    context = Context(
        out=out, scratch=out.with_suffix(".scratch"), threads=1, inputs={"calibration": text}, outliving=kept
    )
    stage.run(model, context)
    return Artifact(kind="hf", path=out, digest="0")


def test_a_quantized_checkpoint_is_refused_by_its_method(hf: Artifact, text: Artifact, tmp_path: Path) -> None:
    made, _ = run(SMALL, hf, tmp_path / "made", calibration=text)

    with pytest.raises(Refused, match="quantized already, with gptq to 4 bits"):
        run(SMALL, made, tmp_path / "again", calibration=text)


def test_a_group_size_that_does_not_divide_a_layer_is_refused_by_its_name(
    hf: Artifact, text: Artifact, tmp_path: Path
) -> None:
    with pytest.raises(Refused) as caught:
        run(SMALL.model_copy(update={"group_size": 48}), hf, tmp_path / "made", calibration=text)

    assert caught.value.message == ("`model.layers.0.self_attn.q_proj` has 64 inputs, which groups of 48 do not divide")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_layer_without_finite_losses_is_named_and_stops_the_run(
    hf: Artifact, text: Artifact, tmp_path: Path, value: float
) -> None:
    broken = spoilt(hf, tmp_path / "broken", "model.layers.1.mlp.up_proj.weight", value)

    with pytest.raises(Refused, match=r"model\.layers\.1\.mlp\.(up|gate|down)_proj"):
        run(SMALL, broken, tmp_path / "made", calibration=text)
    with pytest.raises(Refused, match=r"^the weights of `model\.layers\.1\.mlp\.up_proj` hold NaN or infinity"):
        run(SMALL.model_copy(update={"method": "rtn"}), broken, tmp_path / "rounded")


@pytest.mark.parametrize(
    ("weight", "tensor"),
    [("mlp.up_proj.weight", "mlp.up_proj.scales"), ("input_layernorm.weight", "input_layernorm.weight")],
)
def test_what_float16_cannot_hold_is_named(hf: Artifact, tmp_path: Path, weight: str, tensor: str) -> None:
    large = spoilt(hf, tmp_path / "large", f"model.layers.1.{weight}", 1e6)

    with pytest.raises(Refused, match=rf"^`model\.layers\.1\.{tensor}` holds NaN or infinity"):
        run(SMALL.model_copy(update={"method": "rtn"}), large, tmp_path / "made")


def test_too_little_text_is_told_with_its_tokens(
    hf: Artifact, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    little = calibration(tmp_path / "little", TEXT * 3)
    run(SMALL.model_copy(update={"windows": 64}), hf, tmp_path / "made", calibration=little)

    assert "tokens:" in capsys.readouterr().err


def test_a_checkpoint_of_a_method_that_nothing_reads_is_refused(hf: Artifact, tmp_path: Path) -> None:
    for file in hf.path.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "quantization_config": {"quant_method": "hqq"}}))

    with pytest.raises(Refused, match="quantized with hqq"):
        Transformers().open(Artifact(kind="hf", path=tmp_path, digest="2"), 1, 64)
