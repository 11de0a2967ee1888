import json
import shutil
from pathlib import Path

import pytest
from running import artifact, calibration, run
from tiny_llama import make

from stages.base import Artifact, Refused, Stage
from stages.collect_imatrix import CollectImatrix
from stages.measure_sensitivity import MeasureSensitivity
from targets.gguf import Gguf


@pytest.fixture(scope="module")
def gptq(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """What every quantizer leaves in a checkpoint's config."""
    folder = shutil.copytree(make(tmp_path_factory.mktemp("hf")), tmp_path_factory.mktemp("gptq") / "model")
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "gptq", "bits": 4, "group_size": 32}
    (folder / "config.json").write_text(json.dumps(config))
    return artifact("hf", folder)


@pytest.mark.parametrize(
    "stage", [CollectImatrix(), MeasureSensitivity(), Gguf()], ids=lambda stage: type(stage).__name__
)
def test_a_quantized_checkpoint_is_refused_with_what_quantized_it(gptq: Artifact, tmp_path: Path, stage: Stage) -> None:
    with pytest.raises(Refused, match="quantized already, with gptq to 4 bits"):
        run(stage, gptq, tmp_path / "out", calibration=calibration(tmp_path / "text"))
