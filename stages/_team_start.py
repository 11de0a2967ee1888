"""Starts the processes of a team: this one is the first, the others run the same stage and write nothing.

They join through the environment variables that torchrun sets, too, and accelerate reads: RANK, LOCAL_RANK, WORLD_SIZE,
MASTER_ADDR, MASTER_PORT (https://docs.pytorch.org/docs/stable/distributed.html#environment-variable-initialization).
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import JsonValue

from stages._calls import Device, device_of
from stages._team import Team
from stages.base import ROOT, Artifact, Context, Frozen, Refused, Stage, name_of

MEMBER = "TAPEOUT_TEAM_MEMBER"  # set in those that were started; RANK and the like somebody else may have set
_LOOPBACK = {"linux": "lo", "darwin": "lo0"}


class Order(Frozen):
    """What another process is told, on its standard input."""

    stage: str
    fields: dict[str, JsonValue]
    model: Artifact
    inputs: dict[str, Artifact]
    folder: Path
    resume: Path
    seed: int
    threads: int


@contextmanager
def together(stage: Stage, model: Artifact, context: Context, device: Device, devices: int) -> Iterator[Team]:
    """The place of this process among `devices` that `stage` runs in; the first starts the others. Once a process.

    Raises:
        Refused: there are fewer devices than asked for.
    """
    kind = device_of(device)
    if MEMBER in os.environ:
        yield _joined(kind)
        return
    _refuse_too_many(kind, devices, context.threads)
    if devices == 1:
        yield Team(device=kind)
        return
    port, threads = _free_port(), max(1, context.threads // devices)
    others = [
        _started(_order(stage, model, context, rank), rank, _place(rank, devices, port, threads))
        for rank in range(1, devices)
    ]
    os.environ.update(_place(0, devices, port, threads))
    try:
        yield _joined(kind)
    finally:
        for other in others:
            other.terminate()


def _refuse_too_many(kind: str, devices: int, threads: int) -> None:
    import torch

    there, what = threads, f"without a GPU each is a process, and the step has {threads} threads"
    if kind == "cuda":
        there = torch.cuda.device_count()
        what = f"this machine has {there} GPUs"
    if devices > there:
        raise Refused(f"`devices: {devices}`: {what}", f"ask for {there} at most")


def _joined(kind: str) -> Team:
    from accelerate import PartialState

    state = PartialState(cpu=kind == "cpu")
    return Team(device=str(state.device), rank=state.process_index, size=state.num_processes)


def _place(rank: int, size: int, port: int, threads: int) -> dict[str, str]:
    """All are on this machine: gloo is told its loopback, lest it looks up the machine's name, which not all can."""
    numbers = {
        "RANK": rank,
        "LOCAL_RANK": rank,
        "WORLD_SIZE": size,
        "LOCAL_WORLD_SIZE": size,
        "MASTER_PORT": port,
        "OMP_NUM_THREADS": threads,
    }
    loopback = _LOOPBACK.get(sys.platform)
    names = {"MASTER_ADDR": "127.0.0.1", **({"GLOO_SOCKET_IFNAME": loopback} if loopback else {})}
    return {**names, **{name: str(value) for name, value in numbers.items()}}


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
    return port


def _order(stage: Stage, model: Artifact, context: Context, rank: int) -> Order:
    return Order(
        stage=name_of(stage),
        fields=stage.model_dump(mode="json"),
        model=model,
        inputs=dict(context.inputs),
        folder=context.scratch / f"process-{rank}",
        resume=context.resume,
        seed=context.seed,
        threads=context.threads,
    )


def _started(order: Order, rank: int, place: dict[str, str]) -> subprocess.Popen[bytes]:
    """In this process's own group, so that whatever ends it ends them all; their output is its log."""
    environment = {**os.environ, **place, MEMBER: "1", "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, "-m", "stages._team_member"], stdin=subprocess.PIPE, stdout=2, env=environment
    )
    assert process.stdin
    process.stdin.write(order.model_dump_json().encode())
    process.stdin.close()
    threading.Thread(target=_watch, args=(process, rank), daemon=True).start()
    return process


def _watch(process: subprocess.Popen[bytes], rank: int) -> None:
    """One that is gone is waited for in vain, for minutes: this process ends with it."""
    code = process.wait()
    if code not in (0, -signal.SIGTERM):
        sys.stderr.write(f"process {rank} of the training ended with {code}; what it printed is above\n")
        sys.stderr.flush()
        os._exit(1)
