from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from prefect.states import Completed

from pipelines.stack.flow_runs import KILLED, FlowRuns
from pipelines.stack.ports import free_port
from pipelines.stack.taken import ends_as, files, let_go, take

TAKES = """
import os, signal, sys
from pathlib import Path
from prefect.states import Failed
from pipelines.stack.taken import ends_as, take
home = Path(sys.argv[1])
take(home, "one")
if sys.argv[2:]:
    ends_as(home, "one", Failed(name="BudgetExceeded", message=sys.argv[2]))
os.kill(os.getpid(), signal.SIGKILL)
"""


class Server:
    """Prefect's two calls: which of the runs asked for are unfinished (all), and what state one is given."""

    def __init__(self) -> None:
        self.given: list[tuple[str, dict[str, Any]]] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                found: Any = {}
                if self.path.endswith("/filter"):
                    found = [{"id": each, "name": "run"} for each in body["flow_runs"]["id"]["any_"]]
                else:
                    server.given.append((self.path, body["state"]))
                self.send_response(200)
                self.end_headers()
                self.wfile.write(json.dumps(found).encode())

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.api = f"http://127.0.0.1:{self._server.server_port}/api"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    started = Server()
    yield started
    started.stop()


def killed(home: Path, *ended: str) -> Path:
    """The file of a process that took the run "one" and was killed, after it had ended if that is said."""
    done = subprocess.run([sys.executable, "-c", TAKES, str(home), *ended], env=os.environ, check=False)
    assert done.returncode == -signal.SIGKILL
    return files(home) / "one"


def test_a_run_in_hand_is_left_alone_and_leaves_nothing(tmp_path: Path, server: Server) -> None:
    take(tmp_path, "one")
    ends_as(tmp_path, "one", Completed())
    assert FlowRuns(tmp_path, server.api, "tapeout").settle() == []
    assert (server.given, [file.name for file in files(tmp_path).iterdir()]) == ([], ["one"])

    let_go(tmp_path, "one")
    assert list(files(tmp_path).iterdir()) == []


def test_the_run_of_a_killed_process_is_crashed(tmp_path: Path, server: Server) -> None:
    file = killed(tmp_path)

    assert FlowRuns(tmp_path, server.api, "tapeout").settle() == [f"run: {KILLED}"]
    state = {"type": "CRASHED", "name": "Crashed", "message": KILLED}
    assert server.given == [("/api/flow_runs/one/set_state", state)]
    assert not file.exists()


def test_a_run_that_ended_before_its_process_was_gone_gets_its_state(tmp_path: Path, server: Server) -> None:
    killed(tmp_path, "perplexity rose")

    assert FlowRuns(tmp_path, server.api, "tapeout").settle() == ["run: perplexity rose"]
    state = {"type": "FAILED", "name": "BudgetExceeded", "message": "perplexity rose"}
    assert server.given == [("/api/flow_runs/one/set_state", state)]


def test_what_was_half_written_of_a_state_is_none(tmp_path: Path, server: Server) -> None:
    killed(tmp_path).write_text('{"type": "COMPL')

    assert FlowRuns(tmp_path, server.api, "tapeout").settle() == [f"run: {KILLED}"]


def test_a_server_that_is_away_is_asked_again(tmp_path: Path) -> None:
    file = killed(tmp_path)

    assert FlowRuns(tmp_path, f"http://127.0.0.1:{free_port()}/api", "tapeout").settle() == []
    assert file.exists()


def test_a_server_that_could_not_be_told_leaves_the_file(tmp_path: Path) -> None:
    take(tmp_path, "one")
    ends_as(tmp_path, "one", Completed(message="every budget passed"))
    let_go(tmp_path, "one", told=False)

    assert "every budget passed" in (files(tmp_path) / "one").read_text()


def test_a_full_disk_changes_nothing_of_how_a_run_ended(tmp_path: Path) -> None:
    files(tmp_path).mkdir(parents=True)
    (files(tmp_path) / "one").symlink_to("/dev/full")
    state = Completed(message="every budget passed")

    assert ends_as(tmp_path, "one", state) is state
