"""A pipeline over the dummy target, in this process: everything but tools, Prefect and MLflow is the real thing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pipelines import plan
from pipelines.config import parse
from pipelines.device import device_facts
from pipelines.making import Recipe, obtain
from pipelines.outcome import Ending, Outcome, conclude, execute
from pipelines.pipeline import Pipeline, Workshop
from pipelines.progress import Silent
from pipelines.records import StageRecord
from pipelines.runner import InlineRunner, Runner
from pipelines.store import Store, WorkFolder
from pipelines.tracking.tracker import NullTracker
from stages.base import Artifact, Produced
from targets.dummy import write_model

TEXT = "the quick brown fox jumps over the lazy dog and then it goes home to sleep. " * 120

CONFIG = """
name: dummy
source: {path: model.dummy}
steps:
  - dummy
reference: dummy
data:
  evaluation: {path: text.txt}
evaluation:
  perplexity: {windows: 4, window: 64, max_windows: 16, top_k: 8}
  generation: {prompts: 3, prompt_tokens: 8, tokens: 8}
  speed: null
budgets:
  - {metric: perplexity, max_regression: 5%}
"""


class DummyPipeline(Pipeline):
    """Fetches a bigram model that it makes itself."""

    def fetch(self) -> Artifact:
        def make(work: WorkFolder) -> Produced:
            write_model(work.out, TEXT)
            return Produced()

        made = obtain(self.workshop.store, Recipe("source", "dummy", {}, (), make), self.workshop.progress)
        self._record(made, StageRecord(index=0, stage="source", role="reference"))
        return made.artifact


class Bench:
    """A folder with a config, a text and a home."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.home = folder, folder / "home"
        (folder / "text.txt").write_text(TEXT)
        (folder / "model.dummy").write_text("")
        self.config = folder / "config.yaml"
        self.config.write_text(CONFIG)

    def pipeline(self, *overrides: str, runner: Runner | None = None) -> DummyPipeline:
        loaded = parse(self.config, overrides)
        (self.folder / "logs").mkdir(exist_ok=True)
        workshop = Workshop(
            home=self.home,
            store=Store(self.home / "store"),
            runner=runner or InlineRunner(),
            tracker=NullTracker(),
            progress=Silent(),
            device=device_facts(),
            logs=self.folder / "logs",
            threads=1,
        )
        return DummyPipeline(loaded, plan.check(loaded), workshop)

    def run(
        self, *overrides: str, runner: Runner | None = None, prepare: Callable[[Pipeline], None] | None = None
    ) -> Outcome:
        pipeline = self.pipeline(*overrides, runner=runner)
        if prepare:
            prepare(pipeline)
        run_folder = self.folder / "run"
        run_folder.mkdir(exist_ok=True)
        ending = Ending(run_folder, self.folder / "dist")
        return conclude(execute(pipeline, ending), pipeline, ending)
