import pytest

from stages._openvino_runtime import gist, refuse_missing
from stages.base import Refused

SAID = """Exception from src/inference/src/cpp/core.cpp:84:
Check 'm_model->ParseFromIstream(&model_file)' failed at src/frontends/onnx/graph_iterator_proto.cpp:563:
FrontEnd API failed with GeneralFailure:
Model can't be parsed

"""


def test_the_gist_leaves_out_places_in_openvinos_source() -> None:
    assert gist(SAID) == "Model can't be parsed"


def test_the_gist_of_nothing_but_places_is_all_of_them() -> None:
    assert gist("Exception from src/a.cpp:84:\n") == "Exception from src/a.cpp:84:"


@pytest.mark.parametrize("device", ["CPU", "GPU", "AUTO"])
def test_a_numbered_device_counts_as_one_of_its_kind(device: str) -> None:
    refuse_missing(device, ("CPU", "GPU.0", "GPU.1"))


def test_a_missing_device_is_refused_with_those_there_are() -> None:
    with pytest.raises(Refused) as caught:
        refuse_missing("NPU", ("CPU", "GPU.0"))

    assert caught.value.message == "OpenVINO finds no NPU on this machine, only CPU, GPU.0"
    assert caught.value.hint == "`device: CPU` or `device: AUTO`; GPU and NPU need their drivers installed"
