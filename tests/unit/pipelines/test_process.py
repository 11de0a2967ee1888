"""Real worker processes, with the orchestrator's own Python as the tool environment."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipelines.errors import InputRejected, ToolFailed
from pipelines.process import WorkerProcess, write_request
from pipelines.requests import OpenRequest, RunRequest
from stages.base import Artifact
from targets.dummy import write_model


@pytest.fixture
def model(tmp_path: Path) -> Artifact:
    folder = tmp_path / "model"
    folder.mkdir()
    write_model(folder, "a text of bigrams, over and over " * 9)
    return Artifact(kind="dummy", path=folder, digest="0" * 64)


def run(
    tmp_path: Path, model: Artifact, timeout_s: float = 60, memory_gb: float | None = None, **fields: object
) -> object:
    out, scratch = tmp_path / "out", tmp_path / "scratch"
    out.mkdir()
    scratch.mkdir()
    request = RunRequest.model_validate(
        {
            "stage": "dummy",
            "fields": fields,
            "model": model,
            "out": out,
            "scratch": scratch,
            "memory_limit_gb": memory_gb,
        }
    )
    path = write_request(request, tmp_path / "dummy.json")
    with WorkerProcess(Path(sys.executable), "run", path, tmp_path / "dummy.log", 1) as worker:
        return worker.answer(timeout_s)


def test_stage_runs_in_a_worker(tmp_path: Path, model: Artifact) -> None:
    assert run(tmp_path, model) == {"facts": {"vocabulary": 64, "noise": 0.0}, "notes": [], "tables": []}
    assert (tmp_path / "out" / "dummy.json").is_file()


def test_refusal_is_the_users_mistake(tmp_path: Path, model: Artifact) -> None:
    with pytest.raises(InputRejected, match="`dummy`: the dummy was told to refuse"):
        run(tmp_path, model, fail="refuse")


def test_exception_quotes_the_log_and_says_how_to_repeat(tmp_path: Path, model: Artifact) -> None:
    with pytest.raises(ToolFailed) as failure:
        run(tmp_path, model, fail="raise")

    assert failure.value.message.startswith("`dummy` failed: RuntimeError: the dummy was told to raise\n  | ")
    assert f"the whole log: {tmp_path}/dummy.log" in failure.value.hint
    assert f"-m pipelines.worker run {tmp_path}/dummy.json" in failure.value.hint


def test_native_crash_is_a_failed_tool(tmp_path: Path, model: Artifact) -> None:
    with pytest.raises(ToolFailed, match=r"`dummy` crashed: signal 11 \(SIGSEGV\)"):
        run(tmp_path, model, fail="segfault")


def test_hang_is_stopped_at_the_time_limit(tmp_path: Path, model: Artifact) -> None:
    with pytest.raises(ToolFailed, match="`dummy` gave no answer within 2 s and was stopped"):
        run(tmp_path, model, timeout_s=2, fail="hang")


def test_memory_limit_ends_the_step_alone(tmp_path: Path, model: Artifact) -> None:
    with pytest.raises(ToolFailed, match="`dummy` ran out of memory"):
        run(tmp_path, model, memory_gb=1.0, fail="oom")


def test_session_answers_calls_and_reports_its_memory(tmp_path: Path, model: Artifact) -> None:
    request = write_request(OpenRequest(stage="dummy", fields={}, artifact=model), tmp_path / "dummy.json")
    with WorkerProcess(Path(sys.executable), "session", request, tmp_path / "dummy.log", 1) as worker:
        facts = worker.answer(60)
        made = worker.call("generate", {"prompt": [1, 2, 3], "n": 4}, 60)
        peak = worker.call("peak_memory", {}, 60)

    assert isinstance(facts, dict)
    assert facts["vocabulary_size"] == 64
    assert isinstance(made, dict)
    assert isinstance(made["tokens"], list)
    assert len(made["tokens"]) == 4
    assert isinstance(peak, int)
    assert peak > 1e6


def test_worker_dies_with_its_orchestrator(tmp_path: Path, model: Artifact) -> None:
    out, scratch = tmp_path / "out", tmp_path / "scratch"
    request = RunRequest(stage="dummy", fields={"fail": "hang"}, model=model, out=out, scratch=scratch)
    path = write_request(request, tmp_path / "dummy.json")
    script = (
        "import sys, time; from pathlib import Path; from pipelines.process import WorkerProcess\n"
        f"paths = Path({str(path)!r}), Path({str(tmp_path / 'log')!r})\n"
        "worker = WorkerProcess(Path(sys.executable), 'run', *paths, 1)\n"
        "print(worker.pid, flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    worker = int(parent.stdout.readline())
    time.sleep(0.7)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()

    assert gone_within(worker, 5)


def gone_within(process: int, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return True
        if Path(f"/proc/{process}/stat").read_text().split()[2] == "Z":
            return True
        time.sleep(0.05)
    return False
