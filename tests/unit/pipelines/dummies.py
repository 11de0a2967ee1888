"""A pipeline over the dummy target, in this process: everything but tools, Prefect and MLflow is the real thing."""

from __future__ import annotations

from pathlib import Path

from pipelines import plan
from pipelines.config import LoadedConfig
from pipelines.device import device_facts
from pipelines.making import Recipe
from pipelines.outcome import Ending, Outcome, conclude, execute
from pipelines.parsing import parse
from pipelines.pipeline import Pipeline
from pipelines.progress import Progress, Silent
from pipelines.runner import InlineRunner, Runner
from pipelines.store import Store, WorkFolder
from pipelines.tracking.tracker import NullTracker, Tracker
from pipelines.workshop import Workshop
from stages.base import Produced
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


def bigrams(loaded: LoadedConfig, kind: str, progress: Progress) -> Recipe:
    """In place of the config's source: a bigram model of the text, made here."""

    def make(work: WorkFolder) -> Produced:
        write_model(work.out, TEXT)
        return Produced()

    return Recipe("source", kind, {}, (), make)


class Bench:
    """A folder with a config, a text and a home."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.home = folder, folder / "home"
        (folder / "text.txt").write_text(TEXT)
        (folder / "model.dummy").write_text("")
        self.config = folder / "config.yaml"
        self.config.write_text(CONFIG)

    def workshop(self, runner: Runner | None = None, tracker: Tracker | None = None) -> Workshop:
        (self.folder / "logs").mkdir(exist_ok=True)
        return Workshop(
            home=self.home,
            store=Store(self.home / "store"),
            runner=runner or InlineRunner(),
            tracker=tracker or NullTracker(),
            progress=Silent(),
            device=device_facts(),
            logs=self.folder / "logs",
            threads=1,
            fetching=bigrams,
        )

    def pipeline(self, *overrides: str, runner: Runner | None = None, tracker: Tracker | None = None) -> Pipeline:
        loaded = parse(self.config, overrides)
        return Pipeline(loaded, plan.check(loaded), self.workshop(runner, tracker))

    def run(self, *overrides: str, runner: Runner | None = None, tracker: Tracker | None = None) -> Outcome:
        pipeline = self.pipeline(*overrides, runner=runner, tracker=tracker)
        run_folder = self.folder / "run"
        run_folder.mkdir(exist_ok=True)
        ending = Ending(run_folder, self.folder / "dist")
        return conclude(execute(pipeline, ending), pipeline, ending)
