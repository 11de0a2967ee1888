import pytest
from pydantic import ValidationError

from stages._onnx_back_off import BackOff
from stages.quantize_onnx import QuantizeOnnx


def aim(stage: QuantizeOnnx, **least: float) -> float | None:
    under = stage.under(least)
    assert under.back_off is not None
    return under.back_off.min_agreement


def test_the_back_off_aims_at_the_budget_unless_it_is_told_another_limit() -> None:
    assert aim(QuantizeOnnx(back_off=BackOff()), top1_agreement=0.98, speed_ratio=1) == 0.98
    assert aim(QuantizeOnnx(back_off=BackOff(min_agreement=0.9)), top1_agreement=0.98) == 0.9
    assert aim(QuantizeOnnx(back_off=BackOff()), speed_ratio=1) is None


def test_without_a_back_off_budgets_change_nothing() -> None:
    assert QuantizeOnnx().under({"top1_agreement": 0.98}) == QuantizeOnnx()


def test_a_back_off_without_calibration_examples_is_a_mistake() -> None:
    with pytest.raises(ValidationError, match="`back_off` needs `mode: static`, not dynamic"):
        QuantizeOnnx(mode="dynamic", back_off=BackOff())
