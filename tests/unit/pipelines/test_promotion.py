from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest
from dummies import Bench
from pydantic import ValidationError
from samples import DEVICE, run_record
from test_tracking import start_of

from configs import RIGHT, Folder
from pipelines.measures import Interval, Report, metric
from pipelines.mlflow_process import database, writer
from pipelines.outcome import Ending, execute
from pipelines.promotion import FIRST, Champion, Promoted, Promotion, decide
from pipelines.records import RunRecord, Status
from pipelines.tracking import champions
from pipelines.tracking.lines import Attachments, Tracked
from pipelines.tracking.sending import MlflowTracker
from pipelines.tracking.tracker import NullTracker

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

ANY = Promotion(metric="perplexity")


def report(change: tuple[float, float, float], size_change: float = 0.0) -> Report:
    """A challenger of perplexity 30 and 100 MB, with its paired changes to the champion."""
    value, low, high = change
    found = metric(
        "perplexity",
        Interval(value=30.0, low=29.0, high=31.0),
        n=16,
        how="",
        change=Interval(value=value, low=low, high=high),
        relative=Interval(value=value / 31, low=low / 31, high=high / 31),
    )
    flat = Interval(value=size_change, low=size_change, high=size_change)
    size = metric("size_bytes", Interval(value=1e8, low=1e8, high=1e8), n=1, how="", change=flat)
    return Report(artifact="a", stage="s", device=DEVICE, metrics={"perplexity": found, "size_bytes": size})


def test_a_gain_beyond_its_interval_is_promoted() -> None:
    promoted = decide(ANY, report((-1.0, -1.2, -0.8)), "3")

    assert (promoted.decision, promoted.champion) == ("promoted", "3")
    assert promoted.reason == "perplexity 31 -> 30 (gain 1, interval 0.8..1.2)"


def test_a_gain_that_may_be_none_keeps_the_champion() -> None:
    promoted = decide(ANY, report((-0.1, -0.3, 0.1)), "3")

    assert promoted.decision == "kept"
    assert promoted.reason == "perplexity 30.10 -> 30 (gain 0.1, interval -0.1..0.3), at least 0 needed"


def test_a_gain_below_the_least_keeps_the_champion() -> None:
    promotion = Promotion.model_validate({"metric": "perplexity", "min_gain": "5%"})

    promoted = decide(promotion, report((-1.0, -1.2, -0.8)), "3")

    assert promoted.decision == "kept"
    assert promoted.reason.endswith("at least 5% needed")


def test_what_may_never_be_worse_keeps_the_champion() -> None:
    promotion = Promotion(metric="perplexity", never_worse=("size_bytes",))

    assert decide(promotion, report((-1.0, -1.2, -0.8)), "3").decision == "promoted"
    worse = decide(promotion, report((-1.0, -1.2, -0.8), size_change=1e7), "3")
    assert (worse.decision, worse.reason) == ("kept", "size_bytes became worse: 90 MB -> 100 MB")


def test_a_negative_least_gain_is_no_promotion() -> None:
    with pytest.raises(ValidationError, match="min_gain"):
        Promotion(metric="perplexity", min_gain=-1)


@pytest.mark.parametrize(
    ("promotion", "mistake"),
    [
        (
            "{metric: perplexty}",
            "a.yaml: `promotion`: perplexty is not measured\n\nhint: did you mean `perplexity`?   (tapeout ls metrics)",
        ),
        (
            "{metric: perplexity, never_worse: [kl_divergence]}",
            "a.yaml: `promotion`: kl_divergence already compares with the reference, so two versions cannot be by it",
        ),
    ],
)
def test_a_promotion_by_what_cannot_be_compared_is_a_mistake(tmp_path: Path, promotion: str, mistake: str) -> None:
    assert Folder(tmp_path).mistakes(RIGHT + f"promotion: {promotion}\n") == [mistake]


class Raced:
    """A registry of which another home makes version 3 champion, right after the alias was moved for so many times."""

    def __init__(self, champion: str | None, moves: int) -> None:
        self.aliases = {"champion": champion} if champion else {}
        self._moves = moves

    def get_registered_model(self, name: str) -> Raced:
        return self

    def set_registered_model_alias(self, name: str, alias: str, version: str) -> None:
        self.aliases[alias] = version
        self._moves -= 1
        if self._moves == 0:
            self.aliases["champion"] = "3"


@pytest.mark.slow  # imports MLflow
@pytest.mark.parametrize(
    ("champion", "moves", "against"),
    [
        ("1", 9, ""),
        ("1", 2, "the champion changed meanwhile to version 3"),
        ("3", 9, "the champion changed meanwhile to version 3"),
        (None, 9, "the champion's alias was removed meanwhile"),
    ],
)
def test_another_homes_promotion_is_seen_before_and_after_the_move(
    tmp_path: Path, champion: str | None, moves: int, against: str
) -> None:
    (tmp_path / "mlflow").mkdir()

    raced = cast("MlflowClient", Raced(champion, moves))

    assert champions.promote(raced, tmp_path, "net", "2", compared_with="1") == against


class Knows(NullTracker):
    """A registry whose champion is known."""

    def __init__(self, champion: Champion | None) -> None:
        self._champion = champion

    def champion(self) -> Champion | None:
        return self._champion


def compared(bench: Bench, champion: Champion | None, *overrides: str) -> RunRecord:
    pipeline = bench.pipeline("promotion={metric: perplexity}", *overrides, tracker=Knows(champion))
    folder = bench.folder / "run"
    folder.mkdir(exist_ok=True)
    return execute(pipeline, Ending(folder, bench.folder / "dist")).record


def champion_of(bench: Bench, *overrides: str) -> Champion:
    record = bench.run(*overrides, "budgets=[]").record
    assert record.bundle is not None
    return Champion(version="1", digest=record.stages[-1].artifact or "", source=record.bundle.absolute().as_uri())


def test_the_first_version_is_champion(tmp_path: Path) -> None:
    promoted = compared(Bench(tmp_path), None).promotion

    assert promoted is not None
    assert (promoted.decision, promoted.reason, promoted.champion) == ("promoted", "there was no champion", None)


def test_a_better_version_is_measured_against_the_champion_and_promoted(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    champion = champion_of(bench, "steps.dummy.noise=0.5")

    promoted = compared(bench, champion).promotion

    assert promoted is not None
    assert (promoted.decision, promoted.champion) == ("promoted", "1")
    assert promoted.report is not None
    change = promoted.report.metrics["perplexity"].change
    assert change is not None
    assert change.high < 0


def test_a_worse_version_within_budget_leaves_the_champion_alone(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    champion = champion_of(bench)

    record = compared(bench, champion, "steps.dummy.noise=0.3", "budgets=[{metric: perplexity, max_regression: 100%}]")

    assert record.status == "passed"
    assert record.promotion is not None
    assert record.promotion.decision == "kept"
    assert "(gain -" in record.promotion.reason


def test_the_champion_itself_is_not_measured_again(tmp_path: Path) -> None:
    bench = Bench(tmp_path)

    promoted = compared(bench, champion_of(bench)).promotion

    assert promoted is not None
    assert (promoted.decision, promoted.reason) == ("kept", "it is the champion already")


def test_a_champion_that_is_gone_is_kept_with_its_reason(tmp_path: Path) -> None:
    gone = Champion(version="4", digest="f" * 64, source="file:///gone/bundle")

    record = compared(Bench(tmp_path), gone)

    assert record.status == "passed"
    assert record.promotion is not None
    assert record.promotion.reason == "the champion, version 4, is not on this machine: file:///gone/bundle"


def test_a_run_over_budget_is_compared_with_nobody(tmp_path: Path) -> None:
    record = compared(Bench(tmp_path), None, "steps.dummy.noise=1.5")

    assert (record.status, record.promotion) == ("halted", None)


@dataclass
class Registry:
    """An embedded registry with versions 1 and 2, made by runs that passed, and what was said of them."""

    home: Path

    def run(self, promoted: Promoted | None, status: Status = "passed", digest: str = "d") -> Tracked:
        record = run_record(status, 0.0139 if status == "passed" else 0.071)
        stages = (*record.stages[:-1], record.stages[-1].model_copy(update={"artifact": digest * 64}))
        bundle = self.home / "dist" / digest if status == "passed" else None
        if bundle:
            bundle.mkdir(parents=True, exist_ok=True)
        record = record.model_copy(update={"stages": stages, "promotion": promoted, "bundle": bundle})
        start = start_of(record).model_copy(update={"promotes": True})
        with writer() as process:
            tracker = MlflowTracker(self.home, process)
            tracker.start(start)
            champion = tracker.champion()
            tracker.finish(record, Attachments())
            tracked = tracker.tracked()
            assert tracked.champion == champion
            return tracked

    def one(self, query: str) -> Any:
        with closing(sqlite3.connect(database(self.home))) as connection:
            return connection.execute(query).fetchall()

    def changed(self, statement: str) -> None:
        with closing(sqlite3.connect(database(self.home), isolation_level=None)) as connection:
            connection.execute(statement)

    @property
    def aliases(self) -> dict[str, str]:
        rows = self.one("select alias, version from registered_model_aliases")
        return {alias: str(version) for alias, version in rows}

    @property
    def description(self) -> list[str]:
        ((text,),) = self.one("select description from registered_models")
        return [line if line[:2] != "- " else line.partition("UTC, ")[2] for line in text.splitlines()]


def rolled_back(home: Path, name: str) -> subprocess.CompletedProcess[str]:
    own = {key: text for key, text in os.environ.items() if key != "MLFLOW_TRACKING_URI"}
    command = [sys.executable, "-m", "pipelines.cli", "rollback", name]
    return subprocess.run(command, env={**own, "TAPEOUT_HOME": str(home)}, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_registry_follows_the_champion_through_a_promotion_a_halt_and_a_rollback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    home = tmp_path
    registry = Registry(home)
    better = Promoted(decision="promoted", reason="perplexity 31 -> 30", champion="1")

    first = registry.run(FIRST, digest="a")
    assert (first.champion, first.model_version, registry.aliases) == (None, "smol-q6k/1", {"champion": "1"})

    second = registry.run(better, digest="b")
    assert second.champion == Champion(version="1", digest="a" * 64, source=(home / "dist" / "a").as_uri())
    assert registry.aliases == {"champion": "2", "previous": "1"}

    late = registry.run(better, digest="c")  # compared with version 1, which is champion no more
    assert late.not_promoted == "the champion changed meanwhile to version 2"
    assert registry.aliases == {"champion": "2", "previous": "1"}

    registry.run(None, "halted")
    assert registry.aliases == {"champion": "2", "previous": "1"}
    assert registry.description[0] == "Champion: version 2; previous: 1"
    assert registry.description[2].startswith("no version, the run halted: perplexity rose 30.45 -> 32.61")
    assert registry.description[3:] == [
        "version 3: kept: the champion changed meanwhile to version 2",
        "version 2: promoted: perplexity 31 -> 30",
        "version 1: promoted: there was no champion",
    ]

    back = rolled_back(home, "smol-q6k")
    assert (back.returncode, back.stdout) == (0, "smol-q6k: version 1 is champion again, version 2 is previous\n")
    assert registry.aliases == {"champion": "1", "previous": "2"}
    assert registry.description[:3] == [
        "Champion: version 1; previous: 2",
        "",
        "rolled back from version 2 to version 1",
    ]


@pytest.mark.slow
def test_registry_that_fails_between_registering_and_promoting_is_asked_once_more_and_nothing_is_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    registry = Registry(tmp_path)
    registry.run(None, "halted")
    moves = "before insert on registered_model_aliases begin select raise(abort, 'gone'); end"
    registry.changed(f"create trigger gone {moves}")

    first = registry.run(FIRST, digest="a")
    assert (first.model_version, first.not_promoted) == ("smol-q6k/1", "the registry did not answer")
    assert first.problem
    assert registry.aliases == {}

    registry.changed("drop trigger gone")
    second = registry.run(FIRST, digest="a")
    assert (second.model_version, second.not_promoted, second.problem) == ("smol-q6k/1", "", "")
    assert registry.aliases == {"champion": "1"}

    registry.run(Promoted(decision="kept", reason="it is the champion already", champion="1"), digest="a")
    assert registry.one("select count(*) from model_versions") == [(1,)]
    assert registry.one("select value from model_version_tags where key = 'promotion'") == [
        ("promoted: there was no champion",)
    ]


@pytest.mark.slow
def test_rollback_without_a_previous_champion_is_the_users_mistake(tmp_path: Path) -> None:
    ended = rolled_back(tmp_path, "nobody")

    assert ended.returncode == 2
    assert "nobody has no previous champion to go back to" in ended.stderr
