"""Hugging Face folders that are read, or refused, before anything heavy is imported."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages import _hf_model, _tokenizer
from stages._carried import carried
from stages._pooling import Pooling, pooling_of
from stages._tokens import Tokens
from stages.base import Artifact, Refused


def folder(path: Path, modes: tuple[str, ...] = ("mean_tokens",), kinds: tuple[str, ...] = ("Pooling",)) -> Path:
    modules = [{"path": "", "type": "sentence_transformers.models.Transformer"}]
    modules += [{"path": f"1_{kind}", "type": f"sentence_transformers.models.{kind}"} for kind in kinds]
    (path / "modules.json").write_text(json.dumps(modules))
    (path / "1_Pooling").mkdir()
    settings = {"word_embedding_dimension": 8, "pooling_mode_lasttoken": False}
    (path / "1_Pooling" / "config.json").write_text(
        json.dumps({**settings, **{f"pooling_mode_{mode}": True for mode in modes}})
    )
    return path


def configured(path: Path, **settings: Any) -> Path:
    (path / "config.json").write_text(json.dumps(settings))
    return path


def test_pooling_is_what_the_modules_say(tmp_path: Path) -> None:
    found = pooling_of(folder(tmp_path, ("cls_token",), ("Pooling", "Normalize")))

    assert found == Pooling(mode="cls", normalize=True)


def test_without_modules_it_is_the_mean(tmp_path: Path) -> None:
    assert pooling_of(tmp_path) == Pooling(mode="mean", normalize=False)


@pytest.mark.parametrize(
    ("modes", "kinds", "message"),
    [
        (("mean_tokens", "max_tokens"), ("Pooling",), "pooling_mode_mean_tokens and pooling_mode_max_tokens"),
        (("weightedmean_tokens",), ("Pooling",), "the pooling is pooling_mode_weightedmean_tokens"),
        (("mean_tokens",), ("Pooling", "Dense"), "asks for Dense"),
        (("mean_tokens",), ("Normalize",), "names no Pooling"),
    ],
)
def test_pooling_that_is_not_there_is_refused(
    tmp_path: Path, modes: tuple[str, ...], kinds: tuple[str, ...], message: str
) -> None:
    with pytest.raises(Refused, match=message):
        pooling_of(folder(tmp_path, modes, kinds))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"architectures": ["LlamaForCausalLM"]}, "generates text: it is no encoder"),
        ({"architectures": ["T5ForConditionalGeneration"]}, "generates text: it is no encoder"),
        ({"architectures": ["MyBert"], "auto_map": {"AutoModel": "mine.MyBert"}}, "code from its own folder"),
    ],
)
def test_what_is_no_encoder_is_refused_by_its_architecture(
    tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(Refused, match=message):
        _hf_model.load(configured(tmp_path, **settings))


def test_damaged_config_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{")

    with pytest.raises(Refused, match=r"config\.json cannot be read"):
        _hf_model.load(tmp_path)


@pytest.mark.parametrize(("kind", "padding", "most"), [("bert", 0, 512), ("roberta", 1, 510), ("mpnet", 1, 510)])
def test_length_beyond_the_models_positions_is_refused_before_any_text_is_read(
    tmp_path: Path, kind: str, padding: int, most: int
) -> None:
    configured(tmp_path, model_type=kind, max_position_embeddings=512, pad_token_id=padding)

    with pytest.raises(Refused, match=rf"length:` is {most + 1}, and the model has {most} positions"):
        _tokenizer.tokenized(tmp_path, ["a"], most + 1)


def test_padding_is_the_configs(tmp_path: Path) -> None:
    assert _tokenizer.padding_id(configured(tmp_path, pad_token_id=1)) == 1


def test_tokenizer_and_facts_go_with_the_model(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "tokenizer.json").write_text("{}")
    model = Artifact(kind="onnx", path=tmp_path, digest="0", facts={"licence": "MIT", "padding_id": 1, "opset": 20})

    assert carried(model, tmp_path / "out") == {"licence": "MIT", "padding_id": 1}
    assert (tmp_path / "out" / "tokenizer.json").read_text() == "{}"


def test_batch_has_no_column_that_is_padding_alone(tmp_path: Path) -> None:
    ids = np.array([[5, 6, 7, 8], [5, 6, 0, 0], [5, 0, 0, 0]])
    Tokens(ids, (ids > 0).astype(np.int64), 3, np.empty(0, dtype=np.int64)).save(tmp_path)

    fed = Tokens.load(tmp_path).feed(np.array([1, 2]), ("input_ids", "attention_mask"))

    assert fed["input_ids"].tolist() == [[5, 6], [5, 0]]
    assert fed["attention_mask"].tolist() == [[1, 1], [1, 0]]
