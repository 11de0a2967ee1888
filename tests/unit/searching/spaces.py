"""A space over the dummy target, searched in this process; only the planner's forecasts are made up."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "pipelines"))
from dummies import CONFIG, Bench

from pipelines import plan
from pipelines.config import LoadedConfig, PipelineConfig
from pipelines.mlflow_process import writer
from pipelines.pipeline import Pipeline
from pipelines.progress import Silent
from pipelines.searching.asking import Asked, space_of
from pipelines.searching.conducting import conduct
from pipelines.searching.space import Space
from pipelines.searching.trials import Forecast, SearchRecord
from pipelines.workshop import Workshop

STEPS = "steps: [dummy, {dummy: {noise: 0.0}}]\n"
NOISES = "[0.0, 0.01, 0.02, 0.05, 1.5, 3.0]"
SEARCH = f"search: {{space: {{steps.2.dummy.noise: {NOISES}}}, objectives: [perplexity], first_windows: 2}}\n"


def config(search: str = SEARCH) -> str:
    return CONFIG.replace("steps:\n  - dummy\n", STEPS) + search


class Lab:
    """A bench whose config declares a space."""

    def __init__(self, folder: Path, search: str = SEARCH) -> None:
        self.bench = Bench(folder)
        self.bench.config.write_text(config(search))
        self.made: list[str] = []

    def space(self, asked: Asked = Asked()) -> Space:  # noqa: B008
        return space_of(self.bench.config, (), asked)

    def search(self, tracked: bool = False, **asked: object) -> SearchRecord:
        """With `tracked` by a real MLflow writer."""
        wanted = Asked(**asked)  # type: ignore[arg-type]
        shop = self.bench.workshop()
        with writer() if tracked else nullcontext() as process:
            return conduct(self.space(wanted), wanted, Silent(), process, self._pipeline, shop)

    def _pipeline(self, loaded: LoadedConfig, shop: Workshop) -> Pipeline:
        self.made.append(loaded.text)
        return Pipeline(loaded, plan.check(loaded), shop)


class Noisy:
    """Forecasts: the noisier, the smaller."""

    def forecast(self, config: PipelineConfig) -> Forecast:
        noise = float(config.steps[-1].stage.model_dump()["noise"])
        return Forecast(size_bytes=1e6 / (1 + noise))


class Sized:
    """Forecasts of the size alone: right but for what a model has without padding."""

    def forecast(self, config: PipelineConfig) -> Forecast:
        return Forecast(size_bytes=30_000 + int(config.steps[-1].stage.model_dump()["padding_bytes"]))
