"""Images that are all of one class calibrate badly: told while they are read, and kept in the report."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from dummies import Bench
from samples import run_record

from pipelines.data.calibration_doubts import stage_doubts
from pipelines.data.example_sets import ExampleSets
from pipelines.origin import source_recipe
from pipelines.pipeline import Pipeline
from pipelines.process import Learning, ignore
from pipelines.progress import Silent
from pipelines.reporting import report
from pipelines.requests import RunRequest
from pipelines.runner import InlineRunner
from pipelines.standing import Standing
from stages._examples import Examples
from stages.base import Produced

CONFIG = """\
name: images
source: {path: model.onnx}
steps: [{quantize_onnx: {examples: 6}}, onnxruntime]
reference: onnxruntime
data:
  evaluation: {path: evaluation.npz, reader: npz}
  calibration: {path: calibration.npz, reader: npz}
evaluation: {latency: null}
budgets: [{metric: accuracy_top1, min: 0.5}]
"""
TOLD = "calibration: all 8 images are of class 3"


class Listening(Silent):
    """Keeps what a console would show."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, message: str) -> None:
        self.said.append(message)


class Calibrating(InlineRunner):
    """Stands in for the toolchain: looks at the calibration images that the stage is given, quantizes nothing."""

    def run(self, request: RunRequest, log: Path, timeout_s: float, learning: Learning = ignore) -> Produced:
        shown = Examples.load(request.inputs["calibration"].path)
        (request.out / "model.onnx").write_bytes(b"quantized")
        return Produced(facts={"calibration_examples": min(len(shown), int(str(request.fields["examples"])))})


def written(file: Path, labels: list[int], seed: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (len(labels), 4, 4, 3), dtype=np.uint8)
    np.savez(file, images=pixels, labels=np.array(labels))


def pipeline(folder: Path, calibration: list[int]) -> tuple[Pipeline, Listening]:
    bench, heard = Bench(folder), Listening()
    written(folder / "evaluation.npz", [*range(10)], 0)
    written(folder / "calibration.npz", calibration, 1)
    (folder / "model.onnx").write_bytes(b"model")
    bench.config.write_text(CONFIG)
    made = bench.pipeline(runner=Calibrating())
    shop = replace(made.workshop, progress=heard, fetching=source_recipe)
    return Pipeline(made.loaded, made.plan, shop), heard


def test_calibration_images_of_one_class_are_warned_of_while_they_are_read(tmp_path: Path) -> None:
    running, heard = pipeline(tmp_path, calibration=[3] * 8)
    data = running.read_data()

    assert isinstance(data, ExampleSets)
    assert heard.said == [TOLD]
    assert data.doubts == {"calibration": TOLD}


def test_the_stage_that_calibrated_on_one_class_says_so_in_the_report(tmp_path: Path) -> None:
    running, _ = pipeline(tmp_path, calibration=[3] * 8)
    data, model = running.read_data(), running.chain.fetch()
    running.chain.advance(running.plan.steps[0], Standing.at_first(model, data))

    told = f"{TOLD}; 6 of them were looked at"
    assert running.history.records[-1].notes == (told,)
    assert f"`quantize_onnx`: {told}" in report.markdown(
        run_record().model_copy(update={"stages": running.history.records})
    )


def test_images_of_several_classes_are_not_warned_of(tmp_path: Path) -> None:
    running, heard = pipeline(tmp_path, calibration=[3] * 7 + [4])
    data, model = running.read_data(), running.chain.fetch()
    running.chain.advance(running.plan.steps[0], Standing.at_first(model, data))

    assert heard.said == []
    assert running.history.records[-1].notes == ()


def test_only_a_stage_that_looked_at_them_tells_the_doubt() -> None:
    doubts = {"calibration": TOLD, "training": "training: all 9 images are of class 1"}

    assert stage_doubts(doubts, ["calibration"], {}, {"mode": "dynamic"}) == ()
    assert stage_doubts(doubts, [], {}, {"calibration_examples": 6}) == ()
    assert stage_doubts(doubts, ["training"], {}, {}) == ("training: all 9 images are of class 1",)
