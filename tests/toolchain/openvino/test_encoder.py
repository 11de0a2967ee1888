"""A text encoder in OpenVINO: two inputs of any batch and length, INT8 through NNCF, the tokenizer that goes along."""

from pathlib import Path

import numpy as np
import pytest
from running import WITHOUT_VNNI, run
from tiny_encoder import WIDTH, encoder, tokens

from stages._tokens import Tokens
from stages.base import Artifact, Refused
from stages.compress_openvino import CompressOpenvino
from targets.openvino import Openvino

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture
def model(tmp_path: Path) -> Artifact:
    return encoder(tmp_path / "onnx")


@pytest.fixture
def texts(tmp_path: Path) -> Artifact:
    return tokens(tmp_path / "tokens")


def embedded(model: Artifact, texts: Artifact, batch: int = 60) -> np.ndarray:
    session, held = Openvino().open(model, threads=1, context_length=0), Tokens.load(texts.path)
    parts = [np.arange(start, min(start + batch, len(held))) for start in range(0, len(held), batch)]
    found = [session.run(held.feed(rows, session.input_names))["sentence_embedding"].copy() for rows in parts]
    session.close()
    return np.concatenate(found)


def cosine(mine: np.ndarray, theirs: np.ndarray) -> float:
    """Mean over the texts; both are of unit length."""
    return float((mine * theirs).sum(1).mean())


def test_converted_encoder_embeds_as_its_graph_does_at_any_batch_and_length(
    tmp_path: Path, model: Artifact, texts: Artifact
) -> None:
    from onnx.reference import ReferenceEvaluator

    held = Tokens.load(texts.path)
    asked = held.feed(np.arange(len(held)), ("input_ids", "attention_mask"))
    (expected,) = ReferenceEvaluator(str(model.path / "model.onnx")).run(None, asked)
    made, produced = run(Openvino(), model, tmp_path / "out")

    for batch in (1, 7, 60):
        assert np.abs(embedded(made, texts, batch) - expected).max() < 1e-5
    assert produced.facts["inputs"] == {
        name: {"shape": ["batch", None], "dtype": "int64"} for name in ("input_ids", "attention_mask")
    }
    assert produced.facts["outputs"] == {"sentence_embedding": {"shape": ["batch", WIDTH], "dtype": "float32"}}


def test_tokenizer_and_padding_go_along_to_the_bundle(tmp_path: Path, model: Artifact, texts: Artifact) -> None:
    quantized, _ = run(CompressOpenvino(examples=40, transformer=True), model, tmp_path / "int8", texts)
    made, produced = run(Openvino(), quantized, tmp_path / "out")

    assert (made.path / "tokenizer.json").is_file()
    assert produced.facts["padding_id"] == 0


def test_int8_is_calibrated_on_tokens_and_keeps_the_directions(
    tmp_path: Path, model: Artifact, texts: Artifact
) -> None:
    stage = CompressOpenvino(examples=40, transformer=True, reduce_range=WITHOUT_VNNI)
    made, produced = run(stage, model, tmp_path / "int8", texts)

    assert produced.facts["precision"] == "int8"
    assert produced.facts["calibration_examples"] == 40
    operators = produced.facts["quantized_operators"]
    assert isinstance(operators, dict)
    assert int(str(operators["MatMul"])) >= 5
    assert 0.98 < cosine(embedded(made, texts), embedded(model, texts)) < 0.999999


def test_weights_alone_are_compressed_for_an_encoder(tmp_path: Path, model: Artifact, texts: Artifact) -> None:
    made, produced = run(CompressOpenvino(mode="int8_weights"), model, tmp_path / "int8", None)

    assert produced.facts["precision"] == "int8_weights"
    assert 0.99 < cosine(embedded(made, texts), embedded(model, texts)) < 0.999999


def test_drop_of_an_encoder_is_measured_by_cosine_and_by_nothing_else(
    tmp_path: Path, model: Artifact, texts: Artifact
) -> None:
    stage = CompressOpenvino(examples=40, transformer=True, held_out=20, max_drop=0.05)
    with pytest.raises(Refused, match="`measure: top1_agreement` does not suit texts"):
        run(stage, model, tmp_path / "classes", texts)

    _, produced = run(stage.model_copy(update={"measure": "cosine_agreement"}), model, tmp_path / "cosine", texts)
    assert isinstance(produced.facts["cosine_agreement_drop"], float)
    assert produced.facts["cosine_agreement_drop"] <= 0.05
