"""Where a run works and with what, and how each of its tasks is carried out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from pipelines.config import LoadedConfig
from pipelines.making import Recipe
from pipelines.measures import DeviceFacts
from pipelines.origin import source_recipe
from pipelines.progress import Progress
from pipelines.runner import Runner
from pipelines.store import Store
from pipelines.tracking.tracker import Tracker

T = TypeVar("T")
Fetching = Callable[[LoadedConfig, str, Progress], Recipe]
"""How the source of a config becomes an artifact of the kind that its plan counts on."""


@dataclass(frozen=True)
class Workshop:
    """What a run works with; configs, plans and models come and go."""

    home: Path
    store: Store
    runner: Runner
    tracker: Tracker
    progress: Progress
    device: DeviceFacts
    logs: Path
    threads: int
    fetching: Fetching = source_recipe


class Around(Protocol):
    """How one task of the run is carried out: as a Prefect task, or plainly."""

    def __call__(self, name: str, work: Callable[[], T], retries: int = 0) -> T:
        """Do the work and give its result."""
        ...


def plainly(name: str, work: Callable[[], T], retries: int = 0) -> T:
    """Just do it."""
    del name, retries
    return work()
