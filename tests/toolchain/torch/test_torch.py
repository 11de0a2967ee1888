import json
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

import gguf
import numpy as np
import pytest
from safetensors.numpy import load_file
from tiny_gguf import CONTEXT, Q8_0, TOKENS, WIDTH, tensors, write

from stages.base import Artifact, Context, Produced, Refused, Stage
from stages.import_gguf import ImportGguf
from targets.base import TextSession
from targets.transformers import TorchSession, Transformers


def artifact(kind: str, path: Path) -> Artifact:
    return Artifact(kind=kind, path=path, digest="0")


def run(stage: Stage, model: Artifact, out: Path) -> tuple[Artifact, Produced]:
    out.mkdir(parents=True)
    return artifact(stage.produces, out), stage.run(model, Context(out=out, scratch=out.parent))


def imported(tmp_path: Path, file: Path, name: str = "out") -> tuple[Artifact, Produced]:
    return run(ImportGguf(), artifact("gguf", file.parent), tmp_path / name)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    return folder / "tiny.gguf"


@pytest.fixture(scope="session")
def hf(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    folder = tmp_path_factory.mktemp("hf")
    return imported(folder, write(folder / "tiny.gguf", tensors()))[0]


@pytest.fixture
def session(hf: Artifact) -> Iterator[TorchSession]:
    opened = Transformers().open(hf, threads=1, context_length=64)
    yield opened
    opened.close()


def test_every_weight_arrives_exactly(hf: Artifact) -> None:
    written, arrived = tensors(), load_file(hf.path / "model.safetensors")

    assert len(arrived) == len(written)
    assert np.array_equal(arrived["model.embed_tokens.weight"], written["token_embd.weight"])
    assert np.array_equal(arrived["model.layers.1.mlp.down_proj.weight"], written["blk.1.ffn_down.weight"])
    rows = np.sort(arrived["model.layers.0.self_attn.q_proj.weight"][:, 0])  # llama.cpp orders rotary rows its own way
    assert np.array_equal(rows, np.sort(written["blk.0.attn_q.weight"][:, 0]))


def test_quantized_weights_are_dequantized_and_counted(tmp_path: Path, source: Path) -> None:
    made, produced = imported(tmp_path, write(source, tensors(), Q8_0))

    expected = gguf.quants.dequantize(gguf.quants.quantize(tensors()["token_embd.weight"], Q8_0), Q8_0)
    assert np.array_equal(load_file(made.path / "model.safetensors")["model.embed_tokens.weight"], expected)
    assert produced.facts["source_types"] == {"Q8_0": 16, "F32": 5}
    assert produced.facts["precision"] == "float32"
    assert produced.facts["architecture"] == "llama"
    assert produced.facts["layers"] == 2
    assert produced.facts["vocabulary"] == len(TOKENS)
    assert produced.facts["context_length"] == CONTEXT
    assert produced.facts["parameters"] == sum(weight.size for weight in tensors().values())
    assert "quantization_config" not in json.loads((made.path / "config.json").read_text())


def test_importing_gives_the_same_bytes_wherever_the_file_lies(tmp_path: Path, source: Path, hf: Artifact) -> None:
    made, _ = imported(tmp_path, write(source, tensors()))

    for file in sorted(hf.path.iterdir()):
        twin = made.path / file.name
        assert twin.read_bytes() == file.read_bytes(), file.name
        assert str(tmp_path).encode() not in twin.read_bytes()
        assert stat.S_IMODE(twin.stat().st_mode) == 0o644


def test_the_session_scores_and_tokenizes(session: TorchSession) -> None:
    assert isinstance(session, TextSession)
    assert session.vocabulary_size == len(TOKENS)
    tokens = session.encode("the cat")
    assert tokens.tolist() == [TOKENS.index(token) for token in ("the", "Ġ", "c", "a", "t")]
    assert session.decode(tokens) == "the cat"
    logits = session.logits(tokens)
    assert logits.dtype == np.float32
    assert logits.shape == (len(tokens), len(TOKENS))


def test_generation_is_the_greedy_argmax_of_the_logits(session: TorchSession) -> None:
    prompt = session.encode("the cat sat")
    made = session.generate(prompt, 12)

    sequence = np.concatenate([prompt, made.tokens[:-1]]).astype(np.int32)
    assert made.tokens == tuple(session.logits(sequence)[len(prompt) - 1 :].argmax(1).tolist())
    assert len(made.seconds) == 12
    assert min(made.seconds) > 0


def test_bfloat16_is_near_float32(hf: Artifact, session: TorchSession) -> None:
    half = Transformers(dtype="bfloat16").open(hf, threads=1, context_length=64)
    tokens = session.encode("the cat sat")
    full, near = session.logits(tokens), half.logits(tokens)

    assert 0 < np.abs(full - near).max() < 0.1 * np.abs(full).max()


def test_a_run_copies_what_a_session_reads_and_nothing_else(hf: Artifact, tmp_path: Path) -> None:
    folder = shutil.copytree(hf.path, tmp_path / "hf")
    (folder / "training.bin").write_bytes(b"pickle")
    (folder / "modeling.py").touch()
    made, _ = run(Transformers(), artifact("hf", folder), tmp_path / "out")

    assert {file.name for file in made.path.iterdir()} == {file.name for file in hf.path.iterdir()}


def test_a_context_longer_than_the_trained_one_is_refused(hf: Artifact) -> None:
    with pytest.raises(Refused, match="a context of 129 tokens is longer than the 128 the model was trained on"):
        Transformers().open(hf, threads=1, context_length=CONTEXT + 1)


def test_damaged_safetensors_are_refused(hf: Artifact, tmp_path: Path) -> None:
    folder = shutil.copytree(hf.path, tmp_path / "hf")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])

    with pytest.raises(Refused, match="the safetensors are damaged"):
        Transformers().open(artifact("hf", folder), threads=1, context_length=64)


def test_an_architecture_unknown_to_transformers_is_refused(hf: Artifact, tmp_path: Path) -> None:
    folder = shutil.copytree(hf.path, tmp_path / "hf")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "unheard_of"}))

    with pytest.raises(Refused, match="unheard_of"):
        Transformers().open(artifact("hf", folder), threads=1, context_length=64)


def test_an_unsupported_architecture_is_refused_by_name_and_the_supported_are_listed(
    tmp_path: Path, source: Path
) -> None:
    with pytest.raises(Refused) as caught:
        imported(tmp_path, write(source, tensors(), architecture="rwkv6"))

    assert caught.value.message == "tiny.gguf: architecture `rwkv6` cannot be imported"
    assert "llama" in caught.value.hint


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_weights_that_are_no_numbers_are_refused_by_name(tmp_path: Path, source: Path, bad: float) -> None:
    weights = tensors()
    weights["blk.1.ffn_up.weight"][3, 5] = bad

    with pytest.raises(Refused) as caught:
        imported(tmp_path, write(source, weights))
    assert caught.value.message == "tiny.gguf: tensor `model.layers.1.mlp.up_proj.weight` holds NaN or infinity"


def test_a_missing_tensor_is_refused_by_name(tmp_path: Path, source: Path) -> None:
    weights = tensors()
    del weights["blk.0.ffn_gate.weight"]

    with pytest.raises(Refused, match=r"the weights of `model\.layers\.0\.mlp\.gate_proj\.weight` are missing"):
        imported(tmp_path, write(source, weights))


@pytest.mark.parametrize("lie", [{"hidden": 2**30}, {"heads": 0}, {"heads": 5}, {"heads": 2**31}])
def test_metadata_that_lies_is_refused(tmp_path: Path, source: Path, lie: dict[str, int]) -> None:
    with pytest.raises(Refused, match=r"tiny\.gguf"):
        imported(tmp_path, write(source, tensors(), **lie))


def test_a_tensor_of_another_shape_than_the_model_wants_is_refused(tmp_path: Path, source: Path) -> None:
    weights = tensors()
    weights["blk.0.attn_v.weight"] = np.zeros((WIDTH // 2, WIDTH), dtype=np.float32)

    with pytest.raises(Refused, match="transformers cannot build a llama model from it"):
        imported(tmp_path, write(source, weights))


def test_a_file_truncated_anywhere_is_refused(tmp_path: Path, source: Path) -> None:
    whole = write(source, tensors()).read_bytes()
    for number, share in enumerate((0.001, 0.05, 0.5, 0.999)):
        source.write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(Refused, match=r"tiny\.gguf"):
            imported(tmp_path, source, str(number))
