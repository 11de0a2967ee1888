"""What Prefect is told of a run whose version the registry did not take."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from prefects import own_server

from stages.base import ROOT

pytestmark = pytest.mark.slow
HERE = Path(__file__).parent


def message(api: str) -> str:
    kind = {"Content-Type": "application/json"}
    with urllib.request.urlopen(urllib.request.Request(f"{api}/flow_runs/filter", b"{}", kind), timeout=60) as answer:
        (run,) = json.load(answer)
    return str(run["state"]["message"])


def test_flow_says_promoted_only_of_what_the_registry_took(tmp_path: Path) -> None:
    with own_server(tmp_path / "server") as child:
        api = child.service.health.removesuffix("/health")
        own = {"PREFECT_API_URL": api, "PREFECT_HOME": str(tmp_path / "server"), "PYTHONPATH": f"{HERE}:{ROOT}"}
        command = [sys.executable, str(HERE / "untaken_run.py"), str(tmp_path)]
        ended = subprocess.run(command, env=os.environ | own, capture_output=True, text=True, check=True)
        said = message(api)

    assert said == "every budget passed; kept: the registry did not answer"
    assert ended.stdout == "the registry did not answer"
