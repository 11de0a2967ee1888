import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator
from running import ask, inputs, run
from tiny_onnx import CLASSES, cnn, examples, save

from stages.base import ROOT, Artifact, Refused
from targets.base import ArraySession
from targets.openvino import BLOB, Openvino


@pytest.fixture
def model(tmp_path: Path) -> Artifact:
    return cnn(tmp_path / "onnx")


@pytest.fixture
def batch(tmp_path: Path) -> np.ndarray:
    return inputs(examples(tmp_path / "examples"))


def test_it_says_what_onnx_says_at_every_batch_size(tmp_path: Path, model: Artifact, batch: np.ndarray) -> None:
    (expected,) = ReferenceEvaluator(onnx.load(model.path / "model.onnx")).run(None, {"x": batch})
    made, _ = run(Openvino(), model, tmp_path / "out")

    for opened in (model, made):
        for size in (1, 7, len(batch)):
            answer = ask(opened, batch[:size])
            assert answer.shape == (size, CLASSES)
            assert np.abs(answer - expected[:size]).max() < 1e-5 * np.abs(expected).max()


def test_a_session_is_an_array_session_whose_answers_outlive_the_next_call(model: Artifact, batch: np.ndarray) -> None:
    session = Openvino().open(model, threads=1, context_length=0)

    assert isinstance(session, ArraySession)
    assert session.input_names == ("x",)
    first = session.run({"x": batch[:2]})["y"]
    before = first.copy()
    session.run({"x": batch[2:4]})
    assert np.array_equal(first, before)
    session.close()


@pytest.mark.parametrize("given", [{}, {"wrong": (1, 3, 8, 8)}, {"x": (1, 8, 8, 3)}])
def test_arrays_that_do_not_fit_are_refused_even_after_some_that_did(
    model: Artifact, batch: np.ndarray, given: dict[str, tuple[int, ...]]
) -> None:
    session = Openvino().open(model, threads=1, context_length=0)
    session.run({"x": batch[:1]})

    with pytest.raises(Refused, match=r"the model takes x \[\?,3,8,8\] float32; it was given"):
        session.run({name: np.zeros(shape, np.float32) for name, shape in given.items()})


def test_tuned_for_throughput_a_cut_batch_gives_the_same_answers(model: Artifact, batch: np.ndarray) -> None:
    whole = ask(model, batch)
    session = Openvino(hint="throughput").open(model, threads=2, context_length=0)

    assert np.allclose(session.run({"x": batch})["y"], whole, atol=1e-5)
    assert session.run({"x": batch[:1]})["y"].shape == (1, CLASSES)
    session.close()


def test_facts_tell_tensors_operators_and_the_precision_it_really_computes_in(tmp_path: Path, model: Artifact) -> None:
    _, produced = run(Openvino(), model, tmp_path / "out")

    facts = produced.facts
    assert facts["inputs"] == {"x": {"shape": ["batch", 3, 8, 8], "dtype": "float32"}}
    assert facts["outputs"] == {"y": {"shape": ["batch", CLASSES], "dtype": "float32"}}
    assert facts["precision"] == "float32"
    assert facts["operators"]["Convolution"] == 2  # type: ignore[index, call-overload]
    assert facts["inference_precision"] == "f32"
    assert facts["default_inference_precision"] in ("f32", "bf16", "f16")
    assert str(facts["openvino"]).count(".") == 2


def test_16_bits_halve_the_file_and_hardly_move_the_answers(tmp_path: Path, model: Artifact, batch: np.ndarray) -> None:
    full, _ = run(Openvino(), model, tmp_path / "full")
    half, produced = run(Openvino(precision="float16"), model, tmp_path / "half")

    assert produced.facts["precision"] == "float16"
    assert (half.path / "openvino.bin").stat().st_size < 0.6 * (full.path / "openvino.bin").stat().st_size
    assert np.allclose(ask(half, batch), ask(full, batch), atol=2e-2)


def test_converting_again_in_another_process_gives_the_same_bytes(tmp_path: Path, model: Artifact) -> None:
    code = (
        "import sys; from pathlib import Path; from stages.base import *; from targets.openvino import Openvino\n"
        "out = Path(sys.argv[2]); out.mkdir()\n"
        "Openvino().run(Artifact(kind='onnx', path=Path(sys.argv[1]), digest='0'), Context(out=out, scratch=out))"
    )
    for name in ("a", "b"):
        command = [sys.executable, "-c", code, str(model.path), str(tmp_path / name)]
        subprocess.run(command, cwd=ROOT, check=True)

    for file in ("openvino.xml", "openvino.bin"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    assert str(tmp_path) not in (tmp_path / "a" / "openvino.xml").read_text()


def test_nothing_is_reported_home(model: Artifact, tmp_path: Path) -> None:
    code = (
        "import sys; from stages._openvino_compress import nncf; nncf()\n"
        "assert sys.modules['openvino_telemetry'] is None and 'openvino' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, env={"HOME": str(tmp_path), "PATH": ""})

    assert not (tmp_path / "intel").exists()


def test_a_kept_compiled_model_is_used_and_a_spoilt_one_made_again(
    tmp_path: Path, model: Artifact, batch: np.ndarray
) -> None:
    target = Openvino(cache=True)
    made, _ = run(target, model, tmp_path / "out")
    answer = ask(made, batch, target)
    text = (made.path / "openvino.xml").read_text()
    (made.path / "openvino.xml").write_text("not read")
    assert np.array_equal(ask(made, batch, target), answer)

    (made.path / "openvino.xml").write_text(text)
    (made.path / BLOB).write_bytes(b"of another version" * 100)
    assert np.array_equal(ask(made, batch, target), answer)


def test_a_device_that_is_not_here_is_refused_with_those_that_are(tmp_path: Path, model: Artifact) -> None:
    made, produced = run(Openvino(device="NPU"), model, tmp_path / "out")

    assert produced.facts["compiled"] is False
    with pytest.raises(Refused, match="OpenVINO finds no NPU on this machine, only CPU") as caught:
        Openvino(device="NPU").open(made, threads=1, context_length=0)
    assert "`device: CPU` or `device: AUTO`" in caught.value.hint


def test_auto_takes_what_is_there(model: Artifact, batch: np.ndarray) -> None:
    assert np.allclose(ask(model, batch, Openvino(device="AUTO")), ask(model, batch), atol=1e-5)


def test_an_operator_that_openvino_lacks_is_named_with_its_node(tmp_path: Path) -> None:
    nodes = [helper.make_node("Optional", ["x"], ["o"], "wrap"), helper.make_node("OptionalGetElement", ["o"], ["y"])]
    lacking = save(nodes, {}, tmp_path / "onnx", ["batch", 4])

    with pytest.raises(Refused) as caught:
        run(Openvino(), lacking, tmp_path / "out")
    assert "lacks operators of model.onnx: Optional-20, node `wrap`" in caught.value.message
    assert caught.value.hint == (
        "Optional came with opset 15; OptionalGetElement came with opset 15: export with an older one, or replace the "
        "operator in the model, or take the target `onnxruntime`"
    )


def test_a_layer_whose_shapes_clash_is_named_with_its_node(tmp_path: Path) -> None:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"], "mm")]
    clashing = save(nodes, {"w": np.zeros((5, 2), np.float32)}, tmp_path / "onnx", ["batch", 4])

    with pytest.raises(Refused, match=r"cannot read model\.onnx at MatMul-20, node `mm`: Incompatible MatMul"):
        run(Openvino(), clashing, tmp_path / "out")


def test_a_custom_operator_is_refused(tmp_path: Path) -> None:
    node = helper.make_node("Foo", ["x"], ["y"], "acme", domain="com.acme")
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20), helper.make_opsetid("com.acme", 1)])
    (tmp_path / "model.onnx").write_bytes(made.SerializeToString())

    with pytest.raises(Refused, match=r"node `acme` is a custom operator, com\.acme::Foo"):
        run(Openvino(), Artifact(kind="onnx", path=tmp_path, digest="0"), tmp_path / "out")


@pytest.mark.parametrize("keep", [0, 500])
def test_a_truncated_onnx_file_is_refused(tmp_path: Path, model: Artifact, keep: int) -> None:
    file = model.path / "model.onnx"
    file.write_bytes(file.read_bytes()[:keep])

    with pytest.raises(Refused, match=r"model\.onnx"):
        run(Openvino(), model, tmp_path / "out")


def test_a_spoilt_openvino_model_is_refused(tmp_path: Path, model: Artifact) -> None:
    made, _ = run(Openvino(), model, tmp_path / "out")
    weights = (made.path / "openvino.bin").read_bytes()
    (made.path / "openvino.bin").write_bytes(weights[: len(weights) // 2])
    with pytest.raises(Refused, match=r"cannot read openvino\.xml"):
        ask(made, np.zeros((1, 3, 8, 8), np.float32))

    (made.path / "openvino.bin").unlink()
    with pytest.raises(Refused, match=r"holds no openvino\.bin"):
        ask(made, np.zeros((1, 3, 8, 8), np.float32))
