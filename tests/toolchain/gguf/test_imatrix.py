import shutil
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from running import artifact, calibration, run
from safetensors.torch import load_file, save_file
from tiny_llama import TEXT, make
from transformers import AutoModelForCausalLM, AutoTokenizer

from stages._gguf_header import find, read
from stages._gguf_types import NEED_IMATRIX
from stages._imatrix import FILE, Imatrix
from stages.base import Artifact, Refused
from stages.collect_imatrix import CollectImatrix
from stages.quantize_gguf import QuantizeGguf
from targets.gguf import Gguf

WIDE = {"hidden_size": 256, "intermediate_size": 512}
COLLECT = CollectImatrix(windows=4, window=32)


@pytest.fixture(scope="session")
def text(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return calibration(tmp_path_factory.mktemp("text") / "calibration")


@pytest.fixture(scope="session")
def hf(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return artifact("hf", make(tmp_path_factory.mktemp("wide"), **WIDE))


@pytest.fixture(scope="session")
def f32(hf: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return run(Gguf(outtype="f32"), hf, tmp_path_factory.mktemp("f32") / "out")[0]


@pytest.fixture(scope="session")
def imatrix(hf: Artifact, text: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return run(COLLECT, hf, tmp_path_factory.mktemp("imatrix") / "out", calibration=text)[0]


def inputs_by_hand(hf: Artifact, module: str, tokens: torch.Tensor) -> torch.Tensor:
    model = AutoModelForCausalLM.from_pretrained(hf.path, dtype=torch.float32)
    seen: list[torch.Tensor] = []
    model.get_submodule(module).register_forward_hook(lambda _module, given, _output: seen.append(given[0]))
    with torch.inference_mode():
        model(tokens)
    return seen[0].reshape(-1, seen[0].shape[-1])


@pytest.mark.parametrize(
    ("tensor", "module"),
    [
        ("blk.1.ffn_down.weight", "model.layers.1.mlp.down_proj"),
        ("blk.0.ffn_up.weight", "model.layers.0.mlp.up_proj"),
        ("blk.0.attn_k.weight", "model.layers.0.self_attn.k_proj"),
        ("output.weight", "lm_head"),
    ],
)
def test_sums_are_the_squares_of_what_came_into_the_layer(
    hf: Artifact, text: Artifact, tmp_path: Path, tensor: str, module: str
) -> None:
    made, _ = run(CollectImatrix(windows=1, window=48), hf, tmp_path / "out", calibration=text)
    tokens = AutoTokenizer.from_pretrained(hf.path)(TEXT * 40, add_special_tokens=False)["input_ids"][:48]

    by_hand = inputs_by_hand(hf, module, torch.tensor([tokens])).double().square().sum(0)
    found = Imatrix.load(made.path / FILE)
    assert np.allclose(found.sums[tensor], by_hand.numpy(), rtol=1e-4)
    assert found.tokens == 48


def test_the_file_is_laid_out_as_llama_cpp_lays_it_out(imatrix: Artifact) -> None:
    reader = gguf.GGUFReader(imatrix.path / FILE)

    fields = {key: field.contents() for key, field in reader.fields.items() if not key.startswith("GGUF.")}
    assert fields == {
        "general.type": "imatrix",
        "imatrix.datasets": ["foxes"],
        "imatrix.chunk_count": 4,
        "imatrix.chunk_size": 32,
    }
    shapes = {tensor.name: (tensor.tensor_type.name, tensor.shape.tolist()) for tensor in reader.tensors}
    assert len(shapes) == 2 * 15
    assert shapes["blk.0.ffn_down.weight.in_sum2"] == ("F32", [512, 1])
    assert shapes["blk.0.ffn_down.weight.counts"] == ("F32", [1, 1])


def test_collecting_again_gives_the_same_bytes(hf: Artifact, text: Artifact, imatrix: Artifact, tmp_path: Path) -> None:
    again, _ = run(COLLECT, hf, tmp_path / "out", calibration=text)

    assert (again.path / FILE).read_bytes() == (imatrix.path / FILE).read_bytes()


def test_a_head_that_is_the_embedding_goes_by_its_name(text: Artifact, tmp_path: Path) -> None:
    tied = artifact("hf", make(tmp_path / "tied", tie_word_embeddings=True))
    made, _ = run(COLLECT, tied, tmp_path / "out", calibration=text)

    names = Imatrix.load(made.path / FILE).sums
    assert "token_embd.weight" in names
    assert "output.weight" not in names


def test_a_layer_that_is_given_nan_is_named(hf: Artifact, text: Artifact, tmp_path: Path) -> None:
    broken = shutil.copytree(hf.path, tmp_path / "broken")
    weights = load_file(broken / "model.safetensors")
    weights["model.layers.1.mlp.up_proj.weight"][3, 3] = float("inf")
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})

    with pytest.raises(Refused) as caught:
        run(COLLECT, artifact("hf", broken), tmp_path / "out", calibration=text)
    assert caught.value.message == "the inputs of `blk.1.ffn_down.weight` hold NaN or infinity"


def test_too_little_calibration_text_is_refused_with_its_token_count(hf: Artifact, tmp_path: Path) -> None:
    short = calibration(tmp_path / "short", "the quick brown fox")

    with pytest.raises(Refused, match=r"the calibration text \(foxes\) has \d+ tokens, less than one window of 32"):
        run(COLLECT, hf, tmp_path / "out", calibration=short)


@pytest.mark.parametrize("kind", ["q4_k_m", "q2_k", "iq4_xs"])
def test_an_importance_matrix_changes_what_is_rounded_how(
    f32: Artifact, imatrix: Artifact, tmp_path: Path, kind: str
) -> None:
    stage = QuantizeGguf.model_validate({"type": kind})
    plain, without = run(stage, f32, tmp_path / "plain")
    weighted, facts = run(stage, f32, tmp_path / "weighted", imatrix=imatrix)

    assert find(plain.path).read_bytes() != find(weighted.path).read_bytes()
    assert "imatrix_matrices" not in without.facts
    assert facts.facts["imatrix_matrices"] == 15
    assert facts.facts["imatrix_tokens"] == 128


def test_the_columns_that_matter_lose_less_with_an_importance_matrix(
    f32: Artifact, imatrix: Artifact, tmp_path: Path
) -> None:
    stage, name = QuantizeGguf(type="q2_k", pure=True), "blk.0.ffn_down.weight"
    importance = Imatrix.load(imatrix.path / FILE).importance(name)
    exact = weights(f32.path, name)

    def loss(made: Artifact) -> float:
        return float(((weights(made.path, name) - exact) ** 2 * importance).sum())

    plain, _ = run(stage, f32, tmp_path / "plain")
    weighted, _ = run(stage, f32, tmp_path / "weighted", imatrix=imatrix)
    assert loss(weighted) < loss(plain)


def weights(folder: Path, name: str) -> np.ndarray:
    found = next(tensor for tensor in gguf.GGUFReader(find(folder)).tensors if tensor.name == name)
    return gguf.quants.dequantize(found.data, found.tensor_type).astype(np.float64)


@pytest.mark.parametrize("kind", sorted(NEED_IMATRIX))
def test_a_type_that_needs_an_importance_matrix_works_with_one_and_is_refused_without(
    f32: Artifact, imatrix: Artifact, tmp_path: Path, kind: str
) -> None:
    stage = QuantizeGguf.model_validate({"type": kind})

    made, produced = run(stage, f32, tmp_path / "out", imatrix=imatrix)
    assert produced.facts["precision"] == kind
    Gguf().open(made, threads=1, context_length=32).close()
    with pytest.raises(Refused, match=f"{kind}: needs an importance matrix") as caught:
        run(stage, f32, tmp_path / "without")
    assert caught.value.hint == "put `collect_imatrix` before `gguf`"


def test_an_importance_matrix_of_another_model_is_refused(imatrix: Artifact, tmp_path: Path) -> None:
    other, _ = run(Gguf(outtype="f32"), artifact("hf", make(tmp_path / "hf")), tmp_path / "f32")

    with pytest.raises(Refused, match=r"the importance matrix is of another model: `.*` has .* columns in it and .*"):
        run(QuantizeGguf(type="q4_k_m"), other, tmp_path / "out", imatrix=imatrix)


def test_a_model_is_no_importance_matrix(f32: Artifact) -> None:
    with pytest.raises(Refused, match=r"model\.gguf is no importance matrix"):
        Imatrix.load(find(f32.path))


def test_tensors_get_the_types_that_their_names_ask_for(f32: Artifact, tmp_path: Path) -> None:
    stage = QuantizeGguf(type="q4_k_m", tensor_types={r"blk\.0\.ffn_down": "q5_k", "ffn_(up|down)": "q4_k"})
    made, _ = run(stage, f32, tmp_path / "out")

    types = {tensor.name: tensor.type for tensor in read(find(made.path)).tensors}
    assert types["blk.0.ffn_down.weight"] == "Q5_K"
    assert {types[f"blk.{layer}.ffn_{part}.weight"] for layer, part in ((0, "up"), (1, "up"), (1, "down"))} == {"Q4_K"}


def test_a_name_that_no_tensor_has_is_refused(f32: Artifact, tmp_path: Path) -> None:
    with pytest.raises(Refused) as caught:
        run(QuantizeGguf(type="q4_k_m", tensor_types={"ffn_dwn": "q6_k"}), f32, tmp_path / "out")
    assert caught.value.message == "`tensor_types`: no tensor's name holds `ffn_dwn`"
    assert "ffn_down" in caught.value.hint
