from __future__ import annotations

import pytest
from pydantic import ValidationError

from stages.distill_llm import DistillLlm


def test_adapters_are_trained_in_an_environment_of_their_own() -> None:
    assert DistillLlm().environment == "torch"
    assert DistillLlm.model_validate({"lora": {}}).environment == "peft"


def test_adapters_and_frozen_embeddings_are_one_too_many() -> None:
    with pytest.raises(ValidationError, match="`lora` trains nothing but adapters: leave `frozen` out"):
        DistillLlm.model_validate({"lora": {}, "frozen": ["embeddings"]})


def test_more_devices_than_a_step_has_calls_have_nothing_to_do() -> None:
    DistillLlm.model_validate({"batch": 8, "micro_batch": 3, "devices": 3})
    with pytest.raises(
        ValidationError, match="a step has fewer calls than that: raise `batch`, or lower `micro_batch`"
    ):
        DistillLlm.model_validate({"batch": 8, "micro_batch": 3, "devices": 4})
