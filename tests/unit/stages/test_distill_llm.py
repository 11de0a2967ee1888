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
