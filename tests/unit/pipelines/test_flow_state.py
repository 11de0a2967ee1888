"""What Prefect is told of a run whose version the registry did not take."""

from __future__ import annotations

import json
import os
import urllib.request
from pathlib import Path

import pytest
from dummies import Bench
from prefects import own_server, spoken_to
from tracks import Answering

from pipelines import flow
from pipelines.outcome import Ending
from pipelines.tracking.lines import UNANSWERED, Tracked

pytestmark = pytest.mark.slow


def message(api: str) -> str:
    kind = {"Content-Type": "application/json"}
    with urllib.request.urlopen(urllib.request.Request(f"{api}/flow_runs/filter", b"{}", kind), timeout=60) as answer:
        (run,) = json.load(answer)
    return str(run["state"]["message"])


def test_flow_says_promoted_only_of_what_the_registry_took(tmp_path: Path) -> None:
    bench, answer = Bench(tmp_path), Tracked(model_version="dummy/1", not_promoted=UNANSWERED)
    pipeline = bench.pipeline("promotion={metric: perplexity}", tracker=Answering(answer))
    ending = Ending(tmp_path / "run", tmp_path / "dist")
    ending.folder.mkdir()
    with own_server(tmp_path / "server") as child, spoken_to(child, PREFECT_LOGGING_TO_API_ENABLED="false"):
        outcome = flow.run(pipeline, ending)
        said = message(os.environ["PREFECT_API_URL"])

    assert said == "every budget passed; kept: the registry did not answer"
    assert outcome.missing == "the registry did not answer"
