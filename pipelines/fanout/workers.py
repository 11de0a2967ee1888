"""How many configs run at once, and whether the task runner that was asked for is there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Literal, get_args

from pipelines.config import LoadedConfig
from pipelines.errors import UserError

RunnerName = Literal["threads", "dask", "ray"]
RUNNERS = get_args(RunnerName)
MODULES: dict[RunnerName, str] = {"threads": "prefect", "dask": "prefect_dask", "ray": "prefect_ray"}
AT_ONCE = 2
TIMED = ("speed", "latency")


@dataclass(frozen=True)
class Fanning:
    """Workers of a task runner. `beside` is False where the configs just follow each other in this process."""

    workers: int
    runner: RunnerName

    @property
    def beside(self) -> bool:
        """Whether a task runner is needed at all."""
        return self.workers > 1 or self.runner != "threads"


def fanning(loaded: Sequence[LoadedConfig], workers: int | None, runner: RunnerName, prefect: bool) -> Fanning:
    """What was asked for, or the default: two at once, one where they would disturb each other.

    Raises:
        UserError: more than one was asked for where they would, or the task runner is not there.
    """
    if not prefect and (runner != "threads" or (workers or 1) > 1):
        raise UserError("more than one worker needs Prefect, whose task runners start them", "leave --no-prefect out")
    if find_spec(MODULES[runner]) is None:
        raise UserError(
            f"the task runner `{runner}` is not installed",
            f"make setup EXTRAS={runner}, or pip install 'tapeout[{runner}]'; `threads` needs nothing",
        )
    reasons = list(_disturbing(loaded))
    if reasons and (workers or 1) > 1:
        raise UserError("\n".join(reasons), "one after the other: --workers 1, which is the default here")
    return Fanning(workers or (1 if reasons or not prefect else min(AT_ONCE, len(loaded))), runner)


def _disturbing(loaded: Sequence[LoadedConfig]) -> Iterator[str]:
    """Why these configs cannot run beside each other."""
    for each in loaded:
        parts = [part for part in TIMED if getattr(each.config.evaluation, part)]
        if parts:
            off = " ".join(f"--set evaluation.{part}=null" for part in parts)
            yield f"{each.path} measures {' and '.join(parts)}, which a config beside it would disturb ({off})"
    for name, times in Counter(each.config.name for each in loaded).items():
        if times > 1:
            yield f"{times} configs are called {name}: beside each other they would write one bundle"
