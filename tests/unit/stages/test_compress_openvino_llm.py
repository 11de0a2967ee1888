import numpy as np
import pytest

from stages.base import Refused
from stages.compress_openvino_llm import CompressOpenvinoLlm, feed


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"mode": "int8_asym", "awq": True}, "awq: at 4 bits only"),
        ({"mode": "int8_sym", "ratio": 0.5}, "ratio: at 4 bits only"),
        ({"lora_correction": True, "gptq": True}, "exclude each other"),
    ],
)
def test_settings_that_have_no_effect_together_are_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CompressOpenvinoLlm.model_validate(fields)


def test_text_is_needed_only_where_it_decides_something() -> None:
    assert CompressOpenvinoLlm().needs() == frozenset()
    assert CompressOpenvinoLlm(ratio=0.8).needs() == {"calibration"}
    assert CompressOpenvinoLlm(gptq=True).needs() == {"calibration"}


def test_a_window_is_fed_as_the_start_of_a_sequence() -> None:
    row = np.array([7, 8, 9])

    assert feed("input_ids", row).tolist() == [[7, 8, 9]]
    assert feed("position_ids", row).tolist() == [[0, 1, 2]]
    assert feed("attention_mask", row).tolist() == [[1, 1, 1]]
    with pytest.raises(Refused, match="an input `pixel_values`"):
        feed("pixel_values", row)
