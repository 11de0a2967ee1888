"""A training loop that can be killed at any step, and goes on from its last checkpoint to the same weights."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from stages._curve import Curve, no_curve
from stages._looks import Fit, Point, Score
from stages._repeatable import repeatable
from stages._team import ALONE, Team
from stages._training_files import TrainingFiles
from stages.base import Frozen, Refused

_POINTS = 200  # of the curve that is followed from outside
_WORSE = 4.0  # times the best held-out loss: no noise any more
Moved = Callable[[float, float, str], None]


class Plan(Frozen):
    """How many steps, how fast, and how often the held-out part is looked at and a checkpoint written."""

    steps: int
    learning_rate: float
    weight_decay: float
    warmup: float
    clip: float
    validate_every: int
    patience: int
    checkpoint_every: int

    def rate(self, step: int) -> float:
        """The learning rate of a step: up a line, then down a cosine to 0, without restarts (Loshchilov 2017)."""
        rising = max(1, round(self.warmup * self.steps))
        if step < rising:
            return self.learning_rate * (step + 1) / rising
        share = (step - rising) / max(1, self.steps - rising)
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * share))


class Work(Protocol):
    """What is learnt, of which the loop knows nothing. Everything drawn depends on the step's number alone."""

    @property
    def metric(self) -> str:
        """The name of a score's metric."""
        ...

    def backward(self, step: int) -> float:
        """Leave the gradients of one step in the weights, or this process's share of them; of the step's loss, too."""
        ...

    def score(self) -> Score:
        """Of the held-out part, the same in every process."""
        ...


def fit(
    module: Any,
    work: Work,
    plan: Plan,
    folder: Path,
    seed: int,
    moved: Moved,
    curve: Curve = no_curve,
    team: Team = ALONE,
) -> Fit:
    """Train in place, and leave the weights that did best on the held-out part. `folder` keeps checkpoints.

    `curve` hears of `train_loss` up to 200 times, and of each look at the held-out part; of the looks of a run that was
    killed once more, when it goes on.

    Raises:
        Refused: the loss went out of bounds before anything was better than the start, or a step cannot be repeated.
    """
    run = _Run(module, work, plan, folder, seed, curve, team)
    with repeatable():
        if not run.resume():
            run.begin()
        while run.step < plan.steps and not run.done:
            run.advance(moved)
    return run.end()


class _Run:
    """Mutable for the length of `fit`: the weights, the optimizer's state, and where it is."""

    def __init__(self, module: Any, work: Work, plan: Plan, folder: Path, seed: int, curve: Curve, team: Team) -> None:
        import torch

        self._work, self._plan, self._seed, self._tell, self._team = work, plan, seed, curve, team
        self._files = TrainingFiles(module, folder, writes=team.first)
        self._weights = [weights for weights in module.parameters() if weights.requires_grad]
        self._optimizer = torch.optim.AdamW(self._weights, lr=plan.learning_rate, weight_decay=plan.weight_decay)
        self.step, self._losses = 0, list[float]()
        self._curve: list[Point] = []
        self._diverged: int | None = None

    @property
    def done(self) -> bool:
        """Whether it diverged, or nothing got better for too long."""
        looks = [point.step for point in self._curve]
        waited = len(looks) - 1 - looks.index(self._best().step)
        return self._diverged is not None or (0 < self._plan.patience <= waited)

    def begin(self) -> None:
        self._look()

    def advance(self, moved: Moved) -> None:
        """One step, and what is due after it."""
        import torch

        moved(self.step, self._plan.steps, self._told())
        for group in self._optimizer.param_groups:
            group["lr"] = self._plan.rate(self.step)
        self._optimizer.zero_grad(set_to_none=True)
        self._seed_step()
        loss = self._team.total(self._work.backward(self.step))
        self._team.add_gradients(self._weights)
        norm = float(torch.nn.utils.clip_grad_norm_(self._weights, self._plan.clip))
        self.step += 1
        if not math.isfinite(loss) or not math.isfinite(norm):
            self._diverged = self.step
            return
        self._optimizer.step()
        self._losses.append(loss)
        if self.step % math.ceil(self._plan.steps / _POINTS) == 0:
            self._tell(self.step, {"train_loss": loss})
        if self.step % self._plan.validate_every == 0 or self.step == self._plan.steps:
            self._look()
        if self.step % self._plan.checkpoint_every == 0:
            self._keep()

    def _seed_step(self) -> None:
        """What torch draws depends on the step, too: a run that goes on leaves out the same units."""
        import numpy as np
        import torch

        torch.manual_seed(int(np.random.SeedSequence((self._seed, self.step, self._team.rank)).generate_state(1)[0]))

    def resume(self) -> bool:
        """Go on from the last checkpoint, if there is one."""
        held = self._files.resumed(self._optimizer)
        if held is None:
            return False
        self.step, self._losses = held["step"], held["losses"]
        self._curve = [Point.model_validate(point) for point in held["curve"]]
        for point in self._curve:
            self._tell_look(point)
        return True

    def end(self) -> Fit:
        """The best weights into the module."""
        best = self._best().step
        if self._diverged is not None and best == 0:
            raise Refused(
                f"training diverged at step {self._diverged} before anything was better than the start",
                f"lower `learning_rate`, which is {self._plan.learning_rate:g}",
            )
        if best != self.step or self._diverged is not None:
            self._files.restore_best()
        early = self._diverged is None and self.step < self._plan.steps
        return Fit(curve=tuple(self._curve), best=best, stopped_early=early, diverged=self._diverged)

    def _best(self) -> Point:
        best = self._curve[0]
        for point in self._curve[1:]:
            best = point if point.score.better(best.score) else best
        return best

    def _look(self) -> None:
        score = self._work.score()
        if not math.isfinite(score.loss) or (self._curve and score.loss > _WORSE * self._best().score.loss + 1):
            self._diverged = self.step
            return
        mean = sum(self._losses) / len(self._losses) if self._losses else None
        self._losses = []
        self._curve.append(Point(step=self.step, train=mean, score=score))
        self._tell_look(self._curve[-1])
        if self._best().step == self.step:
            self._files.keep_best()

    def _tell_look(self, point: Point) -> None:
        """The mean of the losses since the look before has a name of its own: they are not on one scale."""
        train = {} if point.train is None else {"mean_train_loss": point.train}
        score = {"held_out_loss": point.score.loss, f"held_out_{self._work.metric}": point.score.metric}
        self._tell(point.step, {**train, **score})

    def _keep(self) -> None:
        curve = [point.model_dump() for point in self._curve]
        self._files.keep(self._optimizer, {"step": self.step, "losses": self._losses, "curve": curve})

    def _told(self) -> str:
        loss = f", loss {self._losses[-1]:.3g}" if self._losses else ""
        return f"steps{loss}, held out {self._best().score.metric:.4g}"
