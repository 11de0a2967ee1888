"""The search: ask, rule out, look early, measure in full, tell; until the budget is spent or nothing is left."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import mean
from typing import TYPE_CHECKING

from pipelines.config import LoadedConfig
from pipelines.quantities import duration
from pipelines.searching.carrying import Carried, Making, carry_out, early
from pipelines.searching.forecast import Forecaster
from pipelines.searching.ruling import Ruling
from pipelines.searching.space import Point, Space
from pipelines.searching.study import Study
from pipelines.searching.trials import CHANGE, Forecast, Look, Trial, Verdict, best

if TYPE_CHECKING:
    import optuna

SEEDS = 2
ASKED_AT_MOST = 30
"""Times that Optuna is asked before a point is drawn from those that are left: it may well repeat itself."""


@dataclass
class Searcher:
    """One session of a search. `trials` grows as it goes, whatever ends it."""

    space: Space
    right: list[Point]
    study: Study
    making: Making
    ruling: Ruling
    forecaster: Forecaster | None
    say: Callable[[str], None]
    tried: Callable[[Trial], None]
    trials: list[Trial] = field(default_factory=list)
    stopped: str = ""

    def __post_init__(self) -> None:
        self.trials = self.study.tried()
        self._began = time.monotonic()
        self._draw = random.Random(self.space.settings.seed + len(self.trials))
        self._points = {self.space.key(point): point for point in self.right}
        self._configs: dict[str, LoadedConfig] = {}
        self._expected: dict[str, Forecast] = {}

    def run(self) -> None:
        """Search until it is over. What is known by then is in `trials`.

        Raises:
            KeyboardInterrupt: by ^C; everything that was told is kept.
        """
        if not self.trials:
            for point in self._seeds():
                self.study.propose(point)
        while not self._over():
            self._one()
        self._rule_out_the_rest()

    @property
    def made(self) -> list[Trial]:
        """The trials that cost something."""
        return [trial for trial in self.trials if trial.look != "none"]

    def _one(self) -> None:
        """One new point: ruled out, or looked at."""
        begin, (asked, key) = time.monotonic(), self._fresh()
        trial = self._new(key)
        why = self._ruled_out(key)
        try:
            trial = trial.model_copy(update={"reason": why}) if why else self._looked_at(trial, self._config(key))
        except KeyboardInterrupt:
            self.study.again(asked)
            raise
        self._tell(asked, trial.model_copy(update={"seconds": time.monotonic() - begin}))

    def _new(self, key: str) -> Trial:
        point, number = self._points[key], len(self.trials) + 1
        label = self.space.label(point)
        return Trial(number=number, point=point, label=label, verdict="pruned", forecast=self._forecast(key))

    def _tell(self, asked: optuna.Trial, trial: Trial) -> None:
        self.study.tell(asked, trial, self._violation(trial))
        self._keep(trial)

    def _keep(self, trial: Trial) -> None:
        self.trials.append(trial)
        self.tried(trial)
        if trial.look != "none":
            self.say(self._told(trial))

    def _over(self) -> bool:
        settings, made = self.space.settings, len(self.made)
        if made >= settings.trials:
            self.stopped = f"the budget of {settings.trials} trials is spent"
        elif settings.minutes is not None and self._spent() > 60 * settings.minutes:
            self.stopped = f"the budget of {settings.minutes:g} minutes is spent"
        elif not self._left():
            self.stopped = f"every one of the {len(self.right)} points is tried or ruled out"
        return bool(self.stopped)

    def _spent(self) -> float:
        return time.monotonic() - self._began

    def _fresh(self) -> tuple[optuna.Trial, str]:
        """A point that was not tried, by its key, with Optuna's trial for it."""
        untried = self._untried()
        for _ in range(ASKED_AT_MOST):
            asked, point = self.study.ask()
            if (key := self.space.key(point)) in untried:
                return asked, key
            self.study.again(asked)
        key = self._draw.choice(self._left())
        return self.study.ask_for(self._points[key]), key

    def _untried(self) -> list[str]:
        seen = {self.space.key(trial.point) for trial in self.trials}
        return [key for key in self._points if key not in seen]

    def _left(self) -> list[str]:
        """Keys of the points that are neither tried nor ruled out."""
        return [key for key in self._untried() if not self._ruled_out(key)]

    def _ruled_out(self, key: str) -> str:
        return self.ruling.why(self._points[key], self._forecast(key), self.trials)

    def _rule_out_the_rest(self) -> None:
        """What is ruled out is a trial, too: it is known why it was not made."""
        for key in self._untried():
            if why := self._ruled_out(key):
                self._tell(self.study.ask_for(self._points[key]), self._new(key).model_copy(update={"reason": why}))

    def _seeds(self) -> list[Point]:
        """Where the planner would begin: within the quality budget by its priors, the best in the first objective."""
        first, allowed = self.ruling.objectives[0], self.ruling.allowed
        known = []
        for key, point in self._points.items():
            value, loss = getattr(self._forecast(key), first, None), self._forecast(key).perplexity_change
            if value is not None and (allowed is None or (loss is not None and loss <= allowed)):
                known.append((value, point))
        return [point for _, point in sorted(known, key=lambda pair: pair[0])[:SEEDS]]

    def _forecast(self, key: str) -> Forecast:
        if key not in self._expected:
            self._expected[key] = self.forecaster.forecast(self._config(key).config) if self.forecaster else Forecast()
        return self._expected[key]

    def _config(self, key: str) -> LoadedConfig:
        if key not in self._configs:
            self._configs[key] = self.space.config(self._points[key])
        return self._configs[key]

    def _looked_at(self, trial: Trial, loaded: LoadedConfig) -> Trial:
        """Few windows first; the whole evaluation of what they leave in play."""
        windows = self.space.settings.first_windows
        few = early(loaded, windows) if windows else None
        if few is not None:
            trial = _with(trial, carry_out(few, self.making), "early")
            if trial.verdict == "failed":
                return trial
            if why := self._too_lossy(trial):
                return trial.model_copy(update={"reason": why, "verdict": "over budget"})
            if why := self.ruling.after_a_look(trial, self.trials):
                return trial.model_copy(update={"reason": why})
        return _with(trial, carry_out(loaded, self.making), "full")

    def _too_lossy(self, trial: Trial) -> str:
        """Whether the early look's whole interval is over the budget of perplexity."""
        allowed, change = self.ruling.allowed, trial.figures.get(CHANGE)
        if allowed is None or change is None or change.low <= allowed:
            return ""
        return f"perplexity {change.value:+.1%} (interval {change.low:+.1%}..{change.high:+.1%}, allowed {allowed:.1%})"

    def _violation(self, trial: Trial) -> float:
        """How far over the budgets, in the share that perplexity is over; 0 where nothing says that it is."""
        if trial.verdict == "failed":
            return 1.0
        if trial.verdict != "over budget":
            return 0.0
        allowed, change = self.ruling.allowed, trial.figures.get(CHANGE)
        return max(1e-6, change.value - allowed) if allowed is not None and change is not None else 1e-6

    def _told(self, trial: Trial) -> str:
        """A line: which trial of how many, what came of it, what is best, how long it may still take."""
        change, size = trial.figures.get(CHANGE), trial.figures.get("size_bytes")
        found = best(self.trials, self.ruling.objectives)
        leader = "" if found is None else "" if found.number == trial.number else f"trial {found.number}, {found.label}"
        said = [
            f"{trial.verdict}{' at the first look' if trial.look == 'early' else ''}",
            f"{size.value / 1e6:.1f} MB" if size else "",
            f"perplexity {change.value:+.2%}" if change else "",
            trial.reason.splitlines()[0] if trial.reason and not change else "",
            f"best so far: {leader or 'this'}" if found else "",
            self._eta(),
        ]
        count = f"trial {len(self.made)}/{self.space.settings.trials}"
        return f"{count}  {trial.label}: {'; '.join(filter(None, said))}"

    def _eta(self) -> str:
        """How long the rest may take, by what trials took, the points that are left and the budget of minutes."""
        settings, spent = self.space.settings, [trial.seconds for trial in self.made]
        left = min(settings.trials - len(self.made), len(self._left()))
        seconds = left * mean(spent)
        if settings.minutes is not None:
            seconds = min(seconds, 60 * settings.minutes - self._spent())
        return f"at most {left} more, about {duration(max(0.0, seconds))}"


def _with(trial: Trial, carried: Carried, look: Look) -> Trial:
    """The trial with what a look at it gave; one that is passed early has everything before it."""
    verdict: Verdict = "pruned" if look == "early" else "passed"
    if carried.error is not None:
        verdict = "over budget" if carried.over_budget else "failed"
    told = {"look": look, "verdict": verdict, "reason": carried.error.message if carried.error else ""}
    return trial.model_copy(update={**told, "figures": carried.figures, "artifact": carried.artifact})
