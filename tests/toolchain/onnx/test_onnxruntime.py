from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from running import ask, run
from tiny_nets import CLASSES, SIZE, graph

from stages.base import Artifact, Refused
from targets.base import ArraySession
from targets.onnxruntime import Onnxruntime

BATCH = np.random.default_rng(1).random((3, 3, SIZE, SIZE), dtype=np.float32)


@pytest.fixture
def model(tmp_path: Path) -> Artifact:
    return graph(tmp_path / "source")


def test_a_model_is_taken_as_it_is(tmp_path: Path, model: Artifact) -> None:
    made, produced = run(Onnxruntime(), model, tmp_path / "out")

    assert (made.path / "model.onnx").read_bytes() == (model.path / "model.onnx").read_bytes()
    assert produced.facts["precision"] == "float32"
    assert produced.facts["opset"] == 17
    assert ask(made, BATCH).shape == (3, CLASSES)


def test_external_data_goes_with_it(tmp_path: Path, model: Artifact) -> None:
    held = onnx.load(str(model.path / "model.onnx"))
    folder = tmp_path / "external"
    folder.mkdir()
    onnx.save_model(held, str(folder / "net.onnx"), save_as_external_data=True, location="net.bin", size_threshold=0)
    external = Artifact(kind="onnx", path=folder, digest="0")
    made, _ = run(Onnxruntime(), external, tmp_path / "out")

    assert sorted(file.name for file in made.path.iterdir()) == ["model.onnx", "net.bin"]
    assert np.array_equal(ask(made, BATCH), ask(model, BATCH))
    (folder / "net.bin").unlink()
    with pytest.raises(Refused, match=r"net\.onnx: external data"):
        run(Onnxruntime(), external, tmp_path / "again")


def test_a_session_is_an_array_session_and_says_what_it_takes(model: Artifact) -> None:
    session = Onnxruntime().open(model, threads=1, context_length=0)

    assert isinstance(session, ArraySession)
    assert session.input_names == ("x",)
    with pytest.raises(Refused) as caught:
        session.run({"x": BATCH[:, :, :5]})
    assert caught.value.message == (
        f"the model takes x ['batch', 3, {SIZE}, {SIZE}] tensor(float); it was given x [3, 3, 5, {SIZE}] float32"
    )


@pytest.mark.parametrize("cut", [0, 5, 300])
def test_a_damaged_file_is_refused(tmp_path: Path, model: Artifact, cut: int) -> None:
    file = model.path / "model.onnx"
    file.write_bytes(file.read_bytes()[:cut])

    with pytest.raises(Refused):
        run(Onnxruntime(), model, tmp_path / "out")


def test_a_custom_operator_is_named(tmp_path: Path) -> None:
    source = graph(tmp_path / "source", operator=("Swirl", "acme.ops"))
    with pytest.raises(Refused, match=r"node `activation` is a custom operator, acme\.ops::Swirl"):
        run(Onnxruntime(), source, tmp_path / "out")


@pytest.mark.parametrize(
    ("operator", "hint"),
    [("Mish", "opset 18 has it: export with that"), ("Swirl", "no opset has it")],
)
def test_an_operator_that_the_opset_lacks_is_named(tmp_path: Path, operator: str, hint: str) -> None:
    with pytest.raises(Refused) as caught:
        run(Onnxruntime(), graph(tmp_path / "source", operator=(operator, "")), tmp_path / "out")

    assert caught.value.message == f"model.onnx: node `activation`: opset 17 has no operator {operator}"
    assert caught.value.hint == hint


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"0 \.onnx files in the model's folder"):
        Onnxruntime().open(Artifact(kind="onnx", path=tmp_path, digest="0"), 1, 0)


@pytest.mark.parametrize(
    ("provider", "name"), [("cuda", "CUDAExecutionProvider"), ("tensorrt", "TensorrtExecutionProvider")]
)
def test_a_provider_that_is_not_here_is_refused_and_never_replaced(tmp_path: Path, provider: str, name: str) -> None:
    if name in onnxruntime.get_available_providers():
        pytest.skip("it is here")
    with pytest.raises(Refused) as caught:
        run(Onnxruntime.model_validate({"provider": provider}), graph(tmp_path / "source"), tmp_path / "out")

    assert caught.value.message.startswith(f"the installed ONNX Runtime has no {name}, only ")
    assert "CPUExecutionProvider" in caught.value.message
    assert "put `onnxruntime-gpu` in place of `onnxruntime`" in caught.value.hint
