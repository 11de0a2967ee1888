"""A tiny BERT from its folder to INT8 in ONNX Runtime, and what its bundle says."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from running import run
from tiny_hf import TEXTS, bert, tokens

from pipelines import predicting_texts, triton
from stages import _hf_model
from stages._onnx_back_off import BackOff
from stages._tokens import Tokens
from stages.base import Artifact, Refused
from stages.export_onnx import ExportOnnx
from stages.optimize_onnx import OptimizeOnnx
from stages.quantize_onnx import QuantizeOnnx
from targets.base import EncoderSession, Target
from targets.onnxruntime import Onnxruntime
from targets.pytorch import Pytorch

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return bert(tmp_path_factory.mktemp("bert") / "model")


@pytest.fixture(scope="module")
def calibration(tmp_path_factory: pytest.TempPathFactory, model: Artifact) -> Artifact:
    return tokens(tmp_path_factory.mktemp("tokens") / "tokens", model)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory, model: Artifact, calibration: Artifact) -> Artifact:
    return run(ExportOnnx(), model, tmp_path_factory.mktemp("onnx") / "exported", calibration)[0]


def embedded(model: Artifact, given: Artifact, target: Target, batch: int = 60) -> np.ndarray:
    session, held = target.open(model, threads=1, context_length=0), Tokens.load(given.path)
    parts = [np.arange(start, min(start + batch, len(held))) for start in range(0, len(held), batch)]
    found = [next(iter(session.run(held.feed(rows, session.input_names)).values())) for rows in parts]
    session.close()
    return np.concatenate(found)


def cosine(mine: np.ndarray, theirs: np.ndarray) -> float:
    lengths = np.linalg.norm(mine, axis=1) * np.linalg.norm(theirs, axis=1)
    return float(((mine * theirs).sum(1) / lengths).mean())


def test_reference_pools_over_the_mask_as_transformers_states_say(model: Artifact, calibration: Artifact) -> None:
    import torch
    from transformers import AutoModel

    held = Tokens.load(calibration.path)
    ids, mask = torch.from_numpy(held.ids), torch.from_numpy(held.mask)
    with torch.inference_mode():
        states = AutoModel.from_pretrained(model.path)(input_ids=ids, attention_mask=mask).last_hidden_state
    mean = np.stack([row[: int(kept.sum())].mean(0).numpy() for row, kept in zip(states, mask, strict=True)])
    expected = mean / np.linalg.norm(mean, axis=1, keepdims=True)

    assert np.abs(embedded(model, calibration, Pytorch()) - expected).max() < 1e-5


def test_session_tokenizes_with_special_tokens_and_says_how_many_texts_it_cut(model: Artifact) -> None:
    session = Pytorch().open(model, threads=1, context_length=0)

    assert isinstance(session, EncoderSession)
    made = session.tokenize(["the man", "a " * 9], 6)
    assert made.ids.tolist() == [[2, 4, 6, 3, 0, 0], [2, 5, 5, 5, 5, 3]]
    assert made.mask.sum(1).tolist() == [4, 6]
    assert made.cut == 1


def test_exported_graph_says_the_same_at_any_batch_and_length(
    exported: Artifact, model: Artifact, calibration: Artifact
) -> None:
    reference = embedded(model, calibration, Pytorch())

    for batch in (1, 7, 60):
        assert np.abs(embedded(exported, calibration, Onnxruntime(), batch) - reference).max() < 1e-5
    assert exported.facts["inputs"] == {
        name: {"shape": ["batch", "sequence"], "dtype": "int64"} for name in ("input_ids", "attention_mask")
    }
    assert exported.facts["padding_id"] == 0
    assert (exported.path / "tokenizer.json").is_file()


def test_every_attention_becomes_one_operator_and_the_embeddings_stay(
    tmp_path: Path, exported: Artifact, calibration: Artifact
) -> None:
    made, produced = run(OptimizeOnnx(fuse_attention=True), exported, tmp_path / "fused", calibration)

    assert produced.facts["attention_fused"] == 2
    before, after = produced.facts["operators_before"], produced.facts["operators"]
    assert isinstance(before, dict)
    assert isinstance(after, dict)
    assert (before["Softmax"], after["Attention"]) == (2, 2)
    assert "Softmax" not in after
    assert sum(map(int, map(str, after.values()))) < 0.6 * sum(map(int, map(str, before.values())))
    mine, theirs = (embedded(each, calibration, Onnxruntime()) for each in (made, exported))
    assert np.abs(mine - theirs).max() < 1e-5


def test_graph_without_attention_is_refused_and_not_left_as_it_was(
    tmp_path: Path, calibration: Artifact, model: Artifact
) -> None:
    none = bert(tmp_path / "none", hidden_layers=0)
    source, _ = run(ExportOnnx(), none, tmp_path / "source", calibration)

    with pytest.raises(Refused, match="finds no self-attention"):
        run(OptimizeOnnx(fuse_attention=True), source, tmp_path / "out", calibration)


@pytest.mark.parametrize("fused", [False, True])
def test_dynamic_int8_keeps_the_directions(
    tmp_path: Path, exported: Artifact, calibration: Artifact, fused: bool
) -> None:
    source, _ = run(OptimizeOnnx(fuse_attention=fused), exported, tmp_path / "source", calibration)
    made, produced = run(QuantizeOnnx(mode="dynamic", reduce_range=True), source, tmp_path / "int8", calibration)

    # 6 matrices a layer, of which fused attention holds 3; and the word embedding
    assert produced.facts["quantized_nodes"] == (9 if fused else 13)
    found = cosine(*(embedded(each, calibration, Onnxruntime()) for each in (made, exported)))
    assert 0.99 < found < 0.99999
    assert (made.path / "tokenizer.json").is_file()


def test_static_int8_is_calibrated_on_tokens_and_judged_by_cosine(
    tmp_path: Path, exported: Artifact, calibration: Artifact
) -> None:
    stage = QuantizeOnnx(examples=40, reduce_range=True, back_off=BackOff(min_agreement=0.9))

    made, produced = run(stage, exported, tmp_path / "int8", calibration)

    told = produced.facts["back_off"]
    assert isinstance(told, dict)
    assert told["reached"] is True
    assert 0.9 < float(str(told["agreement_after"])) < 1
    assert cosine(*(embedded(each, calibration, Onnxruntime()) for each in (made, exported))) > 0.9


def test_program_of_a_bundle_embeds_as_was_measured_without_tapeout(
    tmp_path: Path, exported: Artifact, calibration: Artifact
) -> None:
    bundle, _ = run(Onnxruntime(), exported, tmp_path / "bundle")
    for name, text in predicting_texts.program(bundle, 12, {"onnxruntime": "1"}).items():
        (bundle.path / name).write_text(text)

    said = subprocess.run(
        [sys.executable, "-I", bundle.path / "predict.py"],
        input="\n".join(TEXTS) + "\n",
        cwd=tmp_path,
        env={key: os.environ[key] for key in ("LD_LIBRARY_PATH",) if key in os.environ},
        capture_output=True,
        text=True,
        check=True,
    )

    told = np.array([json.loads(line) for line in said.stdout.splitlines()])
    assert np.abs(told - embedded(bundle, calibration, Onnxruntime())).max() < 1e-5
    assert "onnxruntime==1\n" in (bundle.path / "requirements.txt").read_text()


def test_triton_is_told_of_both_inputs_and_of_no_tokenizer(tmp_path: Path, exported: Artifact) -> None:
    bundle, _ = run(Onnxruntime(), exported, tmp_path / "bundle")

    (config,) = triton.repository(bundle, "tiny").values()

    assert '{ name: "input_ids" data_type: TYPE_INT64 dims: [-1] }' in config
    assert '{ name: "attention_mask" data_type: TYPE_INT64 dims: [-1] }' in config
    assert '{ name: "sentence_embedding" data_type: TYPE_FP32 dims: [32] }' in config
    assert triton.links(bundle, "tiny") == {"triton/tiny/1/model.onnx": "../../../model.onnx"}


def test_folder_without_tokenizer_is_refused_when_texts_come(tmp_path: Path) -> None:
    model = bert(tmp_path / "model")
    (model.path / "tokenizer.json").unlink()

    with pytest.raises(Refused, match=r"no tokenizer\.json"):
        Pytorch().open(model, threads=1, context_length=0).tokenize(["a"], 8)


def test_unknown_architecture_and_missing_weights_are_refused(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    model = bert(tmp_path / "model")
    file = model.path / "model.safetensors"
    tensors = load_file(file)
    tensors.pop("encoder.layer.1.output.dense.weight")
    save_file(tensors, file, {"format": "pt"})
    with pytest.raises(Refused, match=r"BertModel: the weights lack `encoder\.layer\.1\.output\.dense\.weight`"):
        _hf_model.load(model.path)

    config = json.loads((model.path / "config.json").read_text())
    (model.path / "config.json").write_text(json.dumps(config | {"model_type": "bart9", "architectures": ["Bart9"]}))
    with pytest.raises(Refused, match="transformers cannot build Bart9"):
        _hf_model.load(model.path)
