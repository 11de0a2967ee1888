"""Running a stage as the worker does, and asking a session."""

from pathlib import Path

import numpy as np

from stages._examples import Examples
from stages.base import Artifact, Context, Produced, Stage
from targets.openvino import Openvino

WITHOUT_VNNI = "vnni" not in Path("/proc/cpuinfo").read_text()  # then INT8 with weights in 8 bits saturates


def run(stage: Stage, model: Artifact, out: Path, calibration: Artifact | None = None) -> tuple[Artifact, Produced]:
    scratch = out.with_name(out.name + ".scratch")
    out.mkdir()
    scratch.mkdir()
    inputs = {"calibration": calibration} if calibration else {}
    produced = stage.run(model, Context(out=out, scratch=scratch, threads=1, inputs=inputs))
    return Artifact(kind=stage.produces, path=out, digest="0", facts=produced.facts), produced


def ask(model: Artifact, batch: np.ndarray, target: Openvino | None = None) -> np.ndarray:
    session = (target or Openvino()).open(model, threads=1, context_length=0)
    answer = session.run({"x": batch})["y"]
    session.close()
    return answer


def inputs(calibration: Artifact) -> np.ndarray:
    found = Examples.load(calibration.path)
    return found.batch(0, len(found))
