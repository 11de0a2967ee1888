"""Configs beside each other by Prefect's own task runners, on a real server."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from fanned import HERE, order
from prefects import own_server, spoken_to

from pipelines.fanout.flow import fan_out
from pipelines.fanout.workers import MODULES, RUNNERS, Fanning, RunnerName
from pipelines.stack.service import Child
from stages.base import ROOT

sys.path[:0] = [str(ROOT)]  # bench is no installed package

from bench._processes import started_by  # noqa: E402

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # of Dask, Ray and what they import
INSTALLED = [
    pytest.param(name, marks=pytest.mark.skipif(find_spec(MODULES[name]) is None, reason=f"make setup EXTRAS={name}"))
    for name in RUNNERS
]
runners = pytest.mark.parametrize("runner", INSTALLED)
LIMIT_S = 300


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Child]:
    with own_server(tmp_path_factory.mktemp("prefect")) as child:
        yield child


@pytest.fixture(autouse=True)
def _here(server: Child, tmp_path: Path) -> Iterator[None]:
    with spoken_to(server, TAPEOUT_HOME=str(tmp_path / "home"), PYTHONPATH=f"{HERE}:{ROOT}"):
        yield


@runners
def test_two_configs_run_at_the_same_time_and_one_that_crashes_takes_none_with_it(
    runner: RunnerName, tmp_path: Path
) -> None:
    orders = [
        order(tmp_path, "meet-a", number=1),
        order(tmp_path, "meet-b", number=2),
        order(tmp_path, "crash", "steps.dummy.fail=segfault", number=3),
        order(tmp_path, "over", "steps.dummy.noise=1.5", number=4),
    ]

    ends = fan_out(tmp_path / "home", orders, Fanning(2, runner))

    records = [ended.record for ended in ends if ended.record]
    assert [record.status for record in records] == ["passed", "passed", "halted"], "the first two wait for each other"
    assert records[0].stages[-1].artifact == records[1].stages[-1].artifact
    problem = ends[2].problem
    assert problem is not None
    assert problem.message.startswith("the process of `crash` was killed by SIGSEGV")


@runners
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_configs_end_together_and_leave_no_process(runner: RunnerName, number: signal.Signals, tmp_path: Path) -> None:
    command = [sys.executable, HERE / "fanned.py", runner, tmp_path, "a", "b", "c"]
    with (tmp_path / "out").open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, start_new_session=True)
        begun = [tmp_path / "fan/1-a/begun", tmp_path / "fan/2-b/begun"]
        wait_for(lambda: all(file.exists() for file in begun), tmp_path / "out")
        if number == signal.SIGINT:  # a terminal's ^C is for every process of the group
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)
        process.wait(LIMIT_S)

    wait_for(lambda: not started_by(tmp_path / "home"), tmp_path / "out")
    assert not (tmp_path / "fan/3-c/begun").exists()
    if number != signal.SIGKILL:
        lines = (tmp_path / "out").read_text().splitlines()[-3:]
        clean = "interrupted; the store is clean, the next run goes on at this stage"
        assert lines == [clean, clean, "interrupted before it was started"]


def wait_for(condition: Callable[[], bool], out: Path) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < deadline, out.read_text()
        time.sleep(0.1)
