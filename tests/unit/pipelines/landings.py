"""A watched folder for tests of the watch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from configs import RIGHT
from pipelines.config import LoadedConfig
from pipelines.parsing import parse
from pipelines.watching.ledger import Checkpoint, Ledger
from pipelines.watching.watcher import Watcher


class Landing:
    """A watched folder, its ledger, and what a watcher of it announces and says."""

    def __init__(self, folder: Path, trigger: str = "{folder: landing, marker: .done}") -> None:
        self.home, self.landing = folder / "home", folder / "landing"
        self.landing.mkdir()
        (folder / "model.gguf").write_text("a model")
        (folder / "a.yaml").write_text(RIGHT + f"trigger: {trigger}\n")
        self.loaded: LoadedConfig = parse(folder / "a.yaml")
        self.announced: list[str] = []
        self.said: list[str] = []
        self.problem = ""

    def watcher(self, waits: Callable[[Checkpoint], bool] = lambda _: False) -> Watcher:
        return Watcher(self.loaded, self.home, self._announce, self.said.append, waits)

    def drop(self, name: str, content: str, marker: str = ".done") -> Path:
        (self.landing / name).write_text(content)
        if marker:
            (self.landing / f"{name}{marker}").touch()
        return self.landing / name

    def _announce(self, checkpoint: Checkpoint) -> str:
        self.announced.append(checkpoint.name)
        return self.problem

    def decide(self, number: int = 1, state: str = "passed") -> None:
        ledger = Ledger(self.home, "small")
        ledger.update(ledger.all()[number - 1].digest, state=state)

    def states(self) -> dict[str, str]:
        return {known.name: known.state for known in Ledger(self.home, "small").all()}


@pytest.fixture
def landing(tmp_path: Path) -> Landing:
    return Landing(tmp_path)
