from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pipelines.runner import InlineRunner, LiveSession
from pipelines.sessions import Sessions, Subject
from stages.base import Artifact
from targets.base import Target
from targets.dummy import Dummy, write_model


class Counting(InlineRunner):
    """Writes down what is opened and closed."""

    def __init__(self) -> None:
        self.events: list[str] = []

    @contextmanager
    def open(
        self, target: Target, artifact: Artifact, threads: int, context_length: int, log: Path
    ) -> Iterator[LiveSession]:
        name = f"{artifact.digest[0]} {target.model_dump()['delay_s']:g} {context_length}"
        self.events.append(f"open {name}")
        with super().open(target, artifact, threads, context_length, log) as session:
            yield session
        self.events.append(f"close {name}")


@pytest.fixture
def runner() -> Counting:
    return Counting()


@pytest.fixture
def sessions(runner: Counting, tmp_path: Path) -> Sessions:
    return Sessions(runner, 1, tmp_path)


def subject(tmp_path: Path, digit: str = "a", delay_s: float = 0.0) -> Subject:
    write_model(tmp_path, "a text of bigrams")
    return Subject(Artifact(kind="dummy", path=tmp_path, digest=digit * 64), Dummy(delay_s=delay_s))


def test_session_is_opened_once(sessions: Sessions, runner: Counting, tmp_path: Path) -> None:
    wanted = subject(tmp_path)

    assert sessions.of(wanted, 512) is sessions.of(wanted, 512) is sessions.of(wanted, 100)
    assert runner.events == ["open a 0 512"]


def test_target_with_other_fields_gets_a_session_of_its_own(
    sessions: Sessions, runner: Counting, tmp_path: Path
) -> None:
    """The reference in float32 and a candidate in bfloat16 may lie in one and the same artifact."""
    one, other = subject(tmp_path), subject(tmp_path, delay_s=0.001)

    assert sessions.of(one, 512) is not sessions.of(other, 512)
    assert runner.events == ["open a 0 512", "open a 0.001 512"]
    assert one.name != other.name


def test_longer_context_opens_the_session_anew(sessions: Sessions, runner: Counting, tmp_path: Path) -> None:
    sessions.of(subject(tmp_path), 512)
    sessions.of(subject(tmp_path), 600)

    assert runner.events == ["open a 0 512", "close a 0 512", "open a 0 600"]


def test_one_session_or_all_are_closed(sessions: Sessions, runner: Counting, tmp_path: Path) -> None:
    for digit in "abc":
        sessions.of(subject(tmp_path, digit), 512)

    sessions.close(subject(tmp_path, "b"))
    sessions.close(subject(tmp_path, "d"))
    sessions.close_all()
    sessions.close_all()

    assert runner.events[3:] == ["close b 0 512", "close c 0 512", "close a 0 512"]
