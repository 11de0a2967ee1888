"""Prefect's server goes away in the middle of a run: the run finishes, and the server knows of it if it comes back."""

from __future__ import annotations

import json
import threading
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from dummies import Bench
from prefects import own_server, spoken_to

from pipelines import flow
from pipelines.outcome import Ending, Outcome, conclude
from pipelines.process import Learning, ignore
from pipelines.requests import RunRequest
from pipelines.runner import InlineRunner
from pipelines.stack.service import Child
from stages.base import Produced

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # of Prefect, whose server is gone


class Disturbed(InlineRunner):
    """Something happens before each stage."""

    def __init__(self, before: Callable[[], None]) -> None:
        self._before = before

    def run(self, request: RunRequest, log: Path, timeout_s: float, learning: Learning = ignore) -> Produced:
        self._before()
        return super().run(request, log, timeout_s, learning)


@pytest.fixture
def server(tmp_path: Path, retries: int) -> Iterator[Child]:
    with own_server(tmp_path / "server") as child, spoken_to(child, PREFECT_CLIENT_MAX_RETRIES=str(retries)):
        yield child


def run(bench: Bench, before: Callable[[], None]) -> Outcome:
    pipeline, ending = bench.pipeline(runner=Disturbed(before)), Ending(bench.folder / "run", bench.folder / "dist")
    ending.folder.mkdir()
    return conclude(flow.run(pipeline, ending), pipeline, ending)


def flow_runs(server: Child) -> list[tuple[str, str]]:
    """Name and state of each."""
    url = server.service.health.replace("/health", "/flow_runs/filter")
    request = urllib.request.Request(url, json.dumps({}).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return [(each["name"], each["state_type"]) for each in json.load(answer)]


@pytest.mark.parametrize("retries", [5])
def test_server_that_is_away_and_comes_back_loses_nothing(server: Child, tmp_path: Path) -> None:
    def away() -> None:
        server.stop()
        threading.Timer(3, server.restart).start()

    outcome = run(Bench(tmp_path), away)
    server.wait_until_well()

    assert outcome.error is None
    assert outcome.record.status == "passed"
    assert flow_runs(server) == [("dummy", "COMPLETED")]


@pytest.mark.parametrize("retries", [0])
def test_run_finishes_without_a_server_that_stays_away(server: Child, tmp_path: Path) -> None:
    outcome = run(Bench(tmp_path), server.stop)

    assert outcome.error is None
    assert outcome.record.bundle is not None
    assert (tmp_path / "run" / "run.json").is_file()
