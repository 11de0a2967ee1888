from __future__ import annotations

import pytest
from pydantic import JsonValue, ValidationError

from stages.prune_width import PruneWidth


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "say which width is left: `hidden`, `intermediate`, or both"),
        ({"hidden": 0}, "greater than or equal to 1"),
        ({"hidden": 32, "window": 8}, "greater than or equal to 16"),
        ({"heads": 4, "hidden": 32}, "Extra inputs are not permitted"),
    ],
)
def test_a_width_is_said(fields: dict[str, JsonValue], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        PruneWidth.model_validate(fields)


@pytest.mark.parametrize("fields", [{"hidden": 32}, {"intermediate": 64}, {"hidden": 32, "intermediate": 64}])
def test_fields_are_the_same_after_a_workers_request(fields: dict[str, JsonValue]) -> None:
    stage = PruneWidth.model_validate(fields)

    assert PruneWidth.model_validate(stage.model_dump(mode="json")) == stage


def test_it_cannot_do_without_text() -> None:
    assert PruneWidth(hidden=32).needs() == {"calibration"}
