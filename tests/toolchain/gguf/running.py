"""Stages run on tiny models, with what stands beside the model."""

import shutil
from pathlib import Path

from tiny_llama import TEXT

from stages._calibration_text import CalibrationText
from stages.base import Artifact, Context, Produced, Stage


def artifact(kind: str, path: Path) -> Artifact:
    return Artifact(kind=kind, path=path, digest="0")


def run(stage: Stage, model: Artifact, out: Path, **inputs: Artifact) -> tuple[Artifact, Produced]:
    scratch = out.with_name(out.name + ".scratch")
    for folder in (out, scratch):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    produced = stage.run(model, Context(out=out, scratch=scratch, threads=2, inputs=inputs))
    return artifact(stage.produces, out), produced


def calibration(folder: Path, text: str = TEXT * 40) -> Artifact:
    folder.mkdir()
    CalibrationText(name="foxes", documents=(text,)).save(folder)
    return artifact("text", folder)
