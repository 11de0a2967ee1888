import json
import shutil
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from tiny_text import CONTEXT, END, TEXT, VOCABULARY, by_transformers, calibration, greedy, make, run

from stages.base import Artifact, Refused
from stages.compress_openvino_llm import CompressOpenvinoLlm
from targets.openvino_llm import OpenvinoLlm

FLOAT = OpenvinoLlm(precision="float32", kv_cache="f32")
ROUNDED = CompressOpenvinoLlm(mode="int4_sym", group_size=32)
LEARNED = CompressOpenvinoLlm(mode="int4_sym", group_size=32, awq=True, scale_estimation=True, windows=40, window=16)


@pytest.fixture(scope="session")
def hf(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return make(tmp_path_factory.mktemp("hf"))


@pytest.fixture(scope="session")
def exported(hf: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return run(FLOAT, hf, tmp_path_factory.mktemp("float") / "out")[0]


@pytest.fixture(scope="session")
def text(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return calibration(tmp_path_factory.mktemp("text") / "calibration")


def tokens_of(artifact: Artifact, count: int = 40) -> np.ndarray:
    session = FLOAT.open(artifact, 2, CONTEXT)
    return session.encode(TEXT * 8)[:count]


def error(artifact: Artifact, hf: Artifact) -> float:
    tokens = tokens_of(artifact)
    return float(np.abs(FLOAT.open(artifact, 2, CONTEXT).logits(tokens) - by_transformers(hf, tokens)).mean())


def perplexity(logits: np.ndarray, tokens: np.ndarray) -> float:
    """Of tokens 2 to n."""
    rows = logits[:-1].astype(np.float64)
    said = rows[np.arange(len(rows)), tokens[1:]] - np.log(np.exp(rows).sum(1))
    return float(np.exp(-said.mean()))


def test_the_export_scores_every_token_as_the_folder_does(hf: Artifact, exported: Artifact) -> None:
    tokens = tokens_of(exported)
    session = FLOAT.open(exported, 2, CONTEXT)

    first = session.logits(tokens).copy()

    assert first.shape == (40, VOCABULARY)
    np.testing.assert_allclose(first, by_transformers(hf, tokens), atol=2e-4)
    np.testing.assert_array_equal(session.logits(tokens), first)


def test_it_generates_what_greedy_decoding_gives_and_times_each_token(hf: Artifact, exported: Artifact) -> None:
    prompt = tokens_of(exported, 12)
    session = FLOAT.open(exported, 2, CONTEXT)
    session.logits(prompt)

    made = session.generate(prompt, 6)

    assert made.tokens == greedy(hf, prompt, 6)
    assert len(made.seconds) == 6
    assert min(made.seconds) > 0
    assert session.generate(prompt, 6).tokens == made.tokens


def test_text_survives_encoding_and_decoding(exported: Artifact) -> None:
    session = FLOAT.open(exported, 2, CONTEXT)

    assert session.decode(session.encode(f"{TEXT}{END}")) == f"{TEXT}{END}"
    assert session.vocabulary_size == VOCABULARY


def test_the_facts_say_what_the_weights_are_held_in(exported: Artifact, tmp_path: Path) -> None:
    int8, _ = run(CompressOpenvinoLlm(mode="int8_asym"), exported, tmp_path / "int8")
    int4, _ = run(ROUNDED, exported, tmp_path / "int4")

    assert exported.facts["precision"] == "f32"
    assert int8.facts["precision"] == "u8"
    assert int4.facts["precision"] == "i4"
    assert exported.facts["chat_template"] is True
    assert int4.facts["licence"] == "MIT"


def test_weights_learned_from_text_are_closer_than_rounded_ones(
    hf: Artifact, exported: Artifact, text: Artifact, tmp_path: Path
) -> None:
    rounded, _ = run(ROUNDED, exported, tmp_path / "rounded")
    learned, made = run(LEARNED, exported, tmp_path / "learned", calibration=text)

    assert made.facts["calibration_tokens"] == 40 * 16
    assert 0 < error(learned, hf) < error(rounded, hf)


def test_compressed_weights_are_not_compressed_again(exported: Artifact, tmp_path: Path) -> None:
    once, _ = run(ROUNDED, exported, tmp_path / "once")

    with pytest.raises(Refused, match="compressed already"):
        run(ROUNDED, once, tmp_path / "twice")


def test_a_group_that_does_not_divide_a_layer_is_refused(exported: Artifact, tmp_path: Path) -> None:
    with pytest.raises(Refused, match="group size"):
        run(CompressOpenvinoLlm(group_size=48), exported, tmp_path / "out")


def test_learning_without_text_is_refused(exported: Artifact, tmp_path: Path) -> None:
    with pytest.raises(Refused, match="there is none"):
        run(LEARNED, exported, tmp_path / "out")


def test_a_longer_context_than_the_model_knows_is_refused(exported: Artifact) -> None:
    with pytest.raises(Refused, match="longer than the 128"):
        FLOAT.open(exported, 2, CONTEXT + 1)


def test_a_damaged_graph_is_refused(exported: Artifact, tmp_path: Path) -> None:
    folder = shutil.copytree(exported.path, tmp_path / "damaged")
    (folder / "openvino_model.xml").write_text("<net>")

    with pytest.raises(Refused, match="cannot read openvino_model"):
        FLOAT.open(exported.model_copy(update={"path": folder}), 2, CONTEXT)


def test_an_architecture_of_no_text_model_is_refused(hf: Artifact, tmp_path: Path) -> None:
    folder = shutil.copytree(hf.path, tmp_path / "other")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "no_such_type"}))

    with pytest.raises(Refused, match="cannot export"):
        run(FLOAT, hf.model_copy(update={"path": folder}), tmp_path / "out")


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_scales_that_are_no_numbers_are_told_with_their_layer(exported: Artifact, tmp_path: Path) -> None:
    folder = shutil.copytree(exported.path, tmp_path / "broken")
    layers = ElementTree.parse(folder / "openvino_model.xml").iter("layer")
    layer = next(each for each in layers if each.get("name", "").endswith("layers.1.mlp.up_proj.weight"))
    data = layer.find("data")
    assert data is not None
    with (folder / "openvino_model.bin").open("r+b") as weights:
        weights.seek(int(data.get("offset", "")))
        weights.write(np.float32(np.inf).tobytes())

    with pytest.raises(Refused, match=r"the scales of `\S*layers\.1\.mlp\.up_proj\S*` hold NaN or infinity"):
        run(ROUNDED, exported.model_copy(update={"path": folder}), tmp_path / "out")


def test_at_full_precision_its_perplexity_is_the_folders(hf: Artifact, exported: Artifact) -> None:
    tokens = tokens_of(exported, 100)
    mine, theirs = FLOAT.open(exported, 2, CONTEXT).logits(tokens), by_transformers(hf, tokens)

    assert perplexity(mine, tokens) == pytest.approx(perplexity(theirs, tokens), rel=1e-4)
