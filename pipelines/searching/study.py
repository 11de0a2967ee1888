"""Optuna's part: proposes points by what was told of others, and keeps it in a file that a search resumes from."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.searching.settings import Search
from pipelines.searching.space import Point
from pipelines.searching.trials import Trial

if TYPE_CHECKING:
    import optuna

KEPT, SESSION = "tapeout", "sessions"
STARTUP = 5
"""Points drawn at random before the tree of Parzen estimators takes over."""


class Study:
    """A study in a journal file. Optuna sees each value as its JSON, so that lists and mappings are values, too."""

    def __init__(self, file: Path, settings: Search, objectives: tuple[str, ...]) -> None:
        import optuna
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        file.parent.mkdir(parents=True, exist_ok=True)
        self._space, self._objectives = settings.space, objectives
        with _calm():
            storage = JournalStorage(JournalFileBackend(str(file)))
            self._study = optuna.create_study(
                storage=storage,
                study_name="search",
                directions=["minimize"] * len(objectives),
                load_if_exists=True,
            )
            self._drop_unfinished()
            sessions = int(self._study.user_attrs.get(SESSION, 0))
            # Seeded alike, a resumed study would draw the first session's points again.
            self._study.sampler = optuna.samplers.TPESampler(
                seed=settings.seed + 1000 * sessions, n_startup_trials=STARTUP, multivariate=True
            )
            self._study.set_user_attr(SESSION, sessions + 1)

    def _drop_unfinished(self) -> None:
        """What a killed search was at is nothing that was tried."""
        from optuna.trial import TrialState

        for trial in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            self._study.tell(trial.number, state=TrialState.FAIL)

    def tried(self) -> list[Trial]:
        """Every trial that was told, in order."""
        kept = (trial.user_attrs.get(KEPT) for trial in self._study.get_trials(deepcopy=False))
        return [Trial.model_validate_json(text) for text in kept if text]

    @property
    def note(self) -> dict[str, object]:
        """What was noted beside the trials."""
        return dict(self._study.user_attrs)

    def set_note(self, name: str, value: str | float) -> None:
        """Keep a note beside the trials."""
        self._study.set_user_attr(name, value)

    def propose(self, point: Point) -> None:
        """Have this point asked next."""
        with _calm():
            self._study.enqueue_trial({path: json.dumps(value) for path, value in point.items()})

    def ask(self) -> tuple[optuna.Trial, Point]:
        """A point that Optuna wants to know of; it may have been told before."""
        with _calm():
            trial = self._study.ask()
            drawn = {path: trial.suggest_categorical(path, [json.dumps(v) for v in values])
                     for path, values in self._space.items()}  # fmt: skip
        return trial, {path: json.loads(text) for path, text in drawn.items()}

    def ask_for(self, point: Point) -> optuna.Trial:
        """Optuna's trial for this very point."""
        self.propose(point)
        while True:
            asked, drawn = self.ask()
            if drawn == point:
                return asked
            self.again(asked)  # proposed before it

    def tell(self, asked: optuna.Trial, trial: Trial, violation: float) -> None:
        """What became of it. `violation` is how far the budgets are exceeded, at most 0 where they are not.

        A point without every objective is told as pruned: Optuna then keeps away from its like.
        """
        from optuna.trial import TrialState

        asked.set_user_attr(KEPT, trial.model_dump_json())
        asked.set_constraint("budgets", violation)
        values = [trial.value(name) for name in self._objectives]
        known = [value for value in values if value is not None]
        if len(known) == len(values) and (trial.look == "full" or violation > 0):
            self._study.tell(asked, known)
        else:
            self._study.tell(asked, state=TrialState.PRUNED)

    def again(self, asked: optuna.Trial) -> None:
        """The point was tried before, or is none: nothing new is known of it."""
        from optuna.trial import TrialState

        self._study.tell(asked, state=TrialState.FAIL)


@contextmanager
def _calm() -> Iterator[None]:
    """Optuna warns of what it calls experimental, the journal among it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
