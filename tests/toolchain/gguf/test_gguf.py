import hashlib
import json
import shutil
import struct
from collections.abc import Iterator
from pathlib import Path

import gguf
import numpy as np
import pytest
from running import artifact, run
from tiny_llama import CONTEXT, TEXT, VOCABULARY, make

from stages._gguf_header import TYPES, find, read
from stages._gguf_types import FILE_TYPES, NEED_IMATRIX
from stages.base import Artifact, Context, Refused
from stages.quantize_gguf import QuantizeGguf
from targets._llama import LlamaSession
from targets.base import TextSession
from targets.gguf import Gguf
from targets.transformers import Transformers


def digest(made: Artifact) -> str:
    return hashlib.sha256((made.path / "model.gguf").read_bytes()).hexdigest()


@pytest.fixture(scope="session")
def hf(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return artifact("hf", make(tmp_path_factory.mktemp("hf")))


@pytest.fixture(scope="session")
def f32(hf: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return run(Gguf(outtype="f32"), hf, tmp_path_factory.mktemp("f32") / "out")[0]


@pytest.fixture
def session(f32: Artifact) -> Iterator[LlamaSession]:
    opened = Gguf().open(f32, threads=1, context_length=64)
    yield opened
    opened.close()


@pytest.fixture
def tokens() -> np.ndarray:
    return np.random.default_rng(0).integers(3, VOCABULARY, 48).astype(np.int32)


def test_the_types_written_down_are_those_of_the_gguf_package() -> None:
    assert {
        member.value: (member.name, *gguf.GGML_QUANT_SIZES[member]) for member in gguf.GGMLQuantizationType
    } == TYPES


def test_f32_agrees_with_transformers_on_every_logit(hf: Artifact, session: LlamaSession, tokens: np.ndarray) -> None:
    reference = Transformers().open(hf, threads=1, context_length=64)

    assert isinstance(session, TextSession)
    assert isinstance(reference, TextSession)
    theirs, ours = reference.logits(tokens), session.logits(tokens)
    assert ours.shape == theirs.shape == (48, VOCABULARY)
    # measured 2.2e-3, from 16-bit keys and values and flash attention's 16-bit sums; 1.8e-6 without the two
    assert np.abs(ours - theirs).max() < 5e-3 * np.abs(theirs).max()
    assert np.array_equal(ours.argmax(1), theirs.argmax(1))


def test_both_runtimes_tokenize_alike(hf: Artifact, session: LlamaSession) -> None:
    reference = Transformers().open(hf, threads=1, context_length=64)
    ours, theirs = session.encode(TEXT), reference.encode(TEXT)

    assert session.decode(ours).strip() == reference.decode(theirs).strip() == TEXT.strip()
    assert ours.tolist() == theirs.tolist()


def test_generation_is_the_greedy_argmax_of_the_logits(session: LlamaSession, tokens: np.ndarray) -> None:
    made = session.generate(tokens[:16], 12)

    sequence = np.concatenate([tokens[:16], made.tokens[:-1]]).astype(np.int32)
    assert made.tokens == tuple(session.logits(sequence)[15:].argmax(1).tolist())
    assert len(made.seconds) == 12
    assert min(made.seconds) > 0


def test_a_sequence_does_not_see_the_one_before(session: LlamaSession, tokens: np.ndarray) -> None:
    first = session.logits(tokens[:20]).copy()
    session.logits(tokens[20:40])
    session.generate(tokens[5:9], 3)

    assert np.array_equal(session.logits(tokens[:20]), first)


@pytest.mark.parametrize("bad", [[], [VOCABULARY], [-1], [3] * 65])
def test_tokens_that_do_not_fit_are_an_error(session: LlamaSession, bad: list[int]) -> None:
    with pytest.raises(ValueError, match="token"):
        session.logits(np.array(bad, dtype=np.int32))


def test_a_context_longer_than_the_trained_one_is_refused(f32: Artifact) -> None:
    with pytest.raises(Refused, match="a context of 129 tokens is longer than the 128 the model was trained on"):
        Gguf().open(f32, threads=1, context_length=CONTEXT + 1)


def test_converting_gives_the_same_bytes_wherever_the_folder_lies(hf: Artifact, tmp_path: Path) -> None:
    elsewhere = shutil.copytree(hf.path, tmp_path / "Elsewhere-7B-v2")
    first, _ = run(Gguf(), hf, tmp_path / "first")
    second, _ = run(Gguf(), artifact("hf", elsewhere), tmp_path / "second")

    assert digest(first) == digest(second)
    raw = (first.path / "model.gguf").read_bytes()
    assert str(tmp_path).encode() not in raw
    assert read(find(first.path)).metadata["general.name"] == "model"


@pytest.mark.parametrize("outtype", ["f32", "f16", "bf16"])
def test_facts_are_measured_from_the_file(hf: Artifact, tmp_path: Path, outtype: str) -> None:
    _, produced = run(Gguf.model_validate({"outtype": outtype}), hf, tmp_path / "out")

    assert produced.facts["architecture"] == "llama"
    assert produced.facts["layers"] == 2
    assert produced.facts["vocabulary"] == VOCABULARY
    assert produced.facts["precision"] == outtype
    bits = produced.facts["bits_per_weight"]
    assert isinstance(bits, float)
    assert bits == 32 if outtype == "f32" else 16 < bits < 16.2


@pytest.mark.parametrize("kind", sorted(FILE_TYPES.keys() - NEED_IMATRIX - {"mixed"}))
def test_every_type_quantizes_to_a_file_that_opens(hf: Artifact, f32: Artifact, tmp_path: Path, kind: str) -> None:
    made, produced = run(QuantizeGguf.model_validate({"type": kind}), f32, tmp_path / "out")
    opened = Gguf().open(made, threads=1, context_length=32)

    assert np.isfinite(opened.logits(np.arange(3, 20, dtype=np.int32))).all()
    opened.close()
    assert produced.facts["precision"] == kind
    assert made.path.joinpath("model.gguf").stat().st_size < f32.path.joinpath("model.gguf").stat().st_size / 1.5


def test_quantizing_gives_the_same_bytes_with_any_number_of_threads(f32: Artifact, tmp_path: Path) -> None:
    stage = QuantizeGguf(type="q4_0")
    made = [run(stage, f32, tmp_path / name)[0] for name in "ab"]
    stage.run(f32, Context(out=made[1].path, scratch=tmp_path, threads=1))

    assert digest(made[0]) == digest(made[1])


def test_the_embedding_can_have_a_type_of_its_own(f32: Artifact, tmp_path: Path) -> None:
    stage = QuantizeGguf(type="q4_0", pure=True, token_embedding_type="q8_0", output_type="q8_0")
    made, produced = run(stage, f32, tmp_path / "out")

    types = {tensor.name: tensor.type for tensor in read(find(made.path)).tensors}
    assert types["token_embd.weight"] == types["output.weight"] == "Q8_0"
    assert produced.facts["tensor_types"] == {"Q4_0": 14, "F32": 5, "Q8_0": 2}


def test_progress_counts_tensors(f32: Artifact, tmp_path: Path) -> None:
    seen: list[tuple[float, float, str]] = []
    context = Context(out=tmp_path, scratch=tmp_path, progress=lambda *report: seen.append(report))
    QuantizeGguf(type="q8_0").run(f32, context)

    assert seen[0][:2] == (1, 21)
    assert seen[-1][:2] == (21, 21)


def test_a_quantized_file_is_not_quantized_again(f32: Artifact, tmp_path: Path) -> None:
    made, _ = run(QuantizeGguf(type="q8_0"), f32, tmp_path / "once")

    with pytest.raises(Refused) as caught:
        run(QuantizeGguf(type="q4_0"), made, tmp_path / "twice")
    assert caught.value.message == "model.gguf is quantized already: 16 of 21 tensors are Q8_0"
    assert "import_gguf" in caught.value.hint


def test_an_architecture_llama_cpp_does_not_know_is_refused_by_name(hf: Artifact, tmp_path: Path) -> None:
    folder = shutil.copytree(hf.path, tmp_path / "hf")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"architectures": ["UnheardOfForCausalLM"]}))

    with pytest.raises(Refused, match="architecture UnheardOfForCausalLM cannot be converted to GGUF") as caught:
        run(Gguf(), artifact("hf", folder), tmp_path / "out")
    assert "LlamaForCausalLM" in caught.value.hint


def test_a_folder_without_a_tokenizer_is_refused(hf: Artifact, tmp_path: Path) -> None:
    folder = shutil.copytree(hf.path, tmp_path / "hf")
    (folder / "tokenizer.model").unlink()

    with pytest.raises(Refused, match=r"llama\.cpp's converter refused the model"):
        run(Gguf(), artifact("hf", folder), tmp_path / "out")


def test_metadata_that_only_llama_cpp_understands_is_refused_with_its_own_words(f32: Artifact, tmp_path: Path) -> None:
    raw = (f32.path / "model.gguf").read_bytes()
    key = b"llama.attention.head_count" + struct.pack("<I", 4)
    assert raw.count(key + struct.pack("<I", 4)) == 1
    (tmp_path / "model.gguf").write_bytes(raw.replace(key + struct.pack("<I", 4), key + struct.pack("<I", 2)))

    with pytest.raises(Refused, match=r"llama\.cpp cannot load model\.gguf: .*"):
        Gguf().open(artifact("gguf", tmp_path), threads=1, context_length=32)


def test_weights_cut_short_are_refused_before_llama_cpp_sees_them(f32: Artifact, tmp_path: Path) -> None:
    raw = (f32.path / "model.gguf").read_bytes()
    (tmp_path / "model.gguf").write_bytes(raw[: len(raw) // 2])

    for attempt in (
        lambda: Gguf().open(artifact("gguf", tmp_path), threads=1, context_length=32),
        lambda: run(QuantizeGguf(type="q8_0"), artifact("gguf", tmp_path), tmp_path / "out"),
    ):
        with pytest.raises(Refused, match="truncated, or its header lies: tensor"):
            attempt()
