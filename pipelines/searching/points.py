"""The points of a space by their keys, each with its config and with what the planner expects of it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from pipelines.config import LoadedConfig
from pipelines.searching.forecast import Forecaster
from pipelines.searching.space import Point, Space
from pipelines.searching.trials import Forecast, Trial


class Points:
    """Those that are right configs. Configs and forecasts are made once."""

    def __init__(self, space: Space, right: list[Point], forecaster: Forecaster | None = None) -> None:
        self._space, self.forecaster = space, forecaster
        self._points = {space.key(point): point for point in right}
        self._configs: dict[str, LoadedConfig] = {}
        self._expected: dict[str, Forecast] = {}

    def __len__(self) -> int:
        return len(self._points)

    def __getitem__(self, key: str) -> Point:
        return self._points[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._points)

    def key(self, point: Point) -> str:
        """The same for all points that make the same config."""
        return self._space.key(point)

    def config(self, key: str) -> LoadedConfig:
        """The config that the point makes."""
        if key not in self._configs:
            self._configs[key] = self._space.config(self._points[key])
        return self._configs[key]

    def forecast(self, key: str) -> Forecast:
        """The planner's; of nothing where it has no formulas for the model."""
        if key not in self._expected:
            its = self.forecaster
            self._expected[key] = its.forecast(self.config(key).config) if its else Forecast()
        return self._expected[key]

    def trial(self, key: str, number: int) -> Trial:
        """A trial of the point that nothing has looked at."""
        point = self._points[key]
        label = self._space.label(point)
        return Trial(number=number, point=point, label=label, verdict="pruned", forecast=self.forecast(key))

    def halfway(self, keys: Sequence[str], objective: str) -> str:
        """The one in the middle by what is forecast of the objective; of equals that of the least forecast loss.

        Fewer bits lose more, by and large: what is in play halves the points that are left, what is not says where not
        to look.
        """

        def rank(key: str) -> tuple[float, float]:
            expected = self.forecast(key)
            value, loss = getattr(expected, objective, None), expected.perplexity_change
            return (math.inf if value is None else value, math.inf if loss is None else loss)

        return sorted(keys, key=rank)[len(keys) // 2]

    def seeds(self, objective: str, allowed: float | None, most: int) -> list[Point]:
        """Where the planner would begin: within the quality budget by its priors, the best in the objective."""
        known = []
        for key, point in self._points.items():
            value, loss = getattr(self.forecast(key), objective, None), self.forecast(key).perplexity_change
            if value is not None and (allowed is None or (loss is not None and loss <= allowed)):
                known.append((value, point))
        return [point for _, point in sorted(known, key=lambda pair: pair[0])[:most]]
