from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
from dummies import Bench
from tracks import Answering

from configs import RIGHT
from pipelines.config import LoadedConfig
from pipelines.errors import BudgetExceeded, UserError
from pipelines.fields.source import PathSource
from pipelines.launch import Choices, Found, launch_checkpoint
from pipelines.outcome import Outcome
from pipelines.parsing import parse
from pipelines.tracking.lines import UNANSWERED, Tracked
from pipelines.watching.attempt import attempt
from pipelines.watching.content import digest_of
from pipelines.watching.event import emit, waits
from pipelines.watching.finding import FolderFinder
from pipelines.watching.ledger import Checkpoint, Ledger
from pipelines.watching.source import overrides_for
from pipelines.watching.trigger import FolderTrigger
from pipelines.watching.watcher import Watcher, finder_of

MARKED = FolderTrigger(folder=Path("landing"), marker=".done")


class Landing:
    """A watched folder, its ledger, and what a watcher of it announces and says."""

    def __init__(self, folder: Path, trigger: str = "{folder: landing, marker: .done}") -> None:
        self.home, self.landing = folder / "home", folder / "landing"
        self.landing.mkdir()
        (folder / "model.gguf").write_text("a model")
        (folder / "a.yaml").write_text(RIGHT + f"trigger: {trigger}\n")
        self.loaded: LoadedConfig = parse(folder / "a.yaml")
        self.announced: list[str] = []
        self.said: list[str] = []
        self.problem = ""

    def watcher(self, waits: Callable[[Checkpoint], bool] = lambda _: False) -> Watcher:
        return Watcher(self.loaded, self.home, self._announce, self.said.append, waits)

    def drop(self, name: str, content: str, marker: str = ".done") -> Path:
        (self.landing / name).write_text(content)
        if marker:
            (self.landing / f"{name}{marker}").touch()
        return self.landing / name

    def _announce(self, checkpoint: Checkpoint) -> str:
        self.announced.append(checkpoint.name)
        return self.problem

    def decide(self, number: int = 1, state: str = "passed") -> None:
        ledger = Ledger(self.home, "small")
        ledger.update(ledger.all()[number - 1].digest, state=state)

    def states(self) -> dict[str, str]:
        return {known.name: known.state for known in Ledger(self.home, "small").all()}


@pytest.fixture
def landing(tmp_path: Path) -> Landing:
    return Landing(tmp_path)


def test_a_checkpoint_starts_a_run_once_its_marker_is_there(landing: Landing) -> None:
    watcher = landing.watcher()
    checkpoint = landing.drop("a.gguf", "half", marker="")
    watcher.step()
    assert landing.announced == []

    checkpoint.write_text("whole")
    (landing.landing / "a.gguf.done").touch()
    watcher.step()
    watcher.step()

    assert landing.announced == ["a.gguf"]
    (known,) = Ledger(landing.home, "small").all()
    assert known.overrides == (f"source={{path: '{checkpoint}', sha256: '{known.digest}'}}",)


def test_a_folder_is_whole_with_a_marker_inside_which_is_no_part_of_its_bytes(tmp_path: Path) -> None:
    finder, folder = FolderFinder(MARKED, tmp_path), tmp_path / "landing" / "step-100"
    folder.mkdir(parents=True)
    (folder / "weights").write_text("whole")
    assert list(finder.look()) == []

    (folder / ".done").touch()
    (found,) = finder.look()
    (folder / ".done").unlink()

    assert found.digest == digest_of(folder, None)


def test_without_a_marker_a_checkpoint_is_whole_after_a_quiet_period(tmp_path: Path) -> None:
    trigger = FolderTrigger(folder=tmp_path / "landing", quiet_s=0.3)
    finder, file = FolderFinder(trigger, tmp_path), tmp_path / "landing" / "a.gguf"
    file.parent.mkdir()
    with file.open("w") as writing:
        for _ in range(4):
            writing.write("part")
            writing.flush()
            assert list(finder.look()) == []
            time.sleep(0.1)
    assert list(finder.look()) == []
    time.sleep(0.35)

    assert [found.name for found in finder.look()] == ["a.gguf"]


def test_an_old_file_time_makes_nothing_whole(tmp_path: Path) -> None:
    file = tmp_path / "a.gguf"
    file.write_text("half")
    os.utime(file, (1, 1))

    assert list(FolderFinder(FolderTrigger(folder=tmp_path, quiet_s=5), tmp_path).look()) == []


def test_two_that_land_together_run_one_after_the_other_in_order(landing: Landing) -> None:
    watcher = landing.watcher()
    for age, name in ((20, "first.gguf"), (10, "second.gguf")):
        os.utime(landing.drop(name, name, marker=""), (time.time() - age,) * 2)
        (landing.landing / f"{name}.done").touch()

    watcher.step()
    watcher.step()
    assert landing.announced == ["first.gguf"]
    landing.decide(1)
    watcher.step()

    assert landing.announced == ["first.gguf", "second.gguf"]


def test_the_same_bytes_under_a_new_name_start_no_run_not_even_after_a_restart(landing: Landing) -> None:
    landing.drop("a.gguf", "bytes")
    landing.watcher().step()
    landing.decide()
    landing.drop("b.gguf", "bytes")

    landing.watcher().step()

    assert landing.announced == ["a.gguf"]
    assert landing.states() == {"a.gguf": "passed"}
    assert [line.partition(", sha256")[0] for line in landing.said[-2:]] == [
        "a.gguf: the same bytes as a.gguf",
        "b.gguf: the same bytes as a.gguf",
    ]


def test_new_bytes_under_an_old_name_are_a_new_checkpoint(landing: Landing) -> None:
    watcher = landing.watcher()
    landing.drop("latest.gguf", "bytes")
    watcher.step()
    landing.decide()
    landing.drop("latest.gguf", "other bytes")

    watcher.step()

    assert landing.announced == ["latest.gguf", "latest.gguf"]


def test_a_folder_that_disappears_is_said_once_and_watched_again(landing: Landing) -> None:
    watcher = landing.watcher()
    landing.landing.rmdir()
    watcher.step()
    watcher.step()
    landing.landing.mkdir()
    landing.drop("a.gguf", "bytes")
    watcher.step()

    assert landing.said[0] == f"{landing.landing}: cannot be watched: No such file or directory"
    assert landing.said[2] == "small: can be watched again"
    assert landing.announced == ["a.gguf"]


def test_a_server_that_does_not_take_the_event_is_told_again(landing: Landing) -> None:
    watcher = landing.watcher()
    landing.drop("a.gguf", "bytes")
    landing.problem = "Prefect does not take the event"
    watcher.step()
    assert landing.states() == {"a.gguf": "waiting"}

    landing.problem = ""
    watcher.step()

    assert landing.announced == ["a.gguf", "a.gguf"]
    assert landing.states() == {"a.gguf": "announced"}


@pytest.mark.slow
def test_a_run_that_was_killed_is_started_again_and_the_third_time_set_aside(tmp_path: Path) -> None:
    landing = Landing(tmp_path, "{folder: landing, marker: .done, retry_after_s: 0}")
    watcher = landing.watcher()
    landing.drop("a.gguf", "bytes")
    watcher.step()
    digest = watcher.ledger.all()[0].digest
    script = (
        "import os, sys; from pathlib import Path; from pipelines.watching.ledger import Ledger\n"
        f"ledger = Ledger(Path({str(landing.home)!r}), 'small')\n"
        f"with ledger.claimed({digest!r}) as known:\n"
        "    ledger.update(known.digest, state='running', attempts=known.attempts + 1); os.kill(os.getpid(), 9)\n"
    )
    for _ in range(3):
        assert subprocess.run([sys.executable, "-c", script], check=False).returncode == -9
        watcher.step()

    assert landing.announced == ["a.gguf"] * 3
    (known,) = watcher.ledger.all()
    assert (known.state, known.attempts, known.reason) == ("aside", 3, "its run was killed")


def test_a_config_without_a_trigger_cannot_be_watched(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").touch()
    (tmp_path / "a.yaml").write_text(RIGHT)

    with pytest.raises(UserError, match="there is no `trigger` to watch"):
        finder_of(parse(tmp_path / "a.yaml"), tmp_path)


def test_prefect_that_is_away_is_a_reason(landing: Landing) -> None:
    known = Ledger(landing.home, "small").add("d", "a", ())
    assert known is not None

    assert emit("http://127.0.0.1:9/api", "small", known) == (
        "Prefect at http://127.0.0.1:9/api does not take the event: [Errno 111] Connection refused"
    )


def test_a_licence_stays_with_the_model_and_a_quote_in_a_name_is_harmless(landing: Landing) -> None:
    source = PathSource(path=Path("model.gguf"), licence="Apache-2.0")
    config = landing.loaded.config.model_copy(update={"source": source})

    (override,) = overrides_for(config, Path("/in/it's.gguf"), "d" * 64)
    loaded = parse(landing.loaded.path, [override])

    assert loaded.config.source == PathSource(path=Path("/in/it's.gguf"), licence="Apache-2.0")


@pytest.fixture
def attempted(tmp_path: Path) -> tuple[Bench, Ledger, Checkpoint]:
    bench = Bench(tmp_path)
    ledger = Ledger(bench.home, "dummy")
    added = ledger.add("d" * 64, "step-1", ("steps.dummy.noise=0.01",))
    assert added is not None
    return bench, ledger, added


def run(bench: Bench, *more: str) -> Callable[[tuple[str, ...]], Outcome]:
    return lambda overrides: bench.run(*overrides, *more)


def test_a_checkpoint_that_passed_is_not_run_again(attempted: tuple[Bench, Ledger, Checkpoint]) -> None:
    bench, ledger, new = attempted

    outcome = attempt(ledger, new.digest, run(bench))
    assert outcome is not None
    assert outcome.record.status == "passed"
    assert attempt(ledger, new.digest, run(bench)) is None
    assert (ledger.all()[0].state, ledger.all()[0].attempts) == ("passed", 1)


def test_a_budget_halt_decides_a_checkpoint_with_its_reason(attempted: tuple[Bench, Ledger, Checkpoint]) -> None:
    bench, ledger, new = attempted

    outcome = attempt(ledger, new.digest, run(bench, "steps.dummy.noise=1.5"))

    assert outcome is not None
    assert isinstance(outcome.error, BudgetExceeded)
    assert ledger.all()[0].state == "halted"
    assert ledger.all()[0].reason == outcome.error.message
    assert attempt(ledger, new.digest, run(bench)) is None


def test_three_failures_set_a_checkpoint_aside_with_the_reason(attempted: tuple[Bench, Ledger, Checkpoint]) -> None:
    bench, ledger, new = attempted

    states = []
    for _ in range(4):
        attempt(ledger, new.digest, run(bench, "steps.dummy.fail=refuse"))
        states.append(ledger.all()[0].state)

    assert states == ["waiting", "waiting", "aside", "aside"]
    assert (ledger.all()[0].attempts, ledger.all()[0].reason) == (3, "`dummy`: the dummy was told to refuse")


@pytest.mark.parametrize(
    ("tracked", "reason"),
    [
        (Tracked(problem="away"), "the version could not be registered"),
        (Tracked(model_version="dummy/1", not_promoted=UNANSWERED), "the registry did not answer"),
    ],
)
def test_a_pass_that_the_registry_did_not_take_is_tried_again(
    attempted: tuple[Bench, Ledger, Checkpoint], tracked: Tracked, reason: str
) -> None:
    bench, ledger, new = attempted

    def carry_out(answer: Tracked) -> Callable[[tuple[str, ...]], Outcome]:
        promotes = "promotion={metric: perplexity}"
        return lambda overrides: bench.run(*overrides, promotes, tracker=Answering(answer))

    first = attempt(ledger, new.digest, carry_out(tracked))
    (known,) = ledger.all()
    assert (known.state, known.attempts, known.reason) == ("waiting", 1, f"passed, but {reason}")
    assert first is not None
    assert first.record.promotion is not None
    assert (first.record.promotion.decision, first.record.promotion.reason) == ("kept", reason)

    second = attempt(ledger, new.digest, carry_out(Tracked(model_version="dummy/1")))
    assert second is not None
    assert second.record.promotion is not None
    assert second.record.promotion.decision == "promoted"
    assert all(stage.cached for stage in second.record.stages)
    assert (ledger.all()[0].state, ledger.all()[0].reason) == ("passed", "")


def test_a_config_that_is_gone_is_an_attempt_and_the_third_sets_aside(
    landing: Landing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TAPEOUT_HOME", str(landing.home))
    watcher = landing.watcher()
    landing.drop("a.gguf", "bytes")
    watcher.step()
    (known,) = watcher.ledger.all()
    landing.loaded.path.unlink()

    states = []
    for _ in range(3):
        with pytest.raises(UserError, match="cannot be read"):
            launch_checkpoint(landing.loaded.path, (), Found(known.digest, lambda: "small"), Choices(tmp_path), None)
        states.append(watcher.ledger.all()[0].state)

    assert states == ["waiting", "waiting", "aside"]
    assert "a.yaml: cannot be read: No such file or directory" in watcher.ledger.all()[0].reason


def test_an_event_that_nothing_answers_is_sent_ever_more_rarely(landing: Landing) -> None:
    watcher = landing.watcher()
    landing.drop("a.gguf", "bytes")
    watcher.step()
    times = []
    for minutes in (3, 3, 5, 5, 9, 61, 59):
        moment = (datetime.now(UTC) - timedelta(minutes=minutes)).isoformat(timespec="seconds")
        watcher.ledger.update(watcher.ledger.all()[0].digest, announced=moment)
        watcher.step()
        times.append(len(landing.announced))

    assert times == [2, 2, 3, 3, 4, 5, 6]
    assert "tapeout deploy" in landing.said[-2]


def test_prefect_that_cannot_be_asked_is_said_once_and_no_event_is_sent(landing: Landing) -> None:
    landing.drop("a.gguf", "bytes")
    landing.watcher().step()
    watcher = landing.watcher(partial(waits, "http://127.0.0.1:9/api", "small"))
    watcher.ledger.update(watcher.ledger.all()[0].digest, announced="2026-01-01T00:00:00+00:00")

    watcher.step()
    watcher.step()

    assert landing.announced == ["a.gguf"]
    assert [line for line in landing.said if "asked" in line] == [
        "Prefect at http://127.0.0.1:9/api cannot be asked for flow_runs: [Errno 111] Connection refused"
    ]


def test_a_checkpoint_in_another_runs_hands_is_left_to_it(attempted: tuple[Bench, Ledger, Checkpoint]) -> None:
    bench, ledger, new = attempted

    with ledger.claimed(new.digest) as known:
        assert known == new
        assert attempt(ledger, new.digest, run(bench)) is None


def test_downloads_of_decided_checkpoints_are_removed_but_for_the_latest(landing: Landing) -> None:
    watcher = landing.watcher()
    for number in range(8):
        watcher.ledger.add(f"{number}", f"{number}.gguf", ())
        place = watcher.ledger.folder / "incoming" / f"{number}"
        place.mkdir(parents=True)
        (place / "model.gguf").write_text("bytes")
    for number in range(7):
        landing.decide(number + 1)

    watcher.step()

    assert sorted(place.name for place in (watcher.ledger.folder / "incoming").iterdir()) == [
        "2",
        "3",
        "4",
        "5",
        "6",
        "7",
    ]
