"""The `search:` section of a config: what may vary, what is wanted, and how long to look for it."""

from __future__ import annotations

from typing import Any, Self

from pydantic import Field, JsonValue, field_validator, model_validator

from pipelines.measures import kind_of
from stages.base import Frozen

MOST_VALUES = 200


class Search(Frozen):
    """A space of configs around this one, for `tapeout search`; `tapeout run` takes no notice of it."""

    space: dict[str, tuple[JsonValue, ...]] = Field(
        min_length=1,
        description="by path, the values to try: `steps.quantize_gguf.type: [q8_0, q6_k]`, or `{from: 32, to: 128, "
        "step: 32}`; a path that names a whole step takes true and false (with and without it) and other steps, or "
        "lists of steps, in its place",
    )
    exclude: tuple[dict[str, JsonValue], ...] = Field(
        (), description="combinations to leave out, each by path and value, or by path and a list of values"
    )
    objectives: tuple[str, ...] = Field(
        (),
        description="metrics to improve; the first decides which point is chosen. By default size_bytes, then "
        "perplexity or accuracy, then tbt_p50_ms or latency_p50_ms where they are measured",
    )
    trials: int = Field(30, ge=1, description="points to make and measure; what the planner rules out costs nothing")
    minutes: float | None = Field(None, gt=0, description="no trial is begun after that long")
    first_windows: int | None = Field(
        4, ge=2, description="windows of the early look at a point's perplexity; null: measure each in full at once"
    )
    seed: int = Field(0, ge=0, description="of Optuna's draws")

    @field_validator("space", mode="before")
    @classmethod
    def _ranges(cls, given: Any) -> Any:
        return {key: _values(item) for key, item in given.items()} if isinstance(given, dict) else given

    @field_validator("objectives")
    @classmethod
    def _are_metrics(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if kind_of(name) is None:
                raise ValueError(f"nothing measures `{name}`: `tapeout ls metrics`")
        return names

    @model_validator(mode="after")
    def _has_values(self) -> Self:
        for path, values in self.space.items():
            if not values:
                raise ValueError(f"`{path}` has no values: the space is empty")
            if any(value in values[:number] for number, value in enumerate(values)):
                raise ValueError(f"`{path}` has a value twice")
        return self


def _values(given: Any) -> Any:
    """The list that `{from: 32, to: 128, step: 32}` stands for; anything else as it is."""
    if not isinstance(given, dict) or set(given) != {"from", "to", "step"}:
        return given
    low, high, step = given["from"], given["to"], given["step"]
    if not all(isinstance(number, int | float) and not isinstance(number, bool) for number in (low, high, step)):
        raise ValueError("`from`, `to` and `step` need numbers")
    if step <= 0 or high < low or (high - low) / step > MOST_VALUES:
        raise ValueError(f"from {low} to {high} by {step} is no range of 1 to {MOST_VALUES} values")
    count = int((high - low) / step + 1e-9) + 1
    return [low + number * step if isinstance(step, int) else round(low + number * step, 10) for number in range(count)]
