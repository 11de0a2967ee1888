"""What starts by the event of a checkpoint, on a real Prefect server without a worker: its runs wait."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from prefects import spoken_to

from configs import RIGHT
from pipelines import deployments
from pipelines.deployments import Order
from pipelines.parsing import parse
from pipelines.stack.flow_runs import FlowRuns
from pipelines.stack.ports import free_port
from pipelines.stack.service import Child
from pipelines.stack.services import POOL, Places, prefect_server
from pipelines.watching.event import emit
from pipelines.watching.ledger import Checkpoint

pytestmark = pytest.mark.slow
TRIGGER = "trigger: {folder: landing, marker: .done}\n"
LANDED = Checkpoint(digest="d" * 64, number=1, name="step-1.gguf", overrides=(), seen="")
SETTLING_S, LIMIT_S = 5.0, 120.0


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Of a server that acts on events."""
    home = tmp_path_factory.mktemp("home")
    with Child(prefect_server(Places(home, prefect_port=free_port()))) as server:
        server.wait_until_well()
        with spoken_to(server, TAPEOUT_HOME=str(home)):
            yield os.environ["PREFECT_API_URL"]


def deployed(folder: Path, name: str) -> None:
    (folder / "model.gguf").touch()
    (folder / "a.yaml").write_text(RIGHT.replace("name: small", f"name: {name}") + TRIGGER)
    deployments.deploy(parse(folder / "a.yaml"), Order(dist=folder))


def runs(api: str) -> list[str]:
    """The checkpoints of those that wait."""
    found = FlowRuns(Path(), api, POOL)._unfinished({}, {}, "SCHEDULED", "PENDING")
    return [run["parameters"]["checkpoint"] for run in found]


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_a_paused_deployment_starts_nothing_by_an_event_until_it_is_resumed(api: str, tmp_path: Path) -> None:
    deployed(tmp_path, "paused")
    deployments.pause("paused")
    assert [known.paused for known in deployments.listed() if known.name == "paused"] == [True]

    assert emit(api, "paused", LANDED) == ""
    time.sleep(SETTLING_S)
    assert runs(api) == []

    deployments.pause("paused", paused=False)
    time.sleep(SETTLING_S)
    assert emit(api, "paused", LANDED) == ""
    until(lambda: runs(api) == [LANDED.digest])
