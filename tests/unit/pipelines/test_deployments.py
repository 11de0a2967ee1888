"""Deployments on a real Prefect server with a real worker: `tapeout up`, `deploy`, `watch`, as users start them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from test_stack import LIMIT_S, TAPEOUT, children, cmdline, up

from configs import RIGHT
from pipelines.stack.running import Running, running
from pipelines.watching.ledger import Checkpoint, Ledger

pytestmark = pytest.mark.slow
BUSY_LIMIT_S = 30
TRIGGER = "trigger: {folder: landing, marker: .done, retry_after_s: 0}\n"
OWN = {name: text for name, text in os.environ.items() if name not in {"PREFECT_API_URL", "MLFLOW_TRACKING_URI"}}


class Stand:
    """A home with a stack that is up, and a config beside it whose every checkpoint is truncated."""

    def __init__(self, folder: Path, stack: Running) -> None:
        self.home, self.stack, self.config = folder / "home", stack, folder / "a.yaml"
        self.landing = folder / "landing"
        self.landing.mkdir()
        (folder / "model.gguf").write_text("not a model")
        self.config.write_text("# A model that cannot be read.\n" + RIGHT + TRIGGER)
        self.variables = {**OWN, "TAPEOUT_HOME": str(self.home)}

    def __call__(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        command = [TAPEOUT, *map(str, arguments)]
        return subprocess.run(command, env=self.variables, capture_output=True, text=True, check=False)

    def asked(self, path: str, body: dict[str, Any]) -> Any:
        data, kind = json.dumps(body).encode(), {"Content-Type": "application/json"}
        deadline = time.monotonic() + BUSY_LIMIT_S
        while True:
            try:
                with urllib.request.urlopen(urllib.request.Request(f"{self.stack.api}/{path}", data, kind)) as answer:
                    return json.load(answer)
            except urllib.error.HTTPError as error:  # while SQLite is written to; Prefect's own client asks again, too
                if error.code != HTTPStatus.SERVICE_UNAVAILABLE or time.monotonic() > deadline:
                    raise
            time.sleep(0.2)

    def flow_runs(self) -> list[Any]:
        runs: list[Any] = self.asked("flow_runs/filter", {"sort": "EXPECTED_START_TIME_ASC"})
        return runs

    def checkpoints(self) -> list[Checkpoint]:
        return Ledger(self.home, "small").all()


@pytest.fixture(scope="module")
def temporary(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder for temporary files; what Prefect keeps there belongs to another user of the machine."""
    folder = tmp_path_factory.mktemp("temporary")
    (folder / "runner_storage").mkdir(0o555)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(folder))
        yield folder
    assert [path.name for path in folder.iterdir()] == ["runner_storage"]


@pytest.fixture(scope="module")
def stand(tmp_path_factory: pytest.TempPathFactory, temporary: Path) -> Iterator[Stand]:
    folder = tmp_path_factory.mktemp("stand")
    (folder / "home").mkdir()
    with up(folder / "home", "--prefect-port", "4310", "--mlflow-port", "5310") as (process, _):
        stack = running(folder / "home")
        assert stack is not None
        yield Stand(folder, stack)
        process.terminate()
        process.wait(60)


def test_a_deployment_is_made_listed_paused_and_changed(stand: Stand) -> None:
    made = stand("deploy", stand.config, "seed=3", "--every", "12h")
    assert (made.returncode, made.stdout.splitlines()[0]) == (0, "tapeout/small is deployed to the work pool tapeout")

    (found,) = stand.asked("deployments/filter", {})
    assert found["concurrency_limit"] == 1 or found["global_concurrency_limit"]["limit"] == 1
    assert found["parameters"]["overrides"] == ["seed=3"]
    assert stand("deployments", "ls").stdout == f"small  every 12:00:00  {stand.config}\n"
    assert stand("deployments", "pause", "small").returncode == 0
    assert json.loads(stand("deployments", "ls", "--json").stdout)[0]["paused"] is True
    assert stand("deployments", "resume", "small").returncode == 0

    assert stand("deploy", stand.config).returncode == 0
    assert stand("deployments", "ls").stdout == f"small  on demand  {stand.config}\n"


def test_what_is_not_deployed_is_the_users_mistake(stand: Stand) -> None:
    ended = stand("deployments", "pause", "nothing")

    assert (ended.returncode, ended.stderr) == (
        2,
        "\nno deployment is called nothing\n\nhint: tapeout deployments ls\n\n",
    )


def test_a_truncated_checkpoint_is_three_runs_by_event_and_set_aside_with_its_reason(stand: Stand) -> None:
    assert stand("deploy", stand.config).returncode == 0
    (stand.landing / "step-100.gguf").write_bytes(b"GGUF\x03\0\0\0")
    command = [sys.executable, "-m", "pipelines.cli", "watch", str(stand.config)]
    with (stand.home / "watch.log").open("w") as log:
        watching = subprocess.Popen(command, env=stand.variables, stdout=log, stderr=log)
    try:
        time.sleep(3)
        assert stand.checkpoints() == []  # no marker yet
        begin = time.time()
        (stand.landing / "step-100.gguf.done").touch()
        until(lambda: any(run["start_time"] for run in stand.flow_runs()), stand)
        begun = next(run["start_time"] for run in stand.flow_runs())
        print(f"from the marker to the flow's start: {seconds(begun) - begin:.1f} s")  # noqa: T201
        until(lambda: [known.state for known in stand.checkpoints()] == ["aside"], stand)
        until(lambda: all(run["state_type"] == "FAILED" for run in stand.flow_runs()), stand)
    finally:
        watching.terminate()
        watching.wait()

    (known,) = stand.checkpoints()
    assert known.attempts == 3
    assert known.reason
    assert [run["state_type"] for run in stand.flow_runs()] == ["FAILED"] * 3
    assert stand.flow_runs()[0]["parameters"]["checkpoint"] == known.digest
    assert "aside" in stand("watch", stand.config, "--ls").stdout


def test_a_deployment_whose_config_is_gone_says_so_and_fails_plainly(stand: Stand) -> None:
    gone = stand.config.with_name("gone.yaml")
    gone.write_text(stand.config.read_text().replace("name: small", "name: gone"))
    assert stand("deploy", gone).returncode == 0
    gone.unlink()

    listed = next(item for item in json.loads(stand("deployments", "ls", "--json").stdout) if item["name"] == "gone")
    deployment = next(item for item in stand.asked("deployments/filter", {}) if item["name"] == "gone")
    landed = Ledger(stand.home, "gone").add("d" * 64, "step-1.gguf", ())
    assert landed is not None
    given = {"parameters": {"checkpoint": landed.digest}}
    run = stand.asked(f"deployments/{deployment['id']}/create_flow_run", given)
    until(lambda: state(stand, run["id"])["type"] == "FAILED", stand)

    (known,) = Ledger(stand.home, "gone").all()
    assert (known.state, known.attempts) == ("waiting", 1)
    assert "cannot be read: No such file or directory" in known.reason
    assert listed["problem"] == "its config is gone"
    assert f"{gone}: cannot be read: No such file or directory" in state(stand, run["id"])["message"]
    assert stand("deployments", "rm", "gone").returncode == 0
    assert "gone" not in stand("deployments", "ls").stdout


def test_a_run_whose_worker_was_killed_is_crashed_and_gives_its_place_back(stand: Stand) -> None:
    assert stand("deploy", stand.config).returncode == 0
    deployment = next(item for item in stand.asked("deployments/filter", {}) if item["name"] == "small")
    run, held = stand.asked(f"deployments/{deployment['id']}/create_flow_run", {}), stand.home / "stack/flow_runs"
    until((held / run["id"]).exists, stand)
    worker = next(pid for pid in children(stand.stack.pid) if b"\0worker\0start\0" in cmdline(pid))
    os.kill(worker, signal.SIGKILL)
    until(lambda: state(stand, run["id"])["type"] == "CRASHED", stand)

    assert state(stand, run["id"])["message"] == "its process was killed"
    assert not (held / run["id"]).exists()
    after = stand.asked(f"deployments/{deployment['id']}/create_flow_run", {})
    until(lambda: state(stand, after["id"])["type"] == "FAILED", stand)


def test_a_run_whose_end_prefect_could_not_be_told_gets_its_state_later(stand: Stand) -> None:
    assert stand("deploy", stand.config).returncode == 0
    deployment = next(item for item in stand.asked("deployments/filter", {}) if item["name"] == "small")
    run = stand.asked(f"deployments/{deployment['id']}/create_flow_run", {})
    file = stand.home / "stack/flow_runs" / run["id"]
    until(file.exists, stand)
    process = next(int(item["infrastructure_pid"]) for item in stand.flow_runs() if item["id"] == run["id"])
    worker, server = (
        next(pid for pid in children(stand.stack.pid) if name in cmdline(pid))
        for name in (b"\0worker\0start\0", b"create_app")
    )
    os.kill(process, signal.SIGSTOP)
    os.kill(stand.stack.pid, signal.SIGSTOP)  # so that Prefect stays away
    try:
        os.kill(server, signal.SIGKILL)
        os.kill(process, signal.SIGCONT)
        through(lambda: file.read_text() != "")
        os.kill(worker, signal.SIGKILL)
    finally:
        os.kill(stand.stack.pid, signal.SIGCONT)
    through(lambda: state(stand, run["id"])["type"] == "FAILED")

    assert "not a GGUF file" in state(stand, run["id"])["message"]
    through(lambda: not file.exists())


def state(stand: Stand, run: str) -> Any:
    return next(item for item in stand.flow_runs() if item["id"] == run)["state"]


def seconds(moment: str) -> float:
    from datetime import datetime

    return datetime.fromisoformat(moment).timestamp()


def through(holds: Any) -> None:
    """Wait for it while the server is away, or comes up."""
    deadline, there = time.monotonic() + LIMIT_S, False
    while not there:
        assert time.monotonic() < deadline
        time.sleep(0.3)
        with suppress(OSError):
            there = holds()


def until(holds: Any, stand: Stand) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not holds():
        logs = "".join(path.read_text()[-1500:] for path in stand.home.glob("*.log"))
        states = [(run["state_name"], run["state"]["message"]) for run in stand.flow_runs()]
        assert time.monotonic() < deadline, f"{states}\n{stand.checkpoints()}\n{logs}"
        time.sleep(0.3)
