import json
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from packed_text import awq_of, gptq_of
from tiny_text import CONTEXT, END, TEXT, VOCABULARY, by_transformers, greedy, make, run
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM

from stages._quantized import floats, quantization
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


def tokens_of_text(hf: Artifact, count: int = 40) -> np.ndarray:
    ids = Tokenizer.from_file(str(hf.path / "tokenizer.json")).encode(TEXT * 8).ids[:count]
    return np.array(ids, dtype=np.int32)


def by_weights(hf: Artifact, weights: dict[str, np.ndarray], tokens: np.ndarray) -> np.ndarray:
    """Logits of the folder's model with other weights, shape (n, vocabulary)."""
    model = AutoModelForCausalLM.from_pretrained(hf.path, dtype=torch.float32)
    given = {name: torch.from_numpy(np.ascontiguousarray(values)) for name, values in weights.items()}
    assert set(model.load_state_dict(given, strict=False).missing_keys) <= {"lm_head.weight"}
    model.tie_weights()
    with torch.inference_mode():
        logits: np.ndarray = model(torch.from_numpy(tokens.astype(np.int64))[None]).logits[0].numpy()
    return logits


def tokens_of(artifact: Artifact, count: int = 40) -> np.ndarray:
    return GENAI.open(artifact, 2, CONTEXT).encode(TEXT * 8)[:count]


def perplexity(logits: np.ndarray, tokens: np.ndarray) -> float:
    """Of tokens 2 to n."""
    rows = logits[:-1].astype(np.float64)
    said = rows[np.arange(len(rows)), tokens[1:]] - np.log(np.exp(rows).sum(1))
    return float(np.exp(-said.mean()))


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


CHECKPOINTS = {"gptq": gptq_of, "act order": partial(gptq_of, act_order=True), "awq": awq_of}


@pytest.mark.parametrize("width", [128, 192], ids=["even blocks", "odd blocks"])
@pytest.mark.parametrize("form", CHECKPOINTS)
def test_a_checkpoint_is_deployed_with_the_weights_that_it_has(tmp_path: Path, form: str, width: int) -> None:
    hf = make(tmp_path / "hf", width=width)
    checkpoint = CHECKPOINTS[form](hf, tmp_path / "checkpoint", group_size=64)
    how = quantization(checkpoint.path)
    assert how is not None
    unpacked = by_weights(hf, dict(floats(checkpoint.path, how)), tokens := tokens_of_text(hf))

    stage = BuildOnnxLlm(precision="int4", block_size=32, accuracy_level=1, keep_8_bits="head")
    made, produced = run(stage, checkpoint, tmp_path / "out")
    scored = GENAI.open(made, 2, CONTEXT).logits(tokens)

    off_the_checkpoint, off_the_floats = (
        float(np.abs(scored - other).mean()) for other in (unpacked, by_transformers(hf, tokens))
    )
    assert off_the_checkpoint < off_the_floats / 5
    assert produced.facts["precision"] == "int4"
    assert (produced.facts["method"], produced.facts["block_size"]) == (how.method, 64)
    assert [note for note in produced.notes if "`act_order: false`" not in note] == []
    assert bool(produced.notes) == (form == "act order")


def test_at_float16_it_scores_nearly_as_the_folder_does(hf: Artifact, tmp_path: Path) -> None:
    made, produced = run(BuildOnnxLlm(precision="float16"), hf, tmp_path / "out")
    tokens = tokens_of(made)
    exact = by_transformers(hf, tokens)

    assert np.abs(GENAI.open(made, 2, CONTEXT).logits(tokens) - exact).max() < 0.01 * np.abs(exact).max()
    assert produced.facts["precision"] == "float16"


def test_rounding_the_head_of_a_checkpoint_that_left_it_in_floats_is_told(hf: Artifact, tmp_path: Path) -> None:
    checkpoint = gptq_of(hf, tmp_path / "gptq", group_size=32)

    _, produced = run(BuildOnnxLlm(precision="int4", block_size=32), checkpoint, tmp_path / "out")

    assert "the checkpoint has its head in floats; it is rounded to 4 bits here" in produced.notes[0]


def test_an_odd_number_of_blocks_is_refused_and_the_sizes_named_build(hf: Artifact, tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"cuts the 64 inputs of .* into 1 blocks") as refused:
        run(BuildOnnxLlm(precision="int4", method="k_quant", block_size=64), hf, tmp_path / "odd")
    assert "`block_size: 16 or 32`" in refused.value.hint

    for size in (16, 32):
        stage = BuildOnnxLlm(precision="int4", method="k_quant", block_size=size)
        made, _ = run(stage, hf, tmp_path / str(size))
        assert np.isfinite(GENAI.open(made, 2, CONTEXT).logits(tokens_of(made))).all()


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


def test_at_full_precision_its_perplexity_is_the_folders(hf: Artifact, built: Artifact) -> None:
    tokens = tokens_of(built, 100)
    mine, theirs = GENAI.open(built, 2, CONTEXT).logits(tokens), by_transformers(hf, tokens)

    assert perplexity(mine, tokens) == pytest.approx(perplexity(theirs, tokens), rel=1e-4)
