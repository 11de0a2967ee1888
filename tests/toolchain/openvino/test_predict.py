import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from running import ask, inputs, run
from tiny_onnx import cnn, examples

from pipelines import predicting, triton
from stages._examples import Examples
from targets.openvino import Openvino


@pytest.mark.parametrize("cache", [False, True])
def test_program_of_a_bundle_answers_as_was_measured_without_tapeout(tmp_path: Path, cache: bool) -> None:
    shown = examples(tmp_path / "examples")
    held = Examples.load(shown.path)
    bundle, _ = run(Openvino(cache=cache), cnn(tmp_path / "source"), tmp_path / "bundle")
    for name, text in predicting.program(bundle, held.preprocess, {"openvino": "1"}).items():
        (bundle.path / name).write_text(text)
    np.save(tmp_path / "images.npy", held.pixels)

    said = subprocess.run(
        [sys.executable, "-I", bundle.path / "predict.py", "images.npy"],
        cwd=tmp_path,
        env={},
        capture_output=True,
        text=True,
        check=True,
    )

    told = [int(line.split()[1].partition(":")[0]) for line in said.stdout.splitlines()]
    assert told == ask(bundle, inputs(shown)).argmax(1).tolist()


def test_openvino_reads_the_model_where_triton_looks_for_it(tmp_path: Path) -> None:
    import openvino

    bundle, _ = run(Openvino(), cnn(tmp_path / "source"), tmp_path / "bundle")
    for place, target in triton.links(bundle, "tiny").items():
        (bundle.path / place).parent.mkdir(parents=True, exist_ok=True)
        (bundle.path / place).symlink_to(target)
    served = openvino.Core().read_model(bundle.path / "triton" / "tiny" / "1" / "model.xml")

    (config,) = triton.repository(bundle, "tiny").values()
    assert f'name: "{served.input(0).get_any_name()}" data_type: TYPE_FP32 dims: [3, ' in config
    assert f'name: "{served.output(0).get_any_name()}" data_type: TYPE_FP32 dims: [' in config
