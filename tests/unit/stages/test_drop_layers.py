from __future__ import annotations

import pytest
from pydantic import JsonValue, ValidationError

from stages._kept_layers import at_first
from stages.distill_encoder import DistillEncoder
from stages.drop_layers import DropLayers


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "say how many layers are left, `keep`, or which ones, `layers`"),
        ({"keep": 2, "layers": [0, 1]}, "`layers` says which layers are left: leave `keep` and `by` out"),
        ({"by": "kl", "layers": [0, 1]}, "`layers` says which layers are left: leave `keep` and `by` out"),
        ({"layers": []}, "at least 1 item"),
        ({"layers": [0, 0]}, "each layer once, in their order"),
        ({"layers": [2, 1]}, "each layer once, in their order"),
        ({"layers": [-1, 1]}, "greater than or equal to 0"),
    ],
)
def test_which_layers_are_left_is_said_once(fields: dict[str, JsonValue], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        DropLayers.model_validate(fields)


def test_an_encoders_layers_are_said_once() -> None:
    with pytest.raises(ValidationError, match="`layers` says which layers are left: leave `keep` out"):
        DistillEncoder.model_validate({"keep": 2, "layers": [0, 1]})


@pytest.mark.parametrize("fields", [{"layers": [0, 2]}, {"keep": 2}])
def test_fields_are_the_same_after_a_workers_request(fields: dict[str, JsonValue]) -> None:
    stage = DropLayers.model_validate(fields)

    assert DropLayers.model_validate(stage.model_dump(mode="json")) == stage


def test_layers_dropped_twice_keep_their_first_numbers() -> None:
    assert at_first([0, 2], 4, {}) == [0, 2]
    assert at_first([0, 2], 4, {"kept_layers": [0, 1, 5, 7]}) == [0, 5]
    assert at_first([0, 2], 3, {"kept_layers": [0, 1, 5, 7]}) == [0, 2]
