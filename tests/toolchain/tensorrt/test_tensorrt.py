import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import tensorrt_rtx_bindings as trt
from tiny_cnn import examples, make, make_of

from stages.base import Artifact, Context, Produced, Refused, Stage
from stages.quantize_tensorrt import QuantizeTensorrt
from targets._tensorrt_build import _timing_cache, _timings, built, logger
from targets._tensorrt_device import device_capability
from targets._tensorrt_library import FULL
from targets._tensorrt_manifest import RTX_CAPABILITIES, Manifest
from targets.tensorrt import Profile, Tensorrt

FIVE = ("7.5", "8.0", "8.6", "8.9", "12.0")
without_gpu = pytest.mark.skipif(device_capability() is not None, reason="there is a GPU")
pytestmark = pytest.mark.filterwarnings("ignore:.*onnxruntime.*:DeprecationWarning")


def artifact(kind: str, path: Path) -> Artifact:
    return Artifact(kind=kind, path=path, digest="0")


def run(stage: Stage, model: Artifact, out: Path, given: Path | None = None) -> tuple[Artifact, Produced]:
    scratch = out.with_name(out.name + ".scratch")
    out.mkdir(parents=True)
    scratch.mkdir()
    inputs = {"calibration": artifact("examples", given)} if given else {}
    produced = stage.run(model, Context(out=out, scratch=scratch, threads=2, inputs=inputs))
    return artifact(stage.produces, out), produced


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return examples(tmp_path_factory.mktemp("images") / "examples")


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return artifact("onnx", make(tmp_path_factory.mktemp("tiny")))


@pytest.fixture(scope="session")
def graphs(source: Artifact, images: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artifact]:
    folder = tmp_path_factory.mktemp("graphs")
    stages = {
        "float32": None,
        "float16": QuantizeTensorrt(type="float16"),
        "int8": QuantizeTensorrt(examples=16),
        "int8_float32": QuantizeTensorrt(examples=16, float_type="float32"),
    }
    return {name: run(stage, source, folder / name, images)[0] if stage else source for name, stage in stages.items()}


def operators(made: Artifact) -> dict[str, Any]:
    return {node.name: node for node in onnx.load(str(made.path / "model.onnx")).graph.node}


def test_capabilities_are_those_that_the_library_knows() -> None:
    members = set(trt.ComputeCapability.__members__) - {"NONE", "CURRENT"}

    assert {f"SM{capability.replace('.', '')}" for capability in RTX_CAPABILITIES} == members


def test_only_inputs_and_weights_of_weighted_nodes_are_quantized(graphs: dict[str, Artifact]) -> None:
    model = onnx.load(str(graphs["int8"].path / "model.onnx"))
    makers = {name: node for node in model.graph.node for name in node.output}

    for name in ("conv_1", "conv_2", "head"):
        (node,) = [each for each in model.graph.node if each.name == name]
        assert [makers[given].op_type for given in node.input[:2]] == ["DequantizeLinear"] * 2
        assert node.input[2] not in makers
    for relu in (node for node in model.graph.node if node.op_type == "Relu"):
        assert makers[relu.input[0]].op_type == "Conv"
    assert makers["logits"].op_type == "Cast"


def test_zero_points_are_zero_and_scales_are_float16(graphs: dict[str, Artifact]) -> None:
    model = onnx.load(str(graphs["int8"].path / "model.onnx"))
    held = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    quantizers = [node for node in model.graph.node if node.op_type == "QuantizeLinear"]

    assert len(quantizers) == 3
    assert all(held[node.input[1]].dtype == np.float16 for node in quantizers)
    assert all(held[node.input[2]].dtype == np.int8 and not held[node.input[2]].any() for node in quantizers)


def test_facts_say_how_far_the_outputs_moved(source: Artifact, images: Path, tmp_path: Path) -> None:
    _, int8 = run(QuantizeTensorrt(examples=16), source, tmp_path / "int8", images)
    _, half = run(QuantizeTensorrt(type="float16"), source, tmp_path / "half", images)

    moved = [produced.facts["parity"]["relative_difference"] for produced in (half, int8)]
    assert 0 < moved[0] < 2e-3 < moved[1] < 0.1
    assert int8.facts["quantized_nodes"] == 3
    assert (int8.facts["precision"], half.facts["precision"]) == ("int8", "float16")


@pytest.mark.parametrize("exclude", ["head", "Gemm"])
def test_an_excluded_node_or_operator_stays_float(source: Artifact, images: Path, tmp_path: Path, exclude: str) -> None:
    made, produced = run(QuantizeTensorrt(examples=16, exclude=(exclude,)), source, tmp_path / "out", images)

    assert produced.facts["quantized_nodes"] == 2
    assert list(operators(made)["head"].input[1:]) == ["w3", "b3"]


def test_quantizing_gives_the_same_bytes(source: Artifact, images: Path, tmp_path: Path) -> None:
    made = [run(QuantizeTensorrt(examples=16), source, tmp_path / name, images)[0] for name in "ab"]

    assert len({hashlib.sha256((each.path / "model.onnx").read_bytes()).hexdigest() for each in made}) == 1


def test_an_old_opset_is_converted(images: Path, tmp_path: Path) -> None:
    old = artifact("onnx", make(tmp_path / "old", opset=12))
    _, produced = run(QuantizeTensorrt(examples=16), old, tmp_path / "out", images)

    assert produced.facts["opset"] == 19


def test_what_cannot_be_quantized_is_refused(
    source: Artifact, graphs: dict[str, Artifact], images: Path, tmp_path: Path
) -> None:
    cases = (
        (QuantizeTensorrt(), source, images, "200 calibration examples were asked for, there are 32"),
        (QuantizeTensorrt(examples=16), source, None, "`quantize_tensorrt` looks at real inputs, and there are none"),
        (QuantizeTensorrt(examples=16), graphs["int8"], images, "the model is quantized already: 9 nodes, the first"),
        (QuantizeTensorrt(examples=16, exclude=("tail",)), source, images, "`exclude` names `tail`, which is neither"),
        (QuantizeTensorrt(examples=16, exclude=("Conv", "head")), source, images, "nothing to quantize: 3 nodes"),
    )
    for index, (stage, model, given, message) in enumerate(cases):
        with pytest.raises(Refused, match=message):
            run(stage, model, tmp_path / str(index), given)


@pytest.mark.parametrize("precision", ["float16", "int8"])
def test_engines_for_five_capabilities_are_built_with_no_gpu(
    graphs: dict[str, Artifact], tmp_path: Path, precision: str
) -> None:
    made, produced = run(Tensorrt(), graphs[precision], tmp_path / "out")

    engines = produced.facts["engines"]
    assert tuple(engines) == FIVE
    for capability in FIVE:
        told = engines[capability]
        assert told["bytes"] == (made.path / told["file"]).stat().st_size > 10_000
        assert told["build_s"] > 0
        assert told["layers"] == sum(told["layer_types"].values()) > 3
    assert engines["8.9"]["computed_in"] == {precision: 3}
    assert produced.facts["profile"] == [[1, 3, 8, 8], [8, 3, 8, 8], [32, 3, 8, 8]]
    assert Manifest.read(made.path).outputs[0].shape == (-1, 4)


def test_turing_computes_int8_convolutions_in_float16(graphs: dict[str, Artifact], tmp_path: Path) -> None:
    _, produced = run(Tensorrt(compute_capabilities=("7.5",)), graphs["int8"], tmp_path / "out")

    assert produced.facts["engines"]["7.5"]["computed_in"] == {"float16": 2, "int8": 1}


@pytest.mark.parametrize("precision", ["float32", "int8_float32"])
def test_turing_refuses_float32_matrices_by_name(graphs: dict[str, Artifact], tmp_path: Path, precision: str) -> None:
    run(Tensorrt(compute_capabilities=("8.0",)), graphs[precision], tmp_path / "ampere")
    with pytest.raises(Refused, match=r"cannot build for compute capability 7\.5: .*FP32 GEMM") as caught:
        run(Tensorrt(compute_capabilities=("7.5",)), graphs[precision], tmp_path / "turing")
    assert "quantize_tensorrt" in caught.value.hint


def test_facts_say_why_the_bytes_may_differ(graphs: dict[str, Artifact], tmp_path: Path) -> None:
    _, produced = run(Tensorrt(compute_capabilities=("8.9",)), graphs["int8"], tmp_path / "out")

    said = "the compiler's names of temporaries in an engine follow from memory addresses"
    assert produced.facts["not_reproducible"] == said


def test_the_profile_is_the_config_s(graphs: dict[str, Artifact], tmp_path: Path) -> None:
    profile = Profile(min_batch=2, opt_batch=4, max_batch=16)
    made, produced = run(Tensorrt(compute_capabilities=("8.9",), profile=profile), graphs["float16"], tmp_path / "out")

    assert produced.facts["profile"] == [[2, 3, 8, 8], [4, 3, 8, 8], [16, 3, 8, 8]]
    assert Manifest.read(made.path).max_batch == 16


def test_a_fixed_batch_is_its_own_profile(tmp_path: Path) -> None:
    fixed = artifact("onnx", make(tmp_path / "fixed", batch=1))
    made, produced = run(Tensorrt(compute_capabilities=("8.9",)), fixed, tmp_path / "out")

    assert produced.facts["profile"] == [[1, 3, 8, 8]] * 3
    assert Manifest.read(made.path).inputs[0].shape == (1, 3, 8, 8)
    assert Manifest.read(made.path).max_batch == 1


def test_another_dynamic_axis_is_refused(tmp_path: Path) -> None:
    model = artifact("onnx", make(tmp_path / "tall", height="height"))
    with pytest.raises(Refused, match="axis 2 of the input `pixels` is dynamic, and only the batch may be"):
        run(Tensorrt(compute_capabilities=("8.9",)), model, tmp_path / "out")


def test_an_operator_that_tensorrt_lacks_is_named_with_its_node_and_opset(tmp_path: Path) -> None:
    model = artifact("onnx", make_of(tmp_path / "det", "Det"))
    with pytest.raises(Refused) as caught:
        run(Tensorrt(), model, tmp_path / "out")
    version = trt.__version__
    assert caught.value.message == f"TensorRT for RTX {version} has no operator Det of opset 17, node `the_node`"


def test_a_graph_quantized_for_a_cpu_is_refused_with_the_parser_s_words(tmp_path: Path, graphs: Any) -> None:
    model = onnx.load(str(graphs["int8_float32"].path / "model.onnx"))
    point = next(node for node in model.graph.node if node.op_type == "QuantizeLinear").input[2]
    for tensor in model.graph.initializer:
        if tensor.name == point:
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.array(3, dtype=np.int8), point))
    (tmp_path / "model").mkdir()
    onnx.save(model, str(tmp_path / "model/model.onnx"))

    with pytest.raises(Refused, match=r"cannot read the graph at node .* Non-zero zero point is not supp") as caught:
        run(Tensorrt(compute_capabilities=("8.9",)), artifact("onnx", tmp_path / "model"), tmp_path / "out")
    assert caught.value.hint == "TensorRT needs a graph of its own: `quantize_tensorrt`, on the float model"


def test_a_truncated_graph_is_refused(source: Artifact, tmp_path: Path) -> None:
    raw = (source.path / "model.onnx").read_bytes()
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut/model.onnx").write_bytes(raw[: len(raw) // 2])

    with pytest.raises(Refused, match=r"model\.onnx is no ONNX file, or truncated"):
        run(Tensorrt(), artifact("onnx", tmp_path / "cut"), tmp_path / "out")


@without_gpu
def test_the_full_flavour_needs_the_gpu_that_it_builds_for(source: Artifact, tmp_path: Path) -> None:
    with pytest.raises(Refused, match="`flavour: full` builds for the GPU that is there, and none is") as caught:
        run(Tensorrt(flavour="full"), source, tmp_path / "out")
    assert caught.value.hint == "`flavour: rtx` needs none"


def test_the_full_library_is_missed_by_name(source: Artifact) -> None:
    with pytest.raises(Refused, match="TensorRT is not installed here: No module named 'tensorrt_bindings'") as caught:
        built(source.path / "model.onnx", 17, "9.0", (1, 8, 32), 1, FULL)
    assert caught.value.hint == "tapeout envs build tensorrt_full"


@pytest.mark.filterwarnings("ignore:.*Timing cache operations are no-ops:DeprecationWarning")
def test_calls_of_the_full_builder_are_taken_where_the_two_libraries_share_them(source: Artifact) -> None:
    """The timing cache, and the inspector's way to say what RTX logs; of an engine that cannot be opened here."""
    log = logger()
    config = trt.Builder(log).create_builder_config()
    cache = _timing_cache(config)

    assert cache is not None
    assert _timings(config).startswith(b"ptrt")
    assert callable(trt.EngineInspector.get_engine_information)
    assert trt.LayerInformationFormat.ONELINE


@without_gpu
def test_without_a_gpu_opening_says_so(graphs: dict[str, Artifact], tmp_path: Path) -> None:
    made, _ = run(Tensorrt(compute_capabilities=("8.9",)), graphs["float16"], tmp_path / "out")

    assert Tensorrt().cannot_measure() == "there is no NVIDIA GPU on this machine"
    with pytest.raises(Refused) as caught:
        Tensorrt().open(made, threads=1, context_length=0)
    assert caught.value.message == "the engines cannot be opened: there is no NVIDIA GPU on this machine"


def test_engines_of_another_version_are_refused(graphs: dict[str, Artifact], tmp_path: Path) -> None:
    made, _ = run(Tensorrt(compute_capabilities=("8.9",)), graphs["float16"], tmp_path / "out")
    Manifest.read(made.path).model_copy(update={"version": "1.6.0.1"}).write(made.path)

    with pytest.raises(Refused, match=r"were built by TensorRT for RTX 1\.6\.0\.1, and"):
        Tensorrt().open(made, threads=1, context_length=0)


def test_weights_that_are_nan_are_refused_by_name(source: Artifact, images: Path, tmp_path: Path) -> None:
    model = onnx.load(str(source.path / "model.onnx"))
    weights = model.graph.initializer[0]
    values = onnx.numpy_helper.to_array(weights).copy()
    values.flat[0] = np.nan
    weights.CopyFrom(onnx.numpy_helper.from_array(values, weights.name))
    (tmp_path / "nan").mkdir()
    onnx.save(model, str(tmp_path / "nan" / "model.onnx"))

    for stage in (QuantizeTensorrt(examples=16), Tensorrt()):
        with pytest.raises(Refused, match=rf"the weights `{weights.name}` hold NaN"):
            run(stage, artifact("onnx", tmp_path / "nan"), tmp_path / f"out-{type(stage).__name__}", images)
