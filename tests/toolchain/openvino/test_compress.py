from pathlib import Path

import numpy as np
import pytest
from running import WITHOUT_VNNI, ask, inputs, run
from tiny_onnx import cnn, examples

from stages.base import Artifact, Refused
from stages.compress_openvino import CompressOpenvino
from targets.openvino import Openvino

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture
def model(tmp_path: Path) -> Artifact:
    return cnn(tmp_path / "onnx")


@pytest.fixture
def calibration(tmp_path: Path) -> Artifact:
    return examples(tmp_path / "examples")


def error(model: Artifact, candidate: Artifact, batch: np.ndarray) -> float:
    """Root of the mean squared difference, as a share of the spread of the answers."""
    reference = ask(model, batch)
    return float(np.sqrt(np.mean((ask(candidate, batch) - reference) ** 2)) / reference.std())


@pytest.mark.parametrize("kind", ["onnx", "openvino"])
def test_int8_quantizes_every_layer_and_stays_close(
    tmp_path: Path, model: Artifact, calibration: Artifact, kind: str
) -> None:
    source = model if kind == "onnx" else run(Openvino(), model, tmp_path / "ir")[0]
    made, produced = run(
        CompressOpenvino(examples=50, reduce_range=WITHOUT_VNNI), source, tmp_path / "out", calibration
    )

    assert produced.facts["precision"] == "int8"
    assert produced.facts["quantized_operators"] == {"Convolution": 2, "MatMul": 1, "ReduceMean": 1}
    assert produced.facts["float_layers"] == []
    assert produced.facts["calibration_examples"] == 50
    assert error(model, made, inputs(calibration)) < 0.1


def test_the_target_keeps_what_is_int8(tmp_path: Path, model: Artifact, calibration: Artifact) -> None:
    quantized, _ = run(CompressOpenvino(examples=50), model, tmp_path / "int8", calibration)
    made, produced = run(Openvino(precision="float16"), quantized, tmp_path / "out")

    assert produced.facts["precision"] == "int8"
    assert error(quantized, made, inputs(calibration)) < 0.01


def test_weights_alone_need_no_examples(tmp_path: Path, model: Artifact, calibration: Artifact) -> None:
    full, _ = run(Openvino(), model, tmp_path / "full")
    made, produced = run(CompressOpenvino(mode="int8_weights"), model, tmp_path / "out")

    assert produced.facts["precision"] == "int8_weights"
    assert produced.facts["quantized_operators"] == {}
    assert (made.path / "openvino.bin").stat().st_size < 0.5 * (full.path / "openvino.bin").stat().st_size
    assert error(model, made, inputs(calibration)) < 0.05


def test_an_excluded_node_stays_in_float_by_name_and_by_operator(
    tmp_path: Path, model: Artifact, calibration: Artifact
) -> None:
    _, produced = run(CompressOpenvino(examples=50, exclude=("Convolution",)), model, tmp_path / "type", calibration)
    layers = produced.facts["float_layers"]
    assert isinstance(layers, list)
    assert len(layers) == 2

    named = CompressOpenvino(examples=50, exclude=(str(layers[0]),))
    assert run(named, model, tmp_path / "name", calibration)[1].facts["float_layers"] == [layers[0]]


def test_an_excluded_node_that_the_model_lacks_is_refused(
    tmp_path: Path, model: Artifact, calibration: Artifact
) -> None:
    with pytest.raises(Refused, match="`exclude`: the model has no node and no operator `Convolutions`") as caught:
        run(CompressOpenvino(examples=50, exclude=("Convolutions",)), model, tmp_path / "out", calibration)
    assert "Convolution" in caught.value.hint


def test_a_fragile_layer_returns_to_float_until_the_drop_is_within_the_limit(
    tmp_path: Path, calibration: Artifact
) -> None:
    fragile = cnn(tmp_path / "onnx", outlier=3e4)
    plain = CompressOpenvino(examples=30, preset="performance")
    within = plain.model_copy(update={"max_drop": 0.05, "held_out": 30})
    worse, before = run(plain, fragile, tmp_path / "plain", calibration)
    better, after = run(within, fragile, tmp_path / "within", calibration)

    assert before.facts["float_layers"] == []
    assert after.facts["float_layers"]
    assert isinstance(after.facts["top1_agreement_drop"], float)
    assert after.facts["top1_agreement_drop"] <= 0.05
    batch = inputs(calibration)
    assert error(fragile, better, batch) < 0.1 < error(fragile, worse, batch)


@pytest.mark.parametrize("stage", [CompressOpenvino(), CompressOpenvino(max_drop=0.01, examples=1)])
def test_a_config_without_calibration_examples_is_refused(
    tmp_path: Path, model: Artifact, stage: CompressOpenvino
) -> None:
    with pytest.raises(Refused, match="`compress_openvino` looks at real inputs, and there are none") as caught:
        run(stage, model, tmp_path / "out")
    assert "data: calibration:" in caught.value.hint


def test_fewer_examples_than_asked_are_refused(tmp_path: Path, model: Artifact, calibration: Artifact) -> None:
    with pytest.raises(Refused) as caught:
        run(CompressOpenvino(examples=50, max_drop=0.01, held_out=11), model, tmp_path / "out", calibration)
    assert caught.value.message == (
        "`compress_openvino` asks for 50 to calibrate on and 11 to measure the drop on; "
        "there are 60 calibration examples"
    )


def test_examples_of_another_shape_are_refused(tmp_path: Path, model: Artifact) -> None:
    wrong = examples(tmp_path / "nhwc", layout="nhwc")

    with pytest.raises(Refused) as caught:
        run(CompressOpenvino(examples=50), model, tmp_path / "out", wrong)
    assert caught.value.message == "the model takes x [?,3,8,8]; a calibration example is [1, 8, 8, 3]"


def test_a_fixed_batch_is_refused(tmp_path: Path, calibration: Artifact) -> None:
    with pytest.raises(Refused, match=r"the model takes x \[8,3,8,8\]") as caught:
        run(CompressOpenvino(examples=50), cnn(tmp_path / "fixed", batch=8), tmp_path / "out", calibration)
    assert "the first axis must be a dynamic batch" in caught.value.hint


def test_a_quantized_model_is_not_quantized_again(tmp_path: Path, model: Artifact, calibration: Artifact) -> None:
    made, _ = run(CompressOpenvino(examples=50), model, tmp_path / "once", calibration)

    with pytest.raises(Refused, match="the model is quantized already: int8"):
        run(CompressOpenvino(examples=50), made, tmp_path / "twice", calibration)


def test_progress_counts_images(tmp_path: Path, model: Artifact, calibration: Artifact) -> None:
    from stages.base import Context

    seen: list[tuple[float, float, str]] = []
    context = Context(
        out=tmp_path, scratch=tmp_path, inputs={"calibration": calibration}, progress=lambda *moved: seen.append(moved)
    )
    CompressOpenvino(examples=20).run(model, context)

    assert seen[-1] == (20, 20, "images")
    assert (1, 20, "images") in seen


def test_weights_that_are_nan_are_refused_by_name(tmp_path: Path, calibration: Artifact) -> None:
    model = cnn(tmp_path / "nan", outlier=float("nan"))

    with pytest.raises(Refused, match=r"model\.onnx: the weights `w1` hold NaN"):
        run(CompressOpenvino(examples=8), model, tmp_path / "int8", calibration)
    with pytest.raises(Refused, match=r"model\.onnx: the weights `w1` hold NaN"):
        run(Openvino(), model, tmp_path / "openvino")
