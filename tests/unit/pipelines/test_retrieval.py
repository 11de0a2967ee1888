"""Passages and queries of an encoder's config, and what such a config leaves out."""

import json
from pathlib import Path
from typing import Any

import pytest

from pipelines import plan
from pipelines.checking.metrics import measured_metrics
from pipelines.config import LoadedConfig
from pipelines.data.retrieval import read_retrieval, retrieval
from pipelines.errors import ConfigErrors, DataError
from pipelines.fields.data import PathData
from pipelines.fields.evaluation import Embeddings
from pipelines.parsing import parse
from pipelines.progress import Silent

WORDS = "which of the many words of a passage stand at place number"


def squad(file: Path, passages: int, prefix: str = "") -> None:
    told = " ".join(prefix + word for word in WORDS.split())

    def asked(n: int) -> list[dict[str, str]]:
        return [{"question": f"{prefix} what {n}, {k}?".strip()} for k in (0, 1)]

    paragraphs = [{"context": f"passage {n}: {told} {n}", "qas": asked(n)} for n in range(passages)]
    file.write_text(json.dumps({"data": [{"paragraphs": paragraphs}]}))


def configured(folder: Path, **changes: Any) -> LoadedConfig:
    tree: dict[str, Any] = {
        "name": "tiny",
        "source": {"path": "model"},
        "steps": ["export_onnx", "onnxruntime"],
        "data": {"evaluation": {"path": "squad.json", "reader": "squad"}},
        "evaluation": {"embeddings": {"passages": 6, "queries": 4, "neighbours": 2}},
        **changes,
    }
    (folder / "model").mkdir(exist_ok=True)
    (folder / "model" / "config.json").write_text("{}")
    (folder / "config.yaml").write_text(json.dumps(tree))
    return parse(folder / "config.yaml")


def read(folder: Path, reader: str = "squad", **settings: int) -> Any:
    source = PathData.model_validate({"path": "squad.json", "reader": reader})
    return retrieval(source, Embeddings(**settings), folder, folder, Silent())


def test_every_query_knows_its_own_passage(tmp_path: Path) -> None:
    squad(tmp_path / "squad.json", 20)

    found = read(tmp_path, passages=10, queries=10, neighbours=3)

    assert (len(found.passages), len(found.queries)) == (10, 10)
    for query, index in zip(found.queries, found.relevant, strict=True):
        assert f"passage {query.split()[1].rstrip(',')}:" in found.passages[index]


def test_both_are_evenly_spaced_and_all_are_taken_where_there_are_no_more(tmp_path: Path) -> None:
    squad(tmp_path / "squad.json", 20)

    assert [each.split()[1] for each in read(tmp_path, passages=4, neighbours=2).passages] == EVERY_FIFTH
    assert len(read(tmp_path, passages=500, queries=500).queries) == 40


def test_other_text_gives_its_paragraphs_once_without_headings_and_queries(tmp_path: Path) -> None:
    text = f"A heading\n\n{WORDS} one\n\n{WORDS} two\n\n{WORDS} one\n\n{WORDS} three"
    (tmp_path / "squad.json").write_text(text)

    found = read(tmp_path, "text", neighbours=2)

    assert found.passages == (f"{WORDS} one", f"{WORDS} two", f"{WORDS} three")
    assert found.queries == found.relevant == ()


def test_fewer_passages_than_neighbours_are_refused(tmp_path: Path) -> None:
    squad(tmp_path / "squad.json", 10)

    with pytest.raises(DataError, match="10 passages are too few to look at the 10 nearest of"):
        read(tmp_path, neighbours=10)


def test_calibration_texts_that_are_measured_too_are_refused(tmp_path: Path) -> None:
    squad(tmp_path / "squad.json", 8)
    squad(tmp_path / "other.json", 9)
    data = {name: {"path": f"{file}.json", "reader": "squad"} for name, file in DATA.items()}

    with pytest.raises(DataError, match=r"calibration data \(other\.json\) holds \d+\.\d% of the 13-word passages"):
        read_retrieval(configured(tmp_path, data=data), tmp_path, Silent())


def test_calibration_texts_of_their_own_are_read_alike(tmp_path: Path) -> None:
    squad(tmp_path / "squad.json", 8)
    squad(tmp_path / "other.json", 9, "un")
    data = {name: {"path": f"{file}.json", "reader": "squad"} for name, file in DATA.items()}

    found = read_retrieval(configured(tmp_path, data=data), tmp_path, Silent())

    assert found.calibration is not None
    assert (len(found.evaluation.passages), len(found.calibration.passages)) == (6, 6)
    assert found.record.documents == 10


def test_every_training_text_is_read_however_many_are_measured(tmp_path: Path) -> None:
    squad(tmp_path / "squad.json", 8)
    squad(tmp_path / "other.json", 9, "un")
    data = {name: {"path": f"{file}.json", "reader": "squad"} for name, file in TRAINED.items()}

    found = read_retrieval(configured(tmp_path, data=data), tmp_path, Silent())

    assert found.calibration is None
    assert found.training is not None
    assert (len(found.training.passages), len(found.training.queries)) == (9, 18)


def test_training_texts_that_are_measured_too_are_refused(tmp_path: Path) -> None:
    squad(tmp_path / "squad.json", 8)
    squad(tmp_path / "other.json", 9)
    data = {name: {"path": f"{file}.json", "reader": "squad"} for name, file in TRAINED.items()}

    with pytest.raises(DataError, match=r"training data \(other\.json\) holds \d+\.\d% of the 13-word passages"):
        read_retrieval(configured(tmp_path, data=data), tmp_path, Silent())


EVERY_FIFTH = ["0:", "5:", "10:", "15:"]
DATA = {"evaluation": "squad", "calibration": "other"}
TRAINED = {"evaluation": "squad", "training": "other"}


def test_config_of_an_encoder_leaves_out_what_is_of_language_models_and_takes_torch_for_reference(
    tmp_path: Path,
) -> None:
    squad(tmp_path / "squad.json", 8)
    config = configured(tmp_path).config

    assert config.of_embeddings
    assert config.reference.__class__.__name__ == "Pytorch"
    assert config.evaluation.perplexity is None
    assert config.evaluation.latency is not None
    assert measured_metrics(config) >= {"cosine_agreement", "rank_agreement", "recall", "speed_ratio_32"}
    assert "perplexity" not in measured_metrics(config)


def test_asking_for_perplexity_of_an_encoder_is_a_mistake(tmp_path: Path) -> None:
    squad(tmp_path / "squad.json", 8)
    evaluation = {"embeddings": {}, "perplexity": {"windows": 4, "max_windows": 8}}

    with pytest.raises(ConfigErrors, match="`perplexity`: cannot be measured on embeddings"):
        plan.check(configured(tmp_path, evaluation=evaluation))


def test_budget_on_recall_is_known_and_cosine_takes_no_regression(tmp_path: Path) -> None:
    squad(tmp_path / "squad.json", 8)
    budgets = [{"metric": "recall", "max_regression": 0.02}, {"metric": "cosine_agreement", "max_regression": 0.01}]

    with pytest.raises(ConfigErrors) as caught:
        plan.check(configured(tmp_path, budgets=budgets))

    assert "cosine_agreement already compares with the reference" in str(caught.value)
    assert "item 1" not in str(caught.value)
