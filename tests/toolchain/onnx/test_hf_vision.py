"""Image classifiers out of Hugging Face folders, as what a function of one's own builds."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from running import ask, inputs, run
from tiny_hf import resnet, vit
from tiny_nets import examples

from stages.base import Artifact
from stages.export_onnx import ExportOnnx
from stages.optimize_onnx import OptimizeOnnx
from stages.quantize_onnx import QuantizeOnnx
from targets.pytorch import Pytorch

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning")


@pytest.mark.parametrize("make", [vit, resnet])
def test_folder_goes_to_int8_as_any_classifier_does(tmp_path: Path, make: Callable[[Path], Artifact]) -> None:
    model, calibration = make(tmp_path / "model"), examples(tmp_path / "examples")
    reference = ask(model, inputs(calibration), Pytorch())

    exported, produced = run(ExportOnnx(), model, tmp_path / "onnx", calibration)
    optimized, _ = run(OptimizeOnnx(), exported, tmp_path / "optimized", calibration)
    int8, told = run(QuantizeOnnx(examples=48, reduce_range=True), optimized, tmp_path / "int8", calibration)

    assert reference.shape[1] == 5
    assert list(produced.facts["outputs"]) == ["logits"]  # type: ignore[arg-type]
    assert np.abs(ask(optimized, inputs(calibration)) - reference).max() < 1e-4 * np.abs(reference).max()
    assert int(str(told.facts["quantized_nodes"])) > 5
    moved = np.sqrt(np.mean((ask(int8, inputs(calibration)) - reference) ** 2)) / reference.std()
    assert 0 < moved < 0.5
