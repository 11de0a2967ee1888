"""A small GGUF drafts for another in llama.cpp."""

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from running import artifact, run
from tiny_llama import CONTEXT, VOCABULARY, make, make_mamba

from stages.base import Artifact, Refused
from stages.quantize_gguf import QuantizeGguf
from targets._llama import LlamaSession
from targets.base import SpeculatingSession
from targets.gguf import Gguf

PROMPTS = np.random.default_rng(0).integers(3, VOCABULARY, (6, 24)).astype(np.int32)
N = 40


@pytest.fixture(scope="module")
def f32(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    hf = artifact("hf", make(tmp_path_factory.mktemp("hf")))
    return run(Gguf(outtype="f32"), hf, tmp_path_factory.mktemp("f32") / "out")[0]


@pytest.fixture(scope="module")
def rough(f32: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """The same model at 4 bits: it often says the same, and often not."""
    return run(QuantizeGguf(type="q4_0"), f32, tmp_path_factory.mktemp("rough") / "out")[0]


@pytest.fixture
def session(f32: Artifact) -> Iterator[LlamaSession]:
    opened = Gguf().open(f32, threads=2, context_length=CONTEXT)
    yield opened
    opened.close()


def test_a_model_that_drafts_for_itself_is_always_right(session: LlamaSession, f32: Artifact) -> None:
    session.load_draft(f32, 4)

    for prompt in PROMPTS:
        made = session.speculate(prompt, N)
        assert made.tokens == session.generate(prompt, N).tokens
        assert made.accepted == made.drafted
        assert made.steps == 1 + math.ceil((N - 1) / 5)


@pytest.mark.parametrize("most", [1, 4, 7])
def test_the_output_is_the_models_own_with_a_draft_that_errs(session: LlamaSession, rough: Artifact, most: int) -> None:
    session.load_draft(rough, most)
    assert isinstance(session, SpeculatingSession)

    made = [session.speculate(prompt, N) for prompt in PROMPTS]

    assert [one.tokens for one in made] == [session.generate(prompt, N).tokens for prompt in PROMPTS]
    assert all(one.steps + one.accepted == N for one in made)
    assert 0 < sum(one.accepted for one in made) < sum(one.drafted for one in made)


def test_what_is_known_of_a_sequence_is_not_computed_again(session: LlamaSession) -> None:
    """One token at a time, several at once, and back: the same answers as from an empty cache."""
    sequence = PROMPTS.reshape(-1)[:40]
    whole = session.logits(sequence).argmax(1)

    session._drafted = 4  # room for the answers of five tokens
    session._start("generate", sequence)
    found = [session.greedy(sequence[:10], 1), session.greedy(sequence[:14], 4), session.greedy(sequence[:12], 3)]
    other = np.concatenate([sequence[:5], sequence[20:24]])
    assert session.greedy(other, 2).tolist() == session.logits(other).argmax(1)[-2:].tolist()
    assert [one.tolist() for one in found] == [whole[9:10].tolist(), whole[10:14].tolist(), whole[9:12].tolist()]


def test_a_recurrent_model_says_the_same_with_a_draft_that_errs(f32: Artifact, tmp_path: Path) -> None:
    made = run(Gguf(outtype="f32"), artifact("hf", make_mamba(tmp_path / "hf")), tmp_path / "mamba")[0]
    session = Gguf().open(made, threads=2, context_length=CONTEXT)
    session.load_draft(f32, 4)

    found = [session.speculate(prompt, N) for prompt in PROMPTS]

    assert [one.tokens for one in found] == [session.generate(prompt, N).tokens for prompt in PROMPTS]
    assert sum(one.accepted for one in found) < sum(one.drafted for one in found)
    session.close()


def test_two_tokens_are_as_near_as_their_logits(session: LlamaSession, rough: Artifact) -> None:
    session.load_draft(rough, 4)
    sequence = np.concatenate([PROMPTS[0], session.generate(PROMPTS[0], 7).tokens]).astype(np.int32)

    tie = session.tie(sequence, len(PROMPTS[0]), 5, 9)

    row = session.logits(sequence)[-1].astype(float)
    near = 0.01 * np.abs(row).max()
    assert tie.gap == pytest.approx(abs(row[5] - row[9]), abs=near)
    assert 0 <= tie.noise < near
    assert session.tie(sequence, len(PROMPTS[0]), 5, 5).gap == 0


def test_it_scores_as_before_once_a_draft_is_loaded(session: LlamaSession, rough: Artifact) -> None:
    before = session.logits(PROMPTS[0]).copy()
    session.load_draft(rough, 4)
    session.speculate(PROMPTS[1], N)

    assert np.array_equal(session.logits(PROMPTS[0]), before)


def test_a_damaged_draft_is_refused_by_what_is_wrong(session: LlamaSession, tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(b"no model")

    with pytest.raises(Refused, match=r"model\.gguf"):
        session.load_draft(artifact("gguf", tmp_path), 4)


def test_a_draft_of_a_shorter_context_is_refused(session: LlamaSession, tmp_path: Path) -> None:
    hf = artifact("hf", make(tmp_path / "hf", max_position_embeddings=64))
    short = run(Gguf(), hf, tmp_path / "short")[0]

    with pytest.raises(Refused, match="longer than the 64 the model was trained on"):
        session.load_draft(short, 4)
