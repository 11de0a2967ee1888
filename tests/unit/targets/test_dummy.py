from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages.base import Artifact, Context, Refused
from targets.base import TextSession
from targets.dummy import VOCABULARY, Dummy, DummySession, write_model

TEXT = "the cat sat on the mat, and the mat lay on the floor. " * 20


def artifact(path: Path) -> Artifact:
    return Artifact(kind="dummy", path=path, digest="0")


def folder(path: Path) -> Path:
    path.mkdir()
    return path


@pytest.fixture
def model(tmp_path: Path) -> Artifact:
    made = folder(tmp_path / "model")
    write_model(made, TEXT)
    return artifact(made)


def noisy(model: Artifact, out: Path, noise: float) -> Artifact:
    Dummy(noise=noise).run(model, Context(out=folder(out), scratch=out, seed=1))
    return artifact(out)


def opened(model: Artifact) -> DummySession:
    return Dummy().open(model, threads=1, context_length=16)


def loss(model: Artifact) -> float:
    session = opened(model)
    tokens = session.encode(TEXT)
    logits = session.logits(tokens)[:-1]
    logits = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    return float(-logits[np.arange(len(logits)), tokens[1:]].mean())


def test_a_session_is_a_text_session(model: Artifact) -> None:
    session = opened(model)

    assert isinstance(session, TextSession)
    assert session.logits(session.encode("abc")).shape == (3, VOCABULARY)


def test_the_model_predicts_its_text_better_than_chance(model: Artifact) -> None:
    assert loss(model) < 0.6 * np.log(VOCABULARY)


def test_noise_damages_quality_in_order(model: Artifact, tmp_path: Path) -> None:
    losses = [loss(noisy(model, tmp_path / str(noise), noise)) for noise in (0.0, 0.5, 2.0)]

    assert losses == sorted(losses)
    assert losses[0] == pytest.approx(loss(model))


def test_the_same_seed_gives_the_same_bytes(model: Artifact, tmp_path: Path) -> None:
    first, second = (noisy(model, tmp_path / name, 1.0).path / "dummy.json" for name in "ab")

    assert first.read_bytes() == second.read_bytes()


def test_generation_is_greedy_and_takes_the_delay(model: Artifact) -> None:
    session = Dummy(delay_s=0.002).open(model, threads=1, context_length=16)
    prompt = session.encode("the c")
    made = session.generate(prompt, 6)

    rows = session.logits(np.array([prompt[-1], *made.tokens[:-1]], dtype=np.int32))
    assert made.tokens == tuple(rows.argmax(axis=1).tolist())
    assert len(made.seconds) == 6
    assert min(made.seconds) >= 0.002


@pytest.mark.parametrize(("fail", "error"), [("raise", RuntimeError), ("refuse", Refused), ("oom", MemoryError)])
def test_it_fails_as_told(model: Artifact, tmp_path: Path, fail: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        Dummy(fail=fail).run(model, Context(out=tmp_path, scratch=tmp_path))


def test_an_artifact_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"there is no dummy\.json in the artifact"):
        opened(artifact(tmp_path))
