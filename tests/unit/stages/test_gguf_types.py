import pytest
from pydantic import ValidationError

from stages._imatrix import KIND as IMATRIX
from stages.measure_sensitivity import MeasureSensitivity
from stages.quantize_gguf import QuantizeGguf


def test_types_may_be_spelt_as_llama_cpp_spells_them() -> None:
    stage = QuantizeGguf.model_validate({"type": "Q4_K_M", "tensor_types": {"ffn_down": "q6_K"}, "output_type": "F16"})

    assert (stage.type, stage.tensor_types, stage.output_type) == ("q4_k_m", {"ffn_down": "q6_k"}, "f16")


def test_an_unknown_type_is_told_with_those_that_there_are() -> None:
    with pytest.raises(ValidationError, match="q6_k"):
        QuantizeGguf.model_validate({"type": "q4_k_m", "tensor_types": {"ffn_down": "q6"}})


@pytest.mark.parametrize(
    "fields", [{"tensor_types": {"ffn": "iq2_xxs"}}, {"output_type": "iq1_s"}, {"token_embedding_type": "iq3_xxs"}]
)
def test_a_type_that_needs_an_importance_matrix_needs_it_wherever_it_is_asked_for(fields: dict[str, object]) -> None:
    assert IMATRIX in QuantizeGguf.model_validate({"type": "q4_k_m", **fields}).needs()


def test_sensitivities_need_an_importance_matrix_for_such_types_alone() -> None:
    assert IMATRIX not in MeasureSensitivity().needs()
    assert IMATRIX in MeasureSensitivity.model_validate({"types": ["IQ2_XS", "q8_0"]}).needs()
