from typing import Literal

import pytest
from pydantic import BaseModel, Field, ValidationError

from pipelines.mistakes import did_you_mean, from_pydantic, mistake


class Inner(BaseModel):
    model_config = {"extra": "forbid"}

    size: int = Field(3, description="how large")
    flag: bool = False
    kind: Literal["a", "b"] = "a"


class Outer(BaseModel):
    model_config = {"extra": "forbid"}

    inner: Inner | None = None
    each: tuple[Inner, ...] = ()
    named: dict[str, Inner] = {}
    share: float = 0.5


def told(**fields: object) -> list[str]:
    with pytest.raises(ValidationError) as caught:
        Outer.model_validate(fields)
    return from_pydantic("a.yaml", "", Outer, caught.value.errors())


def test_mistake_has_a_place_and_a_hint_where_they_are_known() -> None:
    assert mistake("a.yaml", "", "is wrong") == "a.yaml: is wrong"
    assert mistake("a.yaml", "`x`", "is wrong", "mend it") == "a.yaml: `x`: is wrong\n\nhint: mend it"


def test_near_miss_is_offered_and_a_far_one_gets_the_list() -> None:
    assert did_you_mean("perplexty", ["perplexity", "size"]) == "did you mean `perplexity`?"
    assert did_you_mean("perplexty", ["perplexity"], "tapeout ls") == "did you mean `perplexity`?   (tapeout ls)"
    assert did_you_mean("zzz", ["b", "a"]) == "known: a, b"
    assert did_you_mean("zzz", map(str, range(99)), "tapeout ls") == "see `tapeout ls`"
    assert did_you_mean("zzz", map(str, range(99))) == ""


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"inner": {"size": "x"}}, "a.yaml: `inner`: `size`: needs a whole number (got 'x')\n\nhint: how large"),
        ({"inner": {"flag": "x"}}, "a.yaml: `inner`: `flag`: needs true or false (got 'x')"),
        ({"inner": {"kind": None}}, "a.yaml: `inner`: `kind`: input should be 'a' or 'b' (got nothing)"),
        ({"inner": {"sise": 3}}, "a.yaml: `inner`: no field `sise`\n\nhint: did you mean `size`?"),
        ({"inner": {"zzz": 3}}, "a.yaml: `inner`: no field `zzz`\n\nhint: known: flag, kind, size"),
        (
            {"each": [{}, {"size": 1.5}]},
            "a.yaml: `each` item 2: `size`: needs a whole number (got 1.5)\n\nhint: how large",
        ),
        ({"each": 3}, "a.yaml: `each`: needs a list (got 3)"),
        ({"each": [3]}, "a.yaml: `each` item 1: needs a mapping (got 3)"),
        ({"named": {"one": {"sise": 3}}}, "a.yaml: `named` `one`: no field `sise`\n\nhint: did you mean `size`?"),
        ({"share": "half"}, "a.yaml: `share`: needs a number (got 'half')"),
    ],
)
def test_what_pydantic_finds_becomes_a_sentence(fields: dict[str, object], message: str) -> None:
    assert told(**fields) == [message]


def test_missing_field_is_no_second_mistake_beside_its_misspelling() -> None:
    class Needs(BaseModel):
        model_config = {"extra": "forbid"}

        metric: str
        limit: float

    with pytest.raises(ValidationError) as caught:
        Needs.model_validate({"metrik": "x"})

    assert from_pydantic("a.yaml", "`b`", Needs, caught.value.errors()) == [
        "a.yaml: `b`: `limit` is missing",
        "a.yaml: `b`: no field `metrik`\n\nhint: did you mean `metric`?",
    ]
