"""What starts by the event of a checkpoint, on a real Prefect server without a worker: its runs wait."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
from prefects import spoken_to

from configs import RIGHT
from pipelines import deployments
from pipelines.deployments import Order
from pipelines.parsing import parse
from pipelines.stack.flow_runs import FlowRuns, crashed
from pipelines.stack.ports import free_port
from pipelines.stack.service import Child
from pipelines.stack.services import POOL, Places, prefect_server
from pipelines.watching.event import emit, waits
from pipelines.watching.ledger import Checkpoint, Ledger
from pipelines.watching.lost import Announced

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


def ended(api: str, checkpoint: str) -> None:
    flow_runs = FlowRuns(Path(), api, POOL)
    for run in flow_runs._unfinished({}, {}, "SCHEDULED", "PENDING"):
        if run["parameters"]["checkpoint"] == checkpoint:
            flow_runs._end(run, crashed("ended by the test"))


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


def test_a_run_that_waits_is_not_announced_again_and_one_that_ended_is(api: str, tmp_path: Path) -> None:
    deployed(tmp_path, "waiting")
    loaded = parse(tmp_path / "a.yaml")
    ledger = Ledger(tmp_path / "home", "waiting")
    known = ledger.add("e" * 64, "step-2.gguf", ())
    assert known is not None
    said: list[str] = []
    announced = Announced(ledger, loaded.path, partial(waits, api, "waiting"), said.append)

    def late() -> Checkpoint:
        moment = (datetime.now(UTC) - timedelta(hours=2)).isoformat(timespec="seconds")
        return ledger.update(known.digest, state="announced", announced=moment)

    assert announced.is_lost(late())  # nothing was sent

    assert emit(api, "waiting", known) == ""
    until(lambda: known.digest in runs(api))
    assert not announced.is_lost(late())
    assert not announced.is_lost(ledger.all()[0])  # asked just now

    ended(api, known.digest)
    assert announced.is_lost(late())
    assert said == [
        f"step-2.gguf: 2 events found no run that took it up; deploy its config anew: tapeout deploy {loaded.path}   "
        "(the next event comes in 8 min 0 s)"
    ]

    deployments.pause("waiting")
    assert not announced.is_lost(late())


def test_a_deployment_whose_config_is_gone_has_made_an_attempt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipelines.deployed import tapeout

    monkeypatch.setenv("TAPEOUT_HOME", str(tmp_path))
    monkeypatch.setenv("PREFECT__RUNTIME__DEPLOYMENT__NAME", "gone")
    monkeypatch.chdir(tmp_path)  # the flow changes it
    ledger = Ledger(tmp_path, "gone")
    known = ledger.add("f" * 64, "step-3.gguf", ())
    assert known is not None

    state = tapeout.fn(str(tmp_path / "gone.yaml"), [], str(tmp_path), known.digest)

    assert state.is_failed()
    (known,) = ledger.all()
    assert (known.state, known.attempts) == ("waiting", 1)
    assert "gone.yaml: cannot be read: No such file or directory" in known.reason
