"""A folder of transformers 5 as transformers 4 reads it."""

import json
from pathlib import Path

from stages._older_checkpoint import as_transformers_4

CONFIG = {"dtype": "float32", "rope_parameters": {"rope_theta": 100000.0, "rope_type": "default"}, "hidden_size": 8}


def folder(tmp_path: Path, config: dict[str, object]) -> Path:
    made = tmp_path / "model"
    made.mkdir()
    (made / "config.json").write_text(json.dumps(config))
    (made / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "TokenizersBackend"}))
    (made / "model.safetensors").write_bytes(b"weights")
    return made


def test_the_rope_base_moves_to_where_transformers_4_looks_for_it(tmp_path: Path) -> None:
    seen = as_transformers_4(folder(tmp_path, CONFIG), tmp_path / "seen")

    told = json.loads((seen / "config.json").read_text())
    assert told == {"rope_theta": 100000.0, "torch_dtype": "float32", "hidden_size": 8}
    assert json.loads((seen / "tokenizer_config.json").read_text()) == {"tokenizer_class": "PreTrainedTokenizerFast"}


def test_a_scaled_rope_stays_scaled(tmp_path: Path) -> None:
    rope = {"rope_theta": 5e5, "rope_type": "llama3", "factor": 8.0}
    seen = as_transformers_4(folder(tmp_path, {"rope_parameters": rope}), tmp_path / "seen")

    told = json.loads((seen / "config.json").read_text())
    assert told == {"rope_theta": 5e5, "rope_scaling": {"rope_type": "llama3", "factor": 8.0}}


def test_the_folder_itself_stays_as_it_was(tmp_path: Path) -> None:
    model = folder(tmp_path, CONFIG)
    as_transformers_4(model, tmp_path / "seen")

    assert json.loads((model / "config.json").read_text()) == CONFIG
    assert (tmp_path / "seen" / "model.safetensors").read_bytes() == b"weights"
