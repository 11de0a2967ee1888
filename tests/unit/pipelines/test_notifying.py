"""Who is told how a run ended: webhooks, and the notification blocks of a real Prefect server."""

from __future__ import annotations

import http.server
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from prefects import own_server, spoken_to
from pydantic import ValidationError
from samples import run_record

from pipelines.notifying import Notify, notify


@contextmanager
def receiver(pause_s: float = 0.0, status: int = 200) -> Iterator[tuple[str, list[bytes]]]:
    got: list[bytes] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.wfile.write(f"HTTP/1.0 {status} So\r\n".encode())
            for _ in range(int(pause_s / 0.05)):  # a byte now and then, so that no socket's own limit is reached
                try:
                    self.wfile.write(b"X: y\r\n")
                except OSError:
                    return
                time.sleep(0.05)
            self.wfile.write(b"\r\n")

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/", got
    server.shutdown()
    server.server_close()


def test_webhook_is_told_how_the_run_ended() -> None:
    with receiver() as (url, got):
        assert notify(Notify(webhook=url), run_record("halted", 0.071)) == []

    told = json.loads(got[0])
    assert (told["name"], told["status"], told["promotion"]) == ("smol-q6k", "halted", None)
    assert told["text"].startswith("smol-q6k: halted: perplexity rose 30.45 -> 32.61")


def test_webhook_that_hangs_is_given_up() -> None:
    with receiver(pause_s=3) as (url, _):
        begin = time.monotonic()
        assert notify(Notify(webhook=url, timeout_s=0.3), run_record()) == ["webhook: gave no answer in time"]
        assert time.monotonic() - begin < 2


@pytest.mark.parametrize(("status", "problem"), [(500, "answered 500"), (404, "answered 404")])
def test_webhook_that_refuses_is_a_line(status: int, problem: str) -> None:
    with receiver(status=status) as (url, _):
        assert notify(Notify(webhook=url), run_record()) == [f"webhook: {problem}"]


def test_webhook_that_is_away_is_a_line() -> None:
    (problem,) = notify(Notify(webhook="http://127.0.0.1:9/"), run_record())

    assert problem.startswith("webhook: cannot be reached: ")


def test_somebody_has_to_be_told() -> None:
    with pytest.raises(ValidationError, match="nobody is told"):
        Notify(timeout_s=3)


def test_block_without_prefect_is_a_line() -> None:
    (problem,) = notify(Notify(block="slack-webhook/team"), run_record())

    assert problem == "block slack-webhook/team: is Prefect's, and the run was without it"


@pytest.fixture
def prefect(tmp_path: Path) -> Iterator[None]:
    with own_server(tmp_path / "server") as child, spoken_to(child):
        yield


@pytest.mark.slow
def test_notification_block_of_prefect_is_told_how_the_run_ended(prefect: None) -> None:
    from prefect.blocks.notifications import CustomWebhookNotificationBlock
    from prefect.blocks.system import Secret

    run = run_record("halted", 0.071).model_copy(update={"prefect_run": "0"})
    with receiver() as (url, got):
        told = {"text": "{{body}}", "title": "{{subject}}"}
        CustomWebhookNotificationBlock(name="own", url=url, json_data=told).save("team")
        Secret(value="s").save("hidden")

        assert notify(Notify(block="custom-webhook/team", timeout_s=60), run) == []
        (secret,) = notify(Notify(block="secret/hidden", timeout_s=60), run)
        (absent,) = notify(Notify(block="custom-webhook/absent", timeout_s=60), run)

    text = json.loads(got[0])
    assert text["title"] == "Tapeout: smol-q6k halted"
    assert text["text"].startswith("smol-q6k: halted: perplexity rose 30.45 -> 32.61")
    assert secret == "block secret/hidden: is no notification block"
    assert "custom-webhook/absent: " in absent
    assert len(got) == 1
