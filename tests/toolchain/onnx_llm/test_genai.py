import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from tiny_text import CONTEXT, END, TEXT, VOCABULARY, by_transformers, greedy, make, run

from stages.base import Artifact, Refused
from stages.build_onnx_llm import BuildOnnxLlm
from targets.onnxruntime_genai import OnnxruntimeGenai

GENAI = OnnxruntimeGenai()


@pytest.fixture(scope="session")
def hf(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return make(tmp_path_factory.mktemp("hf"))


@pytest.fixture(scope="session")
def built(hf: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return run(BuildOnnxLlm(precision="float32"), hf, tmp_path_factory.mktemp("float") / "out")[0]


def tokens_of(artifact: Artifact, count: int = 40) -> np.ndarray:
    return GENAI.open(artifact, 2, CONTEXT).encode(TEXT * 8)[:count]


def test_the_build_scores_every_token_as_the_folder_does(hf: Artifact, built: Artifact) -> None:
    tokens = tokens_of(built)
    session = GENAI.open(built, 2, CONTEXT)

    first = session.logits(tokens).copy()

    assert first.shape == (40, VOCABULARY)
    np.testing.assert_allclose(first, by_transformers(hf, tokens), atol=2e-4)
    np.testing.assert_allclose(session.logits(tokens), first, atol=1e-5)


def test_it_generates_what_greedy_decoding_gives_and_times_each_token(hf: Artifact, built: Artifact) -> None:
    prompt = tokens_of(built, 12)
    session = GENAI.open(built, 2, CONTEXT)
    session.logits(prompt)

    made = session.generate(prompt, 6)

    assert made.tokens == greedy(hf, prompt, 6)
    assert len(made.seconds) == 6
    assert min(made.seconds) > 0
    assert session.generate(prompt, 6).tokens == made.tokens


def test_text_survives_encoding_and_decoding(built: Artifact) -> None:
    session = GENAI.open(built, 2, CONTEXT)

    assert session.decode(session.encode(f"{TEXT}{END}")) == f"{TEXT}{END}"
    assert session.vocabulary_size == VOCABULARY


def test_fewer_bits_are_smaller_and_farther_off(hf: Artifact, built: Artifact, tmp_path: Path) -> None:
    tokens, exact = tokens_of(built), by_transformers(hf, tokens_of(built))
    errors, sizes = [], []
    for precision in ("float32", "int8", "int4"):
        stage = BuildOnnxLlm(precision=precision, block_size=32, accuracy_level=1)
        made, produced = run(stage, hf, tmp_path / precision)
        errors.append(float(np.abs(GENAI.open(made, 2, CONTEXT).logits(tokens) - exact).mean()))
        sizes.append((made.path / "model.onnx.data").stat().st_size)
        assert produced.facts["precision"] == precision

    assert errors == sorted(errors)
    assert sizes == sorted(sizes, reverse=True)


def test_the_target_copies_what_was_built(built: Artifact, tmp_path: Path) -> None:
    copied, _ = run(GENAI, built, tmp_path / "copied")

    assert {file.name for file in copied.path.iterdir()} == {file.name for file in built.path.iterdir()}


def test_a_checkpoint_quantized_to_other_bits_is_refused_by_its_method(hf: Artifact, tmp_path: Path) -> None:
    folder = shutil.copytree(hf.path, tmp_path / "gptq")
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "gptq", "bits": 4}
    (folder / "config.json").write_text(json.dumps(config))

    with pytest.raises(Refused, match="quantized already, with gptq to 4 bits; `precision` is float32"):
        run(BuildOnnxLlm(), hf.model_copy(update={"path": folder}), tmp_path / "out")


def test_a_longer_context_than_the_model_knows_is_refused(built: Artifact) -> None:
    with pytest.raises(Refused, match="longer than the 128"):
        GENAI.open(built, 2, CONTEXT + 1)


def test_a_damaged_model_is_refused(built: Artifact, tmp_path: Path) -> None:
    folder = shutil.copytree(built.path, tmp_path / "damaged")
    (folder / "model.onnx").write_bytes(b"no model")

    with pytest.raises(Refused, match="cannot load the model"):
        GENAI.open(built.model_copy(update={"path": folder}), 2, CONTEXT)
