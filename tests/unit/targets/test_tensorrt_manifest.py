from pathlib import Path

import pytest

from stages.base import Refused
from targets._tensorrt_inspect import Tensor
from targets._tensorrt_library import FULL
from targets._tensorrt_manifest import FILE, Engine, Manifest, file_name

SHAPE = (-1, 3, 8, 8)
PROFILE = ((1, 3, 8, 8), (8, 3, 8, 8), (32, 3, 8, 8))


def manifest(folder: Path, *capabilities: str) -> Manifest:
    for capability in capabilities:
        (folder / file_name(capability)).write_bytes(b"engine")
    made = Manifest(
        version="1.7.1.116",
        engines=tuple(Engine(compute_capability=each, file=file_name(each), bytes=6) for each in capabilities),
        inputs=(Tensor(name="pixels", dtype="float32", shape=SHAPE, profile=PROFILE),),
        outputs=(Tensor(name="logits", dtype="float32", shape=(-1, 4)),),
    )
    made.write(folder)
    return made


def test_it_survives_the_disk(tmp_path: Path) -> None:
    made = manifest(tmp_path, "8.6", "12.0")

    assert Manifest.read(tmp_path) == made
    assert [engine.file for engine in made.engines] == ["engine_sm86.engine", "engine_sm120.engine"]
    assert made.max_batch == 32


def test_the_engine_of_the_device_is_chosen(tmp_path: Path) -> None:
    assert manifest(tmp_path, "8.6", "12.0").engine_for("12.0").file == "engine_sm120.engine"


@pytest.mark.parametrize(
    ("capability", "hint"),
    [
        ("8.9", "add 8.9 to `compute_capabilities`"),
        ("9.0", "TensorRT for RTX builds none for 9.0; measure `onnxruntime` there"),
    ],
)
def test_a_device_without_an_engine_is_refused_with_the_way_out(tmp_path: Path, capability: str, hint: str) -> None:
    with pytest.raises(Refused) as caught:
        manifest(tmp_path, "8.6", "12.0").engine_for(capability)
    expected = f"the device has compute capability {capability}, and the engines are for 8.6, 12.0"
    assert (caught.value.message, caught.value.hint) == (expected, hint)


def test_another_version_is_refused(tmp_path: Path) -> None:
    made = manifest(tmp_path, "8.6")
    made.refuse_other_version("1.7.1.116")
    with pytest.raises(Refused) as caught:
        made.refuse_other_version("1.8.0.2")
    assert caught.value.message == (
        "the engines were built by TensorRT for RTX 1.7.1.116, and 1.8.0.2 is installed here"
    )
    assert caught.value.hint == "install 1.7.1.116, or build them again"


def test_engines_of_the_other_tensorrt_are_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused) as caught:
        manifest(tmp_path, "8.6").refuse_other_version("1.7.1.116", FULL.title)
    assert caught.value.message == ("the engines were built by TensorRT for RTX, and TensorRT was asked to open them")


def test_an_engine_of_the_full_tensorrt_is_built_again_on_another_device(tmp_path: Path) -> None:
    full = manifest(tmp_path, "9.0").model_copy(update={"library": FULL.title})
    with pytest.raises(Refused) as caught:
        full.engine_for("8.0")
    assert caught.value.hint == "build it again on this machine"


def test_a_missing_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"there is no engines\.json in the artifact"):
        Manifest.read(tmp_path)


@pytest.mark.parametrize("text", ["", "{}", "{", '{"version": "1", "engines": 3}'])
def test_a_damaged_manifest_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE).write_text(text)
    with pytest.raises(Refused, match=r"engines\.json is damaged"):
        Manifest.read(tmp_path)


def test_a_truncated_engine_is_refused(tmp_path: Path) -> None:
    manifest(tmp_path, "8.6")
    (tmp_path / "engine_sm86.engine").write_bytes(b"engi")
    with pytest.raises(Refused, match=r"engine_sm86\.engine is missing or truncated"):
        Manifest.read(tmp_path)
