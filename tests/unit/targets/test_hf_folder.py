import json
from pathlib import Path
from typing import Any

import pytest

from stages.base import Refused
from targets._hf_folder import architecture, checked_config

CONFIG: dict[str, Any] = {"architectures": ["LlamaForCausalLM"]}


def folder(path: Path, config: dict[str, Any], *files: str) -> Path:
    (path / "config.json").write_text(json.dumps(config))
    for name in files:
        (path / name).touch()
    return path


def test_a_folder_with_safetensors_and_an_architecture_is_accepted(tmp_path: Path) -> None:
    assert architecture(checked_config(folder(tmp_path, CONFIG, "model.safetensors"))) == "LlamaForCausalLM"


def test_a_folder_without_a_config_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"there is no config\.json: not a Hugging Face folder"):
        checked_config(tmp_path)


def test_pickled_weights_are_refused_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(Refused) as caught:
        checked_config(folder(tmp_path, CONFIG, "pytorch_model.bin"))

    assert caught.value.message == "there are no .safetensors weights; pickled weights are never loaded"
    assert caught.value.hint == "save pytorch_model.bin as safetensors where you trust the file"


def test_a_model_that_needs_its_own_code_is_refused(tmp_path: Path) -> None:
    config = CONFIG | {"auto_map": {"AutoModelForCausalLM": "modeling.Model"}}
    with pytest.raises(Refused, match="LlamaForCausalLM needs code from its own folder, which is never executed"):
        checked_config(folder(tmp_path, config, "model.safetensors"))


@pytest.mark.parametrize("config", [{}, {"architectures": []}])
def test_a_config_without_an_architecture_is_refused(tmp_path: Path, config: dict[str, Any]) -> None:
    with pytest.raises(Refused, match=r"config\.json names no `architectures`"):
        checked_config(folder(tmp_path, config, "model.safetensors"))


def test_a_config_that_is_no_json_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(Refused, match=r"config\.json is not JSON"):
        checked_config(tmp_path)
