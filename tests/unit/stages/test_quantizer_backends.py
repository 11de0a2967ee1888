"""Fields that a backend cannot do, and the environment that each asks for."""

import pytest
from pydantic import ValidationError

from stages import _cuda
from stages.quantize_awq import QuantizeAwq
from stages.quantize_gptq import QuantizeGptq


def test_each_backend_asks_for_its_environment() -> None:
    assert QuantizeAwq().environment == QuantizeGptq().environment == "gptq"
    assert QuantizeAwq(backend="llmcompressor").environment == "llmcompressor"
    assert QuantizeGptq(backend="auto_gptq").environment == "auto_gptq"


def test_autoawq_takes_no_symmetric_groups() -> None:
    with pytest.raises(ValidationError, match="`backend: autoawq` packs no symmetric groups: set `symmetric: false`"):
        QuantizeAwq(backend="autoawq")


def test_rounding_is_of_one_backend() -> None:
    with pytest.raises(ValidationError, match="`method: rtn` is of `backend: gptqmodel`"):
        QuantizeGptq(backend="auto_gptq", method="rtn")


def test_auto_gptq_says_that_it_needs_cuda_and_what_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_cuda, "DEVICE_NODES", ())

    reason = QuantizeGptq(backend="auto_gptq").unavailable()

    assert reason is not None
    assert reason.startswith("`backend: auto_gptq` quantizes on CUDA alone, and there is no NVIDIA device here")
    assert reason.endswith("`backend: gptqmodel` runs on any CPU")
    assert QuantizeGptq().unavailable() is None
