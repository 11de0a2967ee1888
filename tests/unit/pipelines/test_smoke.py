"""Serving a bundle for a moment: real processes, over a model that repeats its prompt."""

import os
import re
from pathlib import Path

import pytest
from parrot import SERVE, bundle

from pipelines import smoke
from pipelines.errors import ToolFailed, UserError
from pipelines.smoke import served


def alive(marker: str) -> list[str]:
    """Command lines of live processes that hold the text."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        if int(file.parent.name) != os.getpid():
            try:
                text = file.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            found += [text] if marker in text else []
    return found


def test_a_bundle_is_started_asked_and_stopped_and_leaves_no_process(tmp_path: Path) -> None:
    folder = bundle(tmp_path / "bundle")
    found = served(folder, tmp_path / "log")

    assert (found.api, found.model, found.text) == ("v1", "parrot", smoke.PROMPT)
    assert 0 < found.ttft_ms / 1e3 <= found.completion_s
    assert re.fullmatch(
        r"/v1 up after \d+\.\d s, first token after \d+ ms, 16 tokens in \d+\.\d s, stopped in \d+\.\d s", str(found)
    )
    assert alive(str(folder)) == []


def test_a_bundle_without_a_script_is_the_users_to_know(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        served(tmp_path, tmp_path / "log")
    assert caught.value.message == f"{tmp_path} has no serve.sh"


def test_a_server_that_ends_before_it_answers_is_quoted(tmp_path: Path) -> None:
    folder = bundle(tmp_path / "bundle", "#!/bin/sh\necho vllm was not found >&2\nexit 3\n")
    with pytest.raises(ToolFailed) as caught:
        served(folder, tmp_path / "log")
    assert caught.value.message == "serve.sh ended with 3 before it answered\n  | vllm was not found"
    assert caught.value.exit_code == 3


def test_a_server_that_never_answers_is_killed(tmp_path: Path) -> None:
    folder = bundle(tmp_path / "bundle", "#!/bin/sh\nsleep 77.25\n")
    with pytest.raises(ToolFailed, match=r"serve.sh did not answer within 0\.5 s"):
        served(folder, tmp_path / "log", limit_s=0.5)
    assert alive("77.25") == []


def test_a_server_that_does_not_stop_when_asked_is_killed_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(smoke, "STOP_LIMIT_S", 0.5)
    deaf = SERVE.replace("exec", "sh -c 'trap \"\" TERM; while :; do sleep 0.076; done' &\nexec")
    with pytest.raises(ToolFailed, match=r"serve.sh was still running 0\.5 s after SIGTERM, and was killed"):
        served(bundle(tmp_path / "bundle", deaf), tmp_path / "log")
    assert alive("0.076") == []


def test_a_server_that_says_nothing_did_not_serve(tmp_path: Path) -> None:
    silent = tmp_path / "silent.py"
    silent.write_text(
        "from pathlib import Path\nfrom pipelines.llm_servers.bundled.openai_server import Usage, main\n"
        "class Silent:\n    def generate(self, *_): return Usage(1, 0, False)\n"
        "main(Path(), lambda *_: Silent())\n"
    )
    script = SERVE.replace(str(Path(__file__).with_name("parrot.py")), str(silent))
    with pytest.raises(ToolFailed, match=r"serve\.sh answered with an empty completion"):
        served(bundle(tmp_path / "bundle", script), tmp_path / "log")


def test_a_server_that_refuses_the_request_is_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smoke, "PROMPT", "a" * 60)
    with pytest.raises(ToolFailed, match=r"HTTP 400: .*60 and 16 tokens do not fit into 64"):
        served(bundle(tmp_path / "bundle"), tmp_path / "log")
