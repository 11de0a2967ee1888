"""Running a stage as the worker does, and asking a session."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages import _fitting
from stages._examples import Examples
from stages.base import Artifact, Context, Produced, Stage
from targets.base import Target
from targets.onnxruntime import Onnxruntime

WITHOUT_VNNI = "vnni" not in Path("/proc/cpuinfo").read_text()  # then INT8 with weights in 8 bits saturates


def run(stage: Stage, model: Artifact, out: Path, calibration: Artifact | None = None) -> tuple[Artifact, Produced]:
    scratch = out.with_name(out.name + ".scratch")
    out.mkdir()
    scratch.mkdir()
    inputs = {"calibration": calibration} if calibration else {}
    produced = stage.run(model, Context(out=out, scratch=scratch, threads=1, inputs=inputs))
    return Artifact(kind=stage.produces, path=out, digest="0", facts=produced.facts), produced


@contextmanager
def killed(step: int) -> Iterator[None]:
    """A training in the block ends as by ^C where it would take that step."""
    advance = _fitting._Run.advance

    def until(run: Any, moved: Any) -> None:
        if run.step == step:
            raise KeyboardInterrupt
        advance(run, moved)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(_fitting._Run, "advance", until)
        with pytest.raises(KeyboardInterrupt):
            yield


def ask(model: Artifact, batch: np.ndarray, target: Target | None = None) -> np.ndarray:
    session = (target or Onnxruntime()).open(model, threads=1, context_length=0)
    answer = session.run({session.input_names[0]: batch})
    session.close()
    return next(iter(answer.values()))


def inputs(calibration: Artifact) -> np.ndarray:
    found = Examples.load(calibration.path)
    return found.batch(0, len(found))
