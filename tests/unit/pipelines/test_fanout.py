"""Configs beside each other: how many, each in a process of its own, ended together."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from commanding import Command, home, tapeout
from dummies import Bench
from fanned import HERE, order

from pipelines import comparing_runs
from pipelines.errors import BudgetExceeded, Interrupted, SourceError, ToolFailed, UserError
from pipelines.fanout import workers
from pipelines.fanout.following import followed
from pipelines.fanout.order import ORDER, Ended, Order, left
from pipelines.fanout.process import carry_out
from pipelines.fanout.workers import Fanning, fanning
from pipelines.parsing import parse
from pipelines.records import RunRecord

__all__ = ["home", "tapeout"]


@pytest.fixture(autouse=True)
def _children(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(HERE))


def ready(folder: Path, name: str = "one", *overrides: str) -> Order:
    made = order(folder, name, *overrides)
    made.folder.mkdir(parents=True)
    left(made.folder, ORDER, made)
    return made


def loaded(folder: Path, *names: str, more: str = "") -> list:  # type: ignore[type-arg]
    found = [order(folder, name).config for name in names]
    return [parse(config, [more] if more else []) for config in found]


def after(begun: Path, then: Callable[[], None]) -> threading.Thread:
    def wait() -> None:
        while not begun.exists():
            time.sleep(0.05)
        then()

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


def test_two_run_at_once_unless_told_otherwise(tmp_path: Path) -> None:
    three = loaded(tmp_path, "a", "b", "c")

    assert fanning(three, None, "threads", prefect=True) == Fanning(2, "threads")
    assert fanning(three[:1], None, "threads", prefect=True) == Fanning(1, "threads")
    assert fanning(three, 3, "threads", prefect=True) == Fanning(3, "threads")
    assert fanning(three, None, "threads", prefect=False) == Fanning(1, "threads")


def test_configs_that_measure_speed_follow_each_other(tmp_path: Path) -> None:
    timed = loaded(tmp_path, "a", "b", more="evaluation.speed={pairs: 3}")

    assert fanning(timed, None, "threads", prefect=True) == Fanning(1, "threads")
    assert not fanning(timed, 1, "threads", prefect=True).beside
    with pytest.raises(UserError) as caught:
        fanning([timed[0], *loaded(tmp_path, "b")], 2, "threads", prefect=True)
    assert str(caught.value) == (
        f"{tmp_path}/a.yaml measures speed, which a config beside it would disturb (--set evaluation.speed=null)\n\n"
        "hint: one after the other: --workers 1, which is the default here"
    )


def test_configs_of_one_name_follow_each_other(tmp_path: Path) -> None:
    twice = loaded(tmp_path, "a", "a")

    assert fanning(twice, None, "threads", prefect=True).workers == 1
    with pytest.raises(UserError, match="2 configs are called a: beside each other they would write one bundle"):
        fanning(twice, 2, "threads", prefect=True)


def test_task_runner_that_is_not_installed_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(workers.MODULES, "ray", "no_such_package")

    with pytest.raises(UserError) as caught:
        fanning(loaded(tmp_path, "a"), None, "ray", prefect=True)
    assert str(caught.value) == (
        "the task runner `ray` is not installed\n\n"
        "hint: make setup EXTRAS=ray, or pip install 'tapeout[ray]'; `threads` needs nothing"
    )


def test_workers_without_prefect_are_refused(tapeout: Command, tmp_path: Path) -> None:
    ended = tapeout("compare", order(tmp_path, "a").config, "--workers", "2", "--no-prefect")

    assert ended.code == 2
    assert "more than one worker needs Prefect, whose task runners start them" in ended.err


def test_config_runs_in_a_process_of_its_own_as_it_would_in_this_one(tmp_path: Path) -> None:
    beside = carry_out(ready(tmp_path, "dummy")).record
    here = Bench(tmp_path).run().record

    assert beside is not None
    assert beside.status == "passed"
    assert [stage.artifact for stage in beside.stages] == [stage.artifact for stage in here.stages]
    assert beside.stages[-1].report == here.stages[-1].report
    assert here.stages[-1].cached  # one store


@pytest.mark.parametrize(
    ("override", "kind", "message"),
    [
        ("steps.dummy.noise=1.5", BudgetExceeded, "perplexity rose "),
        ("steps.dummy.fail=refuse", UserError, "`dummy`: the dummy was told to refuse"),
        ("steps.dummy.fail=segfault", ToolFailed, "the process of `one` was killed by SIGSEGV\n  | one begins"),
        ("steps.dummy.fail=raise", ToolFailed, "the process of `one` ended with exit code 1\n  | "),
    ],
)
def test_config_that_does_not_pass_says_why_from_its_process(
    tmp_path: Path, override: str, kind: type, message: str
) -> None:
    made = ready(tmp_path, "one", override)
    outcome = carry_out(made).outcome(parse(made.config))

    assert type(outcome.error) is kind
    assert str(outcome.error).startswith(message)
    assert outcome.record.status == ("halted" if kind is BudgetExceeded else "failed")
    assert outcome.record.message in str(outcome.error)


def test_config_that_was_not_begun_when_all_were_stopped_is_not_begun(tmp_path: Path) -> None:
    made = ready(tmp_path)
    (made.folder.parent / "stop").touch()

    outcome = carry_out(made).outcome(parse(made.config))

    assert isinstance(outcome.error, Interrupted)
    assert outcome.record.status == "interrupted"
    assert not (made.folder / "begun").exists()


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["stop"], "interrupted; the store is clean, the next run goes on at this stage"),
        (["stop", "kill"], "interrupted; its process was killed before it could end by itself"),
    ],
)
def test_config_in_hand_ends_when_all_are_stopped(
    tmp_path: Path, files: list[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = ready(tmp_path, "one", "steps.dummy.fail=hang")
    if "kill" in files:
        monkeypatch.setattr("pipelines.fanout.process.signal.SIGTERM", signal.SIGCONT)

    def stop() -> None:
        for file in files:
            (made.folder.parent / file).touch()

    thread = after(made.folder / "begun", stop)
    ended = carry_out(made)
    thread.join()

    assert ended.problem is not None
    assert ended.problem.exit_code == 130
    assert ended.problem.message == message
    assert "kill" in files or list((tmp_path / "home/store/work").iterdir()) == []


def test_whole_lines_are_told_behind_the_configs_name(tmp_path: Path) -> None:
    orders = [ready(tmp_path, "one"), ready(tmp_path, "another")]
    lines: list[str] = []
    with followed(orders, lines.append):
        (orders[0].folder / "log").write_text("source: done\n\nhalf a li")
        (orders[1].folder / "log").write_text("dummy: done\n")
        while len(lines) < 2:
            time.sleep(0.05)
        with (orders[0].folder / "log").open("a") as log:
            log.write("ne\n")

    assert sorted(lines[:2]) == ["another  dummy: done", "one      source: done"]
    assert lines[2:] == ["one      half a line"]


def test_config_that_cannot_begin_does_not_keep_the_next_from_running(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def launch(config: Path, *_: object) -> object:
        if config.stem == "a":
            raise SourceError("it is gone", "look for it")
        return comparing_runs.Outcome(record(config), None)

    def record(config: Path) -> RunRecord:
        made = Ended.early(Interrupted("")).outcome(parse(config)).record
        return made.model_copy(update={"status": "passed"})

    monkeypatch.setattr(comparing_runs, "launch", launch)
    configs = [order(tmp_path, name).config for name in ("a", "b")]
    choices = comparing_runs.Choices(tmp_path / "dist", quiet=True, prefect=False)

    first, second = comparing_runs.compare_runs(configs, (), choices, mlflow=False)

    assert (first.record.status, first.record.message, str(first.error)) == (
        "failed", "it is gone", "it is gone\n\nhint: look for it",
    )  # fmt: skip
    assert (second.record.status, second.error) == ("passed", None)
