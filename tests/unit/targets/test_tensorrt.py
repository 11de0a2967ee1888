from typing import Any

import pytest
from pydantic import ValidationError

from stages import _cuda
from targets._tensorrt_device import device_capability
from targets.tensorrt import Tensorrt


def mistake(**fields: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        Tensorrt.model_validate(fields)
    return str(caught.value.errors()[0]["msg"])


def test_a_capability_may_stand_without_quotes() -> None:
    assert Tensorrt.model_validate({"compute_capabilities": [8.9, 12.0]}).compute_capabilities == ("8.9", "12.0")


def test_hopper_is_refused_with_the_capabilities_that_there_are() -> None:
    expected = "TensorRT for RTX builds nothing for compute capability 9.0, only for 7.5, 8.0, 8.6, 8.9, 12.0, 12.1"
    assert mistake(compute_capabilities=["9.0"]) == f"Value error, {expected}"


def test_a_capability_stands_there_once() -> None:
    assert mistake(compute_capabilities=["8.9", 8.9]) == "Value error, a compute capability stands there twice"


def test_batches_of_a_profile_ascend() -> None:
    said = mistake(profile={"min_batch": 4, "opt_batch": 2})
    assert said == "Value error, `min_batch`, `opt_batch` and `max_batch` must ascend"


@pytest.mark.skipif(device_capability() is not None, reason="there is a GPU")
def test_a_machine_without_a_gpu_builds_and_does_not_measure() -> None:
    assert Tensorrt().unavailable() is None
    assert Tensorrt().cannot_measure() == "there is no NVIDIA GPU on this machine"


def test_the_full_flavour_says_that_there_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_cuda, "DEVICE_NODES", ())

    reason = Tensorrt(flavour="full").unavailable()
    assert reason is not None
    assert reason.startswith("`flavour: full` builds for the GPU that is there, and there is no NVIDIA device here")
    assert reason.endswith("; `flavour: rtx` builds without one")


def test_the_full_flavour_has_an_environment_of_its_own_and_is_bound_to_its_device() -> None:
    full, rtx = Tensorrt(flavour="full"), Tensorrt()

    assert (full.environment, rtx.environment) == ("tensorrt_full", "tensorrt")
    assert (full.bound, rtx.bound) == (True, False)


def test_the_full_flavour_takes_no_list_of_capabilities() -> None:
    said = mistake(flavour="full", compute_capabilities=["8.9"])
    assert said == "Value error, `compute_capabilities` is of `flavour: rtx`; `full` builds for the GPU that is there"


def test_fields_of_the_full_flavour_survive_the_way_to_the_worker() -> None:
    full = Tensorrt(flavour="full")
    assert Tensorrt.model_validate(full.model_dump(mode="json")) == full
