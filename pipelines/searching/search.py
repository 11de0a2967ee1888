"""The search: ask, rule out, look early, measure in full, tell; until the budget is spent or nothing is left."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pipelines.searching.looking import Looking, in_play
from pipelines.searching.points import Points
from pipelines.searching.saying import ending, line
from pipelines.searching.settings import Search
from pipelines.searching.study import Study
from pipelines.searching.trials import Trial, best
from pipelines.searching.waiting import Postponed, Waiting

if TYPE_CHECKING:
    import optuna

SEEDS = 2
ASKED_AT_MOST = 30
"""Times that Optuna is asked before a point is drawn from those that are left: it may well repeat itself."""


@dataclass
class Searcher:
    """One session of a search. `trials` grows as it goes, whatever ends it.

    Where the first look gives all that is sought (the size), the whole evaluation of a point in play waits until no
    other point can be better than it: then it decides, and the others that wait need none.
    """

    settings: Search
    points: Points
    study: Study
    looking: Looking
    say: Callable[[str], None]
    tried: Callable[[Trial], None]
    trials: list[Trial] = field(default_factory=list)
    stopped: str = ""

    def __post_init__(self) -> None:
        self.ruling = self.looking.ruling
        self.trials = self.study.tried()
        self._began = time.monotonic()
        self._draw = random.Random(self.settings.seed + len(self.trials))
        self._waiting = Waiting(self.ruling.objectives[0])

    def run(self) -> None:
        """Search until it is over. What is known by then is in `trials`.

        Raises:
            KeyboardInterrupt: by ^C; everything that was told is kept. What waited will be looked at again, which costs
                little: the store has its look.
        """
        if not self.trials:
            for point in self.points.seeds(self.ruling.objectives[0], self.ruling.allowed, SEEDS):
                self.study.propose(point)
        while not self._over():
            promising = self._promising()
            self._one(promising) if promising else self._decide()
        while self._waiting:
            self._decide()
        self._rule_out_the_rest()

    @property
    def made(self) -> list[Trial]:
        """The trials that cost something."""
        return [trial for trial in (*self.trials, *self._waiting.trials) if trial.look != "none"]

    def _one(self, promising: list[str]) -> None:
        """One new point: ruled out, or looked at."""
        begin, (asked, key) = time.monotonic(), self._fresh(promising)
        trial = self.points.trial(key, len(self.trials) + len(self._waiting) + 1)
        why = "" if key in promising else self._ruled_out(key)
        with self._given_back(asked):
            if why:
                trial = trial.model_copy(update={"reason": why})
            else:
                trial = self.looking.at(trial, self.points.config(key), self.trials)
        trial = trial.model_copy(update={"seconds": time.monotonic() - begin})
        if why or not in_play(trial):
            self._tell(asked, trial)
        else:
            self._waiting.add(Postponed(asked, key, trial))
            self._say(trial)

    def _decide(self) -> None:
        """Measure the best of those that wait in full, and let go of those that cannot be better."""
        begin, point = time.monotonic(), self._waiting.best
        with self._given_back(point.asked):
            trial = self.looking.whole(point.trial, self.points.config(point.key))
        self._waiting.drop(point)
        self._tell(point.asked, trial.model_copy(update={"seconds": point.trial.seconds + time.monotonic() - begin}))
        for other in self._waiting.let_go(lambda its: self.ruling.after_a_look(its, self.trials)):
            self._tell(other.asked, other.trial)

    @contextmanager
    def _given_back(self, asked: optuna.Trial) -> Iterator[None]:
        """A point that ^C cut short is as if it had never been asked for."""
        try:
            yield
        except KeyboardInterrupt:
            self.study.again(asked)
            raise

    def _tell(self, asked: optuna.Trial, trial: Trial) -> None:
        self.study.tell(asked, trial, self.looking.violation(trial))
        self.trials.append(trial)
        self.tried(trial)
        if trial.look != "none":
            self._say(trial)

    def _say(self, trial: Trial) -> None:
        left = min(self.settings.trials - len(self.made), len(self._promising()))
        said = ending(left, [its.seconds for its in self.made], self.settings.minutes, self._spent())
        self.say(
            line(trial, f"{len(self.made)}/{self.settings.trials}", best(self.trials, self.ruling.objectives), said)
        )

    def _over(self) -> bool:
        settings = self.settings
        if len(self.made) >= settings.trials:
            self.stopped = f"the budget of {settings.trials} trials is spent"
        elif settings.minutes is not None and self._spent() + self._owed() > 60 * settings.minutes:
            self.stopped = f"the budget of {settings.minutes:g} minutes is spent"
        elif not self._left() and not self._waiting:
            self.stopped = f"every one of the {len(self.points)} points is tried or ruled out"
        return bool(self.stopped)

    def _spent(self) -> float:
        return time.monotonic() - self._began

    def _owed(self) -> float:
        """Seconds for the whole evaluation of the best that waits, by what its first look took to measure."""
        if not self._waiting:
            return 0.0
        return self._waiting.best.trial.evaluation_seconds * self.looking.times_as_long

    def _fresh(self, promising: list[str]) -> tuple[optuna.Trial, str]:
        """A point that was not tried, by its key, with Optuna's trial for it; it may be one that is ruled out.

        Where size alone is sought, every other point is the planner's.
        """
        if self.looking.sees_all_early and len(self.made) >= SEEDS and len(self.made) % 2 == 0:
            key = self.points.halfway(promising, self.ruling.objectives[0])
            return self.study.ask_for(self.points[key]), key
        untried = self._untried()
        for _ in range(ASKED_AT_MOST):
            asked, point = self.study.ask()
            key = self.points.key(point)
            if key in promising or (key in untried and self._ruled_out(key)):
                return asked, key
            self.study.again(asked)
        key = self._draw.choice(promising)
        return self.study.ask_for(self.points[key]), key

    def _untried(self) -> list[str]:
        seen = {self.points.key(trial.point) for trial in (*self.trials, *self._waiting.trials)}
        return [key for key in self.points if key not in seen]

    def _left(self) -> list[str]:
        """Keys of the points that are neither tried nor ruled out."""
        return [key for key in self._untried() if not self._ruled_out(key)]

    def _promising(self) -> list[str]:
        """Of those, what can be better than the best that waits, were that to pass."""
        if not self._waiting:
            return self._left()
        first = self._waiting.best.trial
        return [key for key in self._left() if not self.ruling.behind(first, self.points.forecast(key))]

    def _ruled_out(self, key: str) -> str:
        return self.ruling.why(self.points[key], self.points.forecast(key), self.trials)

    def _rule_out_the_rest(self) -> None:
        """What is ruled out is a trial, too: it is known why it was not made."""
        for key in self._untried():
            if why := self._ruled_out(key):
                trial = self.points.trial(key, len(self.trials) + 1)
                self._tell(self.study.ask_for(self.points[key]), trial.model_copy(update={"reason": why}))
