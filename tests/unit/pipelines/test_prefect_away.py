"""Prefect's server goes away in the middle of a run: the run finishes, and the server knows of it if it comes back."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from prefects import own_server

from pipelines.stack.service import Child
from stages.base import ROOT

pytestmark = pytest.mark.slow
HERE = Path(__file__).parent
LIMIT_S = 300


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Child]:
    with own_server(tmp_path / "server") as child:
        yield child


def started(server: Child, folder: Path, retries: int) -> subprocess.Popen[str]:
    """A run that kills its server."""
    variables = {
        "PREFECT_API_URL": server.service.health.removesuffix("/health"),
        "PREFECT_CLIENT_MAX_RETRIES": str(retries),
        "PYTHONPATH": f"{HERE}:{ROOT}",
    }
    return subprocess.Popen(
        [sys.executable, HERE / "away_run.py", folder, str(server.pid)],
        env=os.environ | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def await_death(server: Child) -> None:
    deadline = time.monotonic() + LIMIT_S
    while server.exit_code is None and time.monotonic() < deadline:
        time.sleep(0.1)


def flow_runs(server: Child) -> list[tuple[str, str]]:
    """Name and state of each."""
    url = server.service.health.replace("/health", "/flow_runs/filter")
    request = urllib.request.Request(url, json.dumps({}).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return [(each["name"], each["state_type"]) for each in json.load(answer)]


def test_server_that_is_away_and_comes_back_loses_nothing(server: Child, tmp_path: Path) -> None:
    run = started(server, tmp_path, retries=5)
    await_death(server)
    time.sleep(3)
    server.restart()
    said, _ = run.communicate(timeout=LIMIT_S)
    server.wait_until_well()

    assert (said, run.returncode) == ("passed", 0)
    assert flow_runs(server) == [("dummy", "COMPLETED")]


def test_run_finishes_without_a_server_that_stays_away(server: Child, tmp_path: Path) -> None:
    run = started(server, tmp_path, retries=0)
    said, _ = run.communicate(timeout=LIMIT_S)

    assert (said, run.returncode) == ("passed", 0)
    assert (tmp_path / "run" / "run.json").is_file()
