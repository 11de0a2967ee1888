import itertools
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from running import artifact, calibration, run
from safetensors.torch import load_file, save_file
from tiny_llama import make
from transformers import AutoModelForCausalLM

from stages._divergence import Probe, replaced
from stages._ggml import rounded, size_of
from stages._gguf_header import find, read
from stages._mixture import Sensitivity
from stages.base import Artifact, Refused
from stages.measure_sensitivity import MeasureSensitivity
from stages.quantize_gguf import QuantizeGguf
from targets.gguf import Gguf

TYPES = ("q4_0", "q5_0", "q4_k", "q8_0")


@pytest.fixture(scope="session")
def hf(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return artifact("hf", make(tmp_path_factory.mktemp("hf"), hidden_size=64, intermediate_size=256))


@pytest.fixture(scope="session")
def f32(hf: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return run(Gguf(outtype="f32"), hf, tmp_path_factory.mktemp("f32") / "out")[0]


@pytest.fixture(scope="session")
def measured(hf: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    folder = tmp_path_factory.mktemp("sensitivity")
    stage = MeasureSensitivity(types=TYPES, windows=3, held_out=2, window=32, points=4)
    return run(stage, hf, folder / "out", calibration=calibration(folder / "text"))[0]


@pytest.mark.parametrize("kind", [*TYPES, "f16", "bf16", "f32"])
@pytest.mark.parametrize("weighted", [False, True])
def test_rounding_in_memory_gives_what_a_quantized_file_holds(
    f32: Artifact, tmp_path: Path, kind: str, weighted: bool
) -> None:
    import gguf

    name = "blk.1.ffn_down.weight"
    exact = next(tensor for tensor in gguf.GGUFReader(find(f32.path)).tensors if tensor.name == name)
    importance = np.linspace(0.1, 2, 256, dtype=np.float32) if weighted else None
    target = tmp_path / "model.gguf"
    _quantized_alone(find(f32.path), target, name, kind, importance)

    written = next(tensor for tensor in gguf.GGUFReader(target).tensors if tensor.name == name)
    assert np.array_equal(
        rounded(np.array(exact.data), kind, importance, threads=2),
        gguf.quants.dequantize(written.data, written.tensor_type),
    )


def _quantized_alone(source: Path, target: Path, name: str, kind: str, importance: np.ndarray | None) -> None:
    from stages._llama_quantize import Order, quantized
    from stages.base import Context

    weights = {} if importance is None else {name: importance}
    order = Order("q8_0", False, None, None, {f"^{name}$": kind}, weights)
    quantized(source, target, order, Context(out=target.parent, scratch=target.parent, threads=2))


def test_layers_in_front_of_a_changed_one_need_not_run_again(hf: Artifact) -> None:
    model = AutoModelForCausalLM.from_pretrained(hf.path, dtype=torch.float32).eval()
    probe = Probe(model, np.random.default_rng(0).integers(3, 200, (2, 32)))
    parameter = model.model.layers[1].mlp.up_proj.weight

    with replaced({parameter: parameter.data * 1.05}):
        short, whole = probe.loss(first_layer=1), probe.loss()
    assert short == whole
    assert whole.kl > 0
    assert probe.loss().kl == pytest.approx(0, abs=1e-7)


def test_every_tensor_has_the_types_whose_blocks_divide_its_rows(measured: Artifact, f32: Artifact) -> None:
    sensitivity = Sensitivity.load(measured.path)
    shapes = {tensor.name: tensor.shape for tensor in read(find(f32.path)).tensors if len(tensor.shape) == 2}

    assert {tensor.name for tensor in sensitivity.tensors} == set(shapes)
    for tensor in sensitivity.tensors:
        small_blocks = {"q4_0", "q5_0", "q8_0"}
        allowed = small_blocks | {"q4_k"} if shapes[tensor.name][0] == 256 else small_blocks
        assert {choice.type for choice in tensor.choices} == allowed
        assert all(choice.size_bytes == size_of(choice.type, tensor.elements) for choice in tensor.choices)


def test_more_bits_are_expected_to_lose_less(measured: Artifact) -> None:
    for tensor in Sensitivity.load(measured.path).tensors:
        losses = {choice.type: choice.kl for choice in tensor.choices}
        assert losses["q4_0"] > losses["q5_0"] > losses["q8_0"] > 0, tensor.name


def test_whole_mixtures_lose_less_the_larger_they_are(measured: Artifact) -> None:
    points = Sensitivity.load(measured.path).points

    assert len(points) == 4
    assert all(a.size_bytes < b.size_bytes and a.kl > b.kl for a, b in itertools.pairwise(points))
    # the sum of what tensors lose alone is what they lose together, as far as losses are small
    assert all(point.kl / 3 < point.kl_expected < point.kl * 3 for point in points)


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_a_size_budget_is_kept_by_the_file(measured: Artifact, f32: Artifact, tmp_path: Path, share: float) -> None:
    sizes = [_size(run(QuantizeGguf(type=kind), f32, tmp_path / kind)[0]) for kind in ("q4_0", "q8_0")]
    wanted = (sizes[0] + (sizes[1] - sizes[0]) * share + 4000) / 1e6
    stage = QuantizeGguf.model_validate({"budget": {"size_mb": wanted}})
    made, produced = run(stage, f32, tmp_path / "out", sensitivity=measured)

    assert wanted - 0.02 < _size(made) / 1e6 <= wanted
    assert produced.facts["precision"] == "mixed"
    assert len(read(find(made.path)).types()) > 2


def test_a_loss_budget_takes_more_bytes_the_tighter_it_is(measured: Artifact, f32: Artifact, tmp_path: Path) -> None:
    changes = [point.perplexity_change for point in Sensitivity.load(measured.path).points]
    budgets = np.linspace(min(max(changes), 0.5), max(min(changes), 1e-3), 3)
    sizes = [
        _size(
            run(
                QuantizeGguf.model_validate({"budget": {"perplexity": float(most)}}),
                f32,
                tmp_path / f"{most}",
                sensitivity=measured,
            )[0]
        )
        for most in budgets
    ]

    assert sizes == sorted(sizes)


def _size(made: Artifact) -> int:
    return find(made.path).stat().st_size


def test_a_loss_that_is_no_number_is_told_with_its_tensor(hf: Artifact, tmp_path: Path) -> None:
    broken = shutil.copytree(hf.path, tmp_path / "broken")
    weights = load_file(broken / "model.safetensors")
    weights["model.layers.1.input_layernorm.weight"][:] = float("nan")
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    stage = MeasureSensitivity(types=("q8_0",), windows=3, held_out=2, window=32, points=4)

    with pytest.raises(Refused, match=r"the loss with `\S+weight` rounded is nan"):
        run(stage, artifact("hf", broken), tmp_path / "out", calibration=calibration(tmp_path / "text"))


def test_a_type_that_is_made_with_an_importance_matrix_only_is_not_rounded_without(
    hf: Artifact, tmp_path: Path
) -> None:
    stage = MeasureSensitivity.model_validate({"types": ["IQ2_XXS", "q8_0"], "windows": 3, "held_out": 2, "window": 32})

    with pytest.raises(Refused, match="iq2_xxs: needs an importance matrix"):
        run(stage, hf, tmp_path / "out", calibration=calibration(tmp_path / "text"))
