"""The stack as its users start it: real servers, in a home of their own."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest
from commanding import Command, home, tapeout

from pipelines.errors import ToolFailed, UserError
from pipelines.home import locked
from pipelines.stack import running
from pipelines.stack.ports import choose, free_port
from pipelines.stack.postgres import databases
from pipelines.stack.running import Running
from pipelines.stack.service import Child, Service, answers
from pipelines.stack.services import Places, mlflow_server, prefect_server

__all__ = ["home", "tapeout"]
TAPEOUT = str(Path(sys.executable).parent / "tapeout")
LIMIT_S = 180
UP = Running(1, "http://127.0.0.1:1", "http://127.0.0.1:2", "http://127.0.0.1:3", "sqlite:///a.db", "tapeout")


@contextmanager
def listening() -> Iterator[int]:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield server.getsockname()[1]


def test_a_port_that_is_asked_for_and_taken_is_the_users_mistake() -> None:
    with listening() as port, pytest.raises(UserError) as caught:
        choose("127.0.0.1", port, 4200, "--prefect-port", set())

    assert str(caught.value) == (
        f"port {port} of 127.0.0.1 is taken\n\nhint: choose another by --prefect-port, or leave it out"
    )


def test_a_usual_port_that_is_taken_makes_room_for_the_next() -> None:
    with listening() as port:
        assert choose("127.0.0.1", None, port, "--mlflow-port", {port + 1}) > port + 1


def test_a_host_that_is_not_here_is_the_users_mistake() -> None:
    with pytest.raises(UserError, match=r"no\.such\.host\.invalid is no address of this machine"):
        choose("no.such.host.invalid", None, 4200, "--prefect-port", set())


def test_servers_listen_on_loopback_unless_told(tmp_path: Path) -> None:
    for service in (prefect_server(Places(tmp_path)), mlflow_server(Places(tmp_path))):
        assert service.arguments[service.arguments.index("--host") + 1] == "127.0.0.1"


@pytest.mark.parametrize(
    ("host", "asked"), [("127.0.0.1", "127.0.0.1"), ("::1", "[::1]"), ("0.0.0.0", socket.gethostname())]
)
def test_prefects_pages_ask_an_address_that_a_browser_reaches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: str, asked: str
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://a.server.of.mine/api")
    service = prefect_server(Places(tmp_path, host=host, prefect_port=4300))
    assert service.variables["PREFECT_SERVER_UI_API_URL"] == f"http://{asked}:4300/api"

    monkeypatch.setenv("PREFECT_SERVER_UI_API_URL", "https://behind.a.proxy/api")
    assert prefect_server(Places(tmp_path, host=host)).variables["PREFECT_SERVER_UI_API_URL"] == (
        "https://behind.a.proxy/api"
    )


def test_a_stack_is_running_while_its_lock_is_held(tmp_path: Path) -> None:
    assert running.running(tmp_path) is None
    with locked(running.lock(tmp_path)):
        running.announce(tmp_path, UP)
        assert running.running(tmp_path) == UP
    assert running.running(tmp_path) is None


def test_what_the_user_set_is_kept_when_a_stack_is_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://elsewhere/api")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    with locked(running.lock(tmp_path)):
        running.announce(tmp_path, UP)
        running.adopt(tmp_path)

    assert os.environ["PREFECT_API_URL"] == "http://elsewhere/api"
    assert os.environ.pop("MLFLOW_TRACKING_URI") == "sqlite:///a.db"


def test_a_database_url_may_hold_a_password_so_others_cannot_read_the_addresses(tmp_path: Path) -> None:
    with locked(running.lock(tmp_path)):
        running.announce(tmp_path, UP)

    assert (running.folder(tmp_path) / "stack.json").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("url", ["sqlite:///a.db", "postgresql://host", "host:5432/db"])
def test_postgres_needs_the_url_of_a_database(url: str) -> None:
    with pytest.raises(UserError, match="--postgres needs the URL of a database"):
        databases(url)


def test_postgres_that_is_away_is_a_reason() -> None:
    with pytest.raises(UserError, match=r"PostgreSQL cannot be used: .*Connection refused"):
        databases(f"postgresql://nobody@127.0.0.1:{free_port()}/tapeout")


def web(folder: Path) -> Service:
    port = free_port()
    arguments = (str(port), "--bind", "127.0.0.1", "--directory", str(folder))
    return Service("the server", "http.server", arguments, f"http://127.0.0.1:{port}/", folder / "log")


def test_a_service_is_gone_with_its_block_and_can_be_started_again_before(tmp_path: Path) -> None:
    service = web(tmp_path)
    with Child(service) as child:
        child.wait_until_well()
        os.kill(child.pid, signal.SIGKILL)
        child.restart()
        child.wait_until_well()
        assert answers(service.health)

    assert not answers(service.health)


def test_a_service_that_ends_at_once_is_quoted(tmp_path: Path) -> None:
    with listening() as port:
        service = replace(web(tmp_path), arguments=(str(port), "--bind", "127.0.0.1"), health="http://127.0.0.1:9/")
        with (
            Child(service) as child,
            pytest.raises(ToolFailed, match=r"ended with 1 before(?s:.)*Address already in use"),
        ):
            child.wait_until_well()


def test_a_service_does_not_outlive_a_killed_parent(tmp_path: Path) -> None:
    service = web(tmp_path)
    script = (
        "import os, pathlib; from pipelines.stack.service import *\n"
        f"arguments, health, log = {service.arguments!r}, {service.health!r}, pathlib.Path({str(service.log)!r})\n"
        "child = Child(Service('s', 'http.server', arguments, health, log))\n"
        "child.wait_until_well(); os.kill(os.getpid(), 9)\n"
    )
    parent = subprocess.run([sys.executable, "-c", script], check=False)

    deadline = time.monotonic() + 10
    while answers(service.health) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert parent.returncode == -signal.SIGKILL
    assert not answers(service.health)


def test_nothing_up_is_said(tapeout: Command) -> None:
    ended = tapeout("up", "--status")

    assert (ended.code, ended.err) == (2, "\nnothing is up in this home\n\nhint: tapeout up\n\n")


def test_a_second_one_that_starts_meanwhile_is_refused_and_an_open_address_is_said_first(
    tapeout: Command, home: Path
) -> None:
    with locked(running.lock(home)):
        ended = tapeout("up", "--host", "0.0.0.0")

    assert (ended.code, ended.out) == (2, "")
    assert ended.err == (
        "listening on 0.0.0.0: whoever reaches it can start runs and read results, without a password\n"
        "\nanother `tapeout up` is starting in this home\n\nhint: tapeout up --status\n\n"
    )


@contextmanager
def up(folder: Path, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """`tapeout up` in a home, once it is up; killed at the end if it is still there."""
    log = folder / "up.log"
    own = {name: text for name, text in os.environ.items() if name not in {"PREFECT_API_URL", "MLFLOW_TRACKING_URI"}}
    with log.open("w") as sink:
        process = subprocess.Popen(
            [TAPEOUT, "up", *arguments], env={**own, "TAPEOUT_HOME": str(folder)}, stdout=sink, stderr=sink, text=True
        )
    try:
        deadline = time.monotonic() + LIMIT_S
        while "worker" not in log.read_text():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        yield process, log
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        process.wait()


def asked(url: str) -> int:
    with urllib.request.urlopen(url, timeout=30) as answer:
        return int(answer.status)


@pytest.mark.slow
def test_stack_comes_up_survives_a_killed_server_and_stops_together(
    tapeout: Command, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home.mkdir()
    monkeypatch.setenv("TAPEOUT_HOME", str(home))
    with up(home) as (process, log):
        first = tapeout("up", "--json")
        stack = running.running(home)
        assert stack is not None
        assert first.code == 0
        assert json.loads(first.out)["status"] == "already up"
        assert {json.loads(first.out)[name]["well"] for name in ("Prefect", "MLflow", "worker")} == {True}
        assert asked(stack.prefect) == asked(stack.mlflow) == 200
        killed = next(pid for pid in children(process.pid) if b"create_app" in cmdline(pid))
        os.kill(killed, signal.SIGKILL)
        deadline = time.monotonic() + LIMIT_S
        while killed in children(process.pid) or not answers(stack.health["Prefect"]):
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)
        assert "the Prefect server ended with -9, starting it again" in log.read_text()
        process.terminate()
        assert process.wait(60) == 0
    assert not any(answers(url) for url in stack.health.values())
    assert running.running(home) is None


def children(pid: int) -> list[int]:
    return [int(text) for text in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def cmdline(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


FLOW = """
import os, signal, sys
from pathlib import Path
from pipelines.flow import serve_temporarily
from pipelines.stack.services import prefect_variables
home = Path(sys.argv[1])
os.environ |= prefect_variables(home)
serve_temporarily(home)
from prefect import flow
@flow
def nothing():
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text()
    print(os.environ["PREFECT_API_URL"], children)
nothing()
sys.stdout.flush()
if sys.argv[2] == "killed": os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("end", "code"), [("killed", -signal.SIGKILL), ("left", 0)])
def test_a_run_has_one_temporary_server_which_ends_with_it(tmp_path: Path, end: str, code: int) -> None:
    own = {name: text for name, text in os.environ.items() if name != "PREFECT_API_URL"}
    made = subprocess.run(
        [sys.executable, "-c", FLOW, tmp_path, end], env=own, stdout=subprocess.PIPE, text=True, check=False
    )
    api, *servers = made.stdout.split()

    deadline = time.monotonic() + 15
    while any(Path(f"/proc/{pid}").exists() for pid in servers) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert made.returncode == code
    assert len(servers) == 1
    assert not Path(f"/proc/{servers[0]}").exists()
    assert not answers(f"{api}/health")
