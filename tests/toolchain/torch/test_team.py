"""Processes that share a training, as a worker starts them; a stage of a team runs once a process."""

import os
import signal
import subprocess
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from tiny_lm import make, text, trained

from stages.base import Artifact
from tests.toolchain import workers
from tests.toolchain.workers import ended, there

FIELDS = {
    "tokens": 2048, "window": 16, "batch": 8, "micro_batch": 2, "held_out": 4, "learning_rate": 0.01, "top_k": 16,
    "validate_every": 8, "checkpoint_every": 5,
}  # fmt: skip


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artifact]:
    folder = tmp_path_factory.mktemp("pair")
    return {
        "model": make(folder / "student", layers=2, seed=1),
        "teacher": trained(make(folder / "teacher")),
        "training": text(folder / "text"),
    }


def worker(folder: Path, pair: dict[str, Artifact], **fields: Any) -> AbstractContextManager[subprocess.Popen[str]]:
    return workers.worker(folder, "distill_llm", {**FIELDS, **fields}, threads=2, **pair)


def weights(folder: Path) -> dict[str, Any]:
    return load_file(folder / "out" / "model.safetensors")


@pytest.fixture(scope="module")
def by_two(tmp_path_factory: pytest.TempPathFactory, pair: dict[str, Artifact]) -> Path:
    folder = tmp_path_factory.mktemp("two")
    with worker(folder, pair, devices=2) as process:
        assert ended(process)["message"] == "answer"
    return folder


def test_two_learn_what_one_learns(tmp_path: Path, pair: dict[str, Artifact], by_two: Path) -> None:
    with worker(tmp_path, pair) as process:
        told = ended(process)["value"]["facts"]["distillation"]

    assert told["held_out_perplexity"] < told["held_out_perplexity_before"] / 10
    alone, shared = weights(tmp_path), weights(by_two)
    assert alone.keys() == shared.keys()
    assert max(float((alone[name] - shared[name]).abs().max()) for name in alone) < 1e-3  # sums in another order


def test_killed_together_and_resumed_the_weights_are_the_same_bytes(
    tmp_path: Path, pair: dict[str, Artifact], by_two: Path
) -> None:
    with worker(tmp_path, pair, devices=2):
        there(tmp_path / "resume" / "checkpoint.pt")
    with worker(tmp_path, pair, devices=2) as process:
        assert ended(process)["message"] == "answer"

    files = [(folder / "out" / "model.safetensors").read_bytes() for folder in (tmp_path, by_two)]
    assert files[0] == files[1]


def test_one_that_dies_ends_the_step_at_once(tmp_path: Path, pair: dict[str, Artifact]) -> None:
    with worker(tmp_path, pair, devices=2, tokens=4_096_000) as process:
        there(tmp_path / "resume" / "checkpoint.pt")
        found = subprocess.run(
            ["pgrep", "--pgroup", str(process.pid), "--full", "stages._team_member"], capture_output=True, text=True
        )
        os.kill(int(found.stdout), signal.SIGKILL)

        assert process.wait(60) != 0


def test_more_than_there_are_is_refused(tmp_path: Path, pair: dict[str, Artifact]) -> None:
    with worker(tmp_path, pair, devices=4, device="cpu") as process:
        last = ended(process)

    assert last["text"] == "`devices: 4`: without a GPU each is a process, and the step has 2 threads"
    assert last["hint"] == "ask for 2 at most"
