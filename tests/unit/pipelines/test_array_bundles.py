"""What bundles of classifiers and encoders are served with: predict.py, and a model repository that Triton reads."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from google.protobuf import text_format
from samples import CONFIG, DIGESTS, run_record
from triton_schema import kinds, read, tensors
from tritonclient.grpc.model_config_pb2 import ModelConfig

from pipelines.bundle import check_files, package, read_manifest
from pipelines.records import RunRecord
from stages.base import Artifact

IMAGES = {"inputs": {"image": ([3, 32, 32], "float32")}, "outputs": {"scores": ([10], "float16")}}
TEXTS = {
    "inputs": {"input_ids": (["sequence"], "int64"), "attention_mask": (["sequence"], "int64")},
    "outputs": {"embeddings": ([384], "float32")},
}
Described = dict[str, dict[str, tuple[list[int | str], str]]]


def model(
    folder: Path, kind: str, *files: str, batch: str | int = "batch", tensors: Described = IMAGES, **facts: object
) -> Artifact:
    """An artifact, as far as a bundle looks at it."""
    path = folder / "artifact"
    path.mkdir()
    for file in files:
        (path / file).write_text(file)
    described = {
        side: {name: {"shape": [batch, *shape], "dtype": dtype} for name, (shape, dtype) in held.items()}
        for side, held in tensors.items()
    }
    made = {"kind": kind, "path": path, "digest": DIGESTS["quantize_gguf"], "facts": {**described, **facts}}
    return Artifact.model_validate(made)


def packaged(artifact: Artifact, tmp_path: Path, record: RunRecord | None = None) -> Path:
    bundle = package(record or run_record(), artifact, tmp_path / "dist", CONFIG)
    assert check_files(bundle) == []
    return bundle


def triton_config(bundle: Path) -> ModelConfig:
    return read((bundle / "triton" / "smol-q6k" / "config.pbtxt").read_text())


def assert_batches_images(config: ModelConfig, backend: str, at_most: int) -> None:
    assert (config.name, config.backend, config.max_batch_size) == ("smol-q6k", backend, at_most)
    assert tensors(config.input) == {"image": ("TYPE_FP32", [3, 32, 32])}
    assert tensors(config.output) == {"scores": ("TYPE_FP16", [10])}
    assert config.WhichOneof("scheduling_choice") == "dynamic_batching"
    assert config.dynamic_batching.max_queue_delay_microseconds == 100


def test_onnx_model_comes_with_a_program_that_predicts_and_a_triton_repository(tmp_path: Path) -> None:
    bundle = packaged(model(tmp_path, "onnx", "model.onnx", "model.onnx.data"), tmp_path)

    compile((bundle / "predict.py").read_text(), "predict.py", "exec")
    config = triton_config(bundle)
    assert_batches_images(config, "onnxruntime", at_most=64)
    assert kinds(config) == ["KIND_CPU"]
    served = bundle / "triton" / "smol-q6k" / "1"
    assert {path.name: path.read_text() for path in served.iterdir()} == {
        "model.onnx": "model.onnx",
        "model.onnx.data": "model.onnx.data",
    }


def test_model_of_a_gpu_provider_is_served_by_it(tmp_path: Path) -> None:
    bundle = packaged(model(tmp_path, "onnx", "model.onnx", provider="tensorrt"), tmp_path)

    wanted = "providers=['TensorrtExecutionProvider', 'CUDAExecutionProvider', 'CPUExecutionProvider']"
    assert wanted in (bundle / "predict.py").read_text()
    assert "onnxruntime-gpu" in (bundle / "requirements.txt").read_text().split()
    config = triton_config(bundle)
    assert kinds(config) == ["KIND_GPU"]
    accelerators = config.optimization.execution_accelerators.gpu_execution_accelerator
    assert [each.name for each in accelerators] == ["tensorrt"]


def test_openvino_model_comes_with_both(tmp_path: Path) -> None:
    artifact = model(tmp_path, "openvino", "openvino.xml", "openvino.bin", hint="throughput")
    record = run_record()
    last = record.stages[-1].model_copy(update={"tool_versions": {"openvino": "2026.4.1"}})
    bundle = packaged(artifact, tmp_path, record.model_copy(update={"stages": (*record.stages[:-1], last)}))

    compile((bundle / "predict.py").read_text(), "predict.py", "exec")
    assert "'PERFORMANCE_HINT': 'THROUGHPUT'" in (bundle / "predict.py").read_text()
    config = triton_config(bundle)
    assert_batches_images(config, "openvino", at_most=64)
    assert kinds(config) == ["KIND_CPU"]
    assert (bundle / "triton" / "smol-q6k" / "1" / "model.xml").read_text() == "openvino.xml"
    assert (bundle / "triton" / "smol-q6k" / "1" / "model.bin").read_text() == "openvino.bin"
    numpy, openvino, pillow = (bundle / "requirements.txt").read_text().splitlines()
    assert openvino == "openvino==2026.4.1"
    assert all(re.fullmatch(r"(numpy|pillow)==[\d.]+", pin) for pin in (numpy, pillow))


def of_embeddings() -> RunRecord:
    return run_record().model_copy(update={"evaluation": {"embeddings": {"length": 128}}})


@pytest.mark.parametrize("record", [run_record(), of_embeddings()], ids=["images", "texts"])
def test_compiled_openvino_model_is_in_the_bundle_known_to_it_and_opened_by_its_program(
    tmp_path: Path, record: RunRecord
) -> None:
    files = ("openvino.xml", "openvino.bin", "openvino.blob", "tokenizer.json")
    bundle = packaged(model(tmp_path, "openvino", *files, tensors=TEXTS), tmp_path, record)

    assert "openvino.blob" in read_manifest(bundle).files
    program = (bundle / "predict.py").read_text()
    compile(program, "predict.py", "exec")
    assert "import_model" in program
    (bundle / "openvino.blob").write_text("of another machine")
    (told,) = check_files(bundle)
    assert told.startswith("openvino.blob was changed: 18 bytes, expected 13")


def test_triton_picks_the_engine_by_compute_capability(tmp_path: Path) -> None:
    engines = {"7.5": {"file": "engine_sm75.engine"}, "8.9": {"file": "engine_sm89.engine"}}
    files = [engine["file"] for engine in engines.values()]
    profile = [[1, 3, 32, 32], [8, 3, 32, 32], [32, 3, 32, 32]]
    bundle = packaged(model(tmp_path, "tensorrt", *files, engines=engines, profile=profile), tmp_path)

    config = triton_config(bundle)
    assert_batches_images(config, "tensorrt", at_most=32)
    assert kinds(config) == ["KIND_GPU"]
    assert dict(config.cc_model_filenames) == {"7.5": "engine_sm75.engine", "8.9": "engine_sm89.engine"}
    assert (bundle / "triton" / "smol-q6k" / "1" / "engine_sm89.engine").read_text() == "engine_sm89.engine"


def test_engines_of_either_tensorrt_say_whose_they_are(tmp_path: Path) -> None:
    texts = {}
    for number, library in enumerate(("TensorRT for RTX 1.7.1.116", "TensorRT 11.4.0.106")):
        (folder := tmp_path / str(number)).mkdir()
        engines = {"9.0": {"file": "engine_sm90.engine"}}
        made = model(folder, "tensorrt", "engine_sm90.engine", engines=engines, tensorrt=library)
        texts[library] = (packaged(made, folder) / "triton" / "smol-q6k" / "config.pbtxt").read_text()

    rtx, full = texts.values()
    assert "built against TensorRT for RTX" in rtx
    assert "#" not in full
    assert read(rtx) == read(full)


@pytest.mark.parametrize(("kind", "backend"), [("onnx", "onnxruntime"), ("openvino", "openvino")])
def test_triton_is_told_that_texts_have_any_length(tmp_path: Path, kind: str, backend: str) -> None:
    files = ("model.onnx", "openvino.xml", "openvino.bin")
    config = triton_config(packaged(model(tmp_path, kind, *files, tensors=TEXTS), tmp_path))

    assert (config.backend, config.max_batch_size) == (backend, 64)
    assert tensors(config.input) == {"input_ids": ("TYPE_INT64", [-1]), "attention_mask": ("TYPE_INT64", [-1])}
    assert tensors(config.output) == {"embeddings": ("TYPE_FP32", [384])}
    assert config.HasField("dynamic_batching")


def test_triton_does_not_batch_what_takes_a_fixed_number(tmp_path: Path) -> None:
    config = triton_config(packaged(model(tmp_path, "onnx", "model.onnx", batch=4), tmp_path))

    assert config.max_batch_size == 0
    assert tensors(config.input) == {"image": ("TYPE_FP32", [4, 3, 32, 32])}
    assert config.WhichOneof("scheduling_choice") is None


def test_a_number_an_example_is_a_dimension_of_one_to_triton_which_takes_no_empty_dims(tmp_path: Path) -> None:
    scores: Described = {"inputs": IMAGES["inputs"], "outputs": {"score": ([], "float32")}}
    config = triton_config(packaged(model(tmp_path, "onnx", "model.onnx", tensors=scores), tmp_path))

    (score,) = config.output
    assert list(score.dims) == [1]
    assert score.HasField("reshape")
    assert list(score.reshape.shape) == []


def test_the_schema_refuses_what_triton_does_not_know() -> None:
    with pytest.raises(text_format.ParseError):
        read('name: "a" dynamic_batch { }')
    with pytest.raises(text_format.ParseError):
        read('input [ { name: "x" data_type: TYPE_FLOAT32 dims: [3] } ]')
