from pathlib import Path

import numpy as np
import pytest
import torch
from running import ask, inputs, run
from safetensors.torch import save_file
from tiny_nets import CLASSES, SIZE, examples, module

from stages.base import Artifact, Refused
from stages.export_onnx import ExportOnnx
from targets.base import ArraySession
from targets.pytorch import Pytorch

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")


@pytest.fixture
def calibration(tmp_path: Path) -> Artifact:
    return examples(tmp_path / "examples")


def test_the_exported_graph_says_what_the_module_says_at_every_batch_size(
    tmp_path: Path, calibration: Artifact
) -> None:
    model, batch = module(tmp_path / "torch"), inputs(calibration)
    made, produced = run(ExportOnnx(), model, tmp_path / "out", calibration)

    for size in (1, 7, len(batch)):
        theirs, ours = ask(model, batch[:size], Pytorch()), ask(made, batch[:size])
        assert ours.shape == theirs.shape == (size, CLASSES)
        assert np.abs(ours - theirs).max() < 1e-5 * np.abs(theirs).max()
    assert produced.facts["opset"] == 20
    assert produced.facts["precision"] == "float32"
    assert produced.facts["inputs"] == {"input": {"shape": ["batch", 3, SIZE, SIZE], "dtype": "float32"}}
    assert produced.facts["outputs"] == {"output": {"shape": ["batch", CLASSES], "dtype": "float32"}}
    assert produced.facts["operators"]["BatchNormalization"] == 2
    assert produced.facts["parity"]["examples"] == 48
    assert produced.facts["parity"]["same_top1"] == 1


def test_exporting_gives_the_same_bytes_wherever_the_folder_lies(tmp_path: Path, calibration: Artifact) -> None:
    first, _ = run(ExportOnnx(), module(tmp_path / "here"), tmp_path / "first", calibration)
    second, _ = run(ExportOnnx(), module(tmp_path / "elsewhere"), tmp_path / "second", calibration)

    made = (first.path / "model.onnx").read_bytes()
    assert made == (second.path / "model.onnx").read_bytes()
    assert str(tmp_path).encode() not in made


def test_float16_halves_the_file_and_keeps_its_inputs(tmp_path: Path, calibration: Artifact) -> None:
    model = module(tmp_path / "torch")
    full, _ = run(ExportOnnx(), model, tmp_path / "full", calibration)
    half, produced = run(ExportOnnx(precision="float16"), model, tmp_path / "half", calibration)

    assert produced.facts["precision"] == "float16"
    assert produced.facts["inputs"]["input"]["dtype"] == "float32"
    ours, theirs = ask(half, inputs(calibration)), ask(full, inputs(calibration))
    assert 0 < np.abs(ours - theirs).max() < 1e-2 * np.abs(theirs).max()


def test_a_difference_over_the_tolerance_is_refused(tmp_path: Path, calibration: Artifact) -> None:
    with pytest.raises(Refused, match="does not say what the module says in float16: outputs differ by up to"):
        run(ExportOnnx(precision="float16", tolerance=1e-6), module(tmp_path / "t"), tmp_path / "out", calibration)


def test_an_export_without_real_inputs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused) as caught:
        run(ExportOnnx(), module(tmp_path / "torch"), tmp_path / "out")

    assert caught.value.message == "`export_onnx` looks at real inputs, and there are none"
    assert caught.value.hint == "name `data: calibration:`"


def test_a_module_that_cannot_be_traced_is_refused(tmp_path: Path, calibration: Artifact) -> None:
    with pytest.raises(Refused, match="torch cannot export the module") as caught:
        run(ExportOnnx(), module(tmp_path / "torch", "fixed"), tmp_path / "out", calibration)

    assert "control flow" in caught.value.hint


def test_a_torch_session_is_an_array_session(tmp_path: Path, calibration: Artifact) -> None:
    copied, produced = run(Pytorch(), module(tmp_path / "torch"), tmp_path / "out")
    session = Pytorch().open(copied, threads=1, context_length=0)

    assert isinstance(session, ArraySession)
    assert session.input_names == ("input",)
    assert list(session.run({"input": inputs(calibration)[:2]})) == ["output"]
    assert produced.facts["parameters"] == 1805


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_weights_are_loaded_into_the_module(tmp_path: Path, calibration: Artifact, suffix: str) -> None:
    plain = module(tmp_path / "torch")
    state = Pytorch().open(plain, 1, 0)._module.state_dict()
    state = {name: value * 2 if value.is_floating_point() else value for name, value in state.items()}
    save = save_file if suffix == ".safetensors" else torch.save
    save(state, tmp_path / "torch" / f"weights{suffix}")
    filled = module(tmp_path / "torch", weights=f"weights{suffix}")

    opened = Pytorch().open(filled, 1, 0)._module.state_dict()
    assert all(torch.equal(opened[name], value) for name, value in state.items())


def spoiled(folder: Path, change: str) -> Artifact:
    state = Pytorch().open(module(folder), 1, 0)._module.state_dict()
    if change == "missing":
        del state["0.weight"]
    elif change == "unexpected":
        state["extra.weight"] = torch.ones(1)
    elif change == "shape":
        state["0.bias"] = torch.ones(3)
    else:
        state["0.weight"][0, 0, 0, 0] = float("nan")
    save_file(state, folder / "weights.safetensors")
    return module(folder, weights="weights.safetensors")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("missing", "weights.safetensors: `0.weight`: missing"),
        ("unexpected", "weights.safetensors: `extra.weight`: not in the module"),
        ("shape", "size mismatch for 0.bias"),
        ("nan", "the weights of `0.weight` hold NaN or infinity"),
    ],
)
def test_weights_that_do_not_fit_are_refused_by_name(tmp_path: Path, change: str, message: str) -> None:
    with pytest.raises(Refused) as caught:
        Pytorch().open(spoiled(tmp_path / "torch", change), 1, 0)

    assert message in caught.value.message
    assert caught.value.hint


def test_a_pickle_of_more_than_tensors_is_refused(tmp_path: Path) -> None:
    model = module(tmp_path / "torch", weights="weights.pt")
    torch.save({"module": torch.nn.Linear(2, 2)}, model.path / "weights.pt")

    with pytest.raises(Refused, match=r"weights\.pt does not hold tensors alone"):
        Pytorch().open(model, 1, 0)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("absent", "`model.py` has no function `absent`"),
        ("not_a_module", "`model.py:not_a_module` returned int"),
    ],
)
def test_an_entry_that_gives_no_module_is_refused(tmp_path: Path, function: str, message: str) -> None:
    with pytest.raises(Refused) as caught:
        Pytorch().open(module(tmp_path / "torch", function), 1, 0)

    assert caught.value.message == message


def test_a_file_of_another_kind_is_given_to_the_function(tmp_path: Path) -> None:
    model = module(tmp_path / "torch", weights="weights.h5")
    (model.path / "weights.h5").touch()

    with pytest.raises(Refused, match=r"`model\.py:plain` is called with `weights`, a path"):
        Pytorch().open(model, 1, 0)
    (model.path / "model.py").write_text("def plain(weights): raise KeyError(weights.name)")
    with pytest.raises(Refused, match=r"`model.py:plain` failed: KeyError: 'weights.h5'"):
        Pytorch().open(model, 1, 0)
