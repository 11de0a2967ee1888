"""Makes a model as its plan says: the source, then one step after the other, each from the store or made now."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pipelines.config import LoadedConfig
from pipelines.data.calibration_doubts import stage_doubts
from pipelines.errors import TapeoutError
from pipelines.history import History
from pipelines.keys import step_parts
from pipelines.making import Recipe, obtain
from pipelines.origin import source_fields
from pipelines.plan import Plan, PlannedStep
from pipelines.records import StageRecord
from pipelines.requests import Learnt, RunRequest
from pipelines.standing import Standing
from pipelines.store import WorkFolder
from pipelines.workshop import Around, Workshop, plainly
from stages.base import Artifact, Produced


@dataclass(frozen=True)
class Chain:
    """The steps of a plan. The history keeps a record of each."""

    loaded: LoadedConfig
    plan: Plan
    shop: Workshop
    history: History

    @classmethod
    def of(cls, loaded: LoadedConfig, plan: Plan, shop: Workshop) -> Chain:
        """With a history of its own."""
        return cls(loaded, plan, shop, History(plan, shop.store, shop.tracker))

    def fetch(self) -> Artifact:
        """The source as an artifact."""
        recipe = self.shop.fetching(self.loaded, self.plan.source_kind, self.shop.progress)
        made = obtain(self.shop.store, recipe, self.shop.progress)
        role = "reference" if self.plan.reference == 0 else "source"
        self.history.made(made, StageRecord(index=0, stage="source", role=role, fields=source_fields(self.loaded)))
        return made.artifact

    def advance(self, planned: PlannedStep, now: Standing, around: Around = plainly, task: str = "") -> Standing:
        """Carry out one step, as a task that is called `task` or as the step is."""
        made = around(task or planned.step.name, partial(self._carry_out, planned, now))
        return now.after(planned, made)

    def _carry_out(self, planned: PlannedStep, now: Standing) -> Artifact:
        stage, inputs = planned.step.stage, now.inputs_of(planned)
        recipe = self._recipe(planned, now.model, inputs)
        empty = StageRecord(
            index=planned.number,
            stage=planned.step.name,
            role="reference" if planned.number == self.plan.reference else "intermediate",
            fields=stage.model_dump(mode="json"),
            env=stage.environment,
            tool_versions=dict(recipe.tool_versions or {}),
            unmeasured=planned.unmeasured,
        )
        try:
            made = obtain(self.shop.store, recipe, self.shop.progress)
        except TapeoutError as error:
            log = recipe.log if recipe.log and recipe.log.exists() else None
            self.history.failed(empty.model_copy(update={"message": str(error), "log": log}))
            raise
        self.history.made(made, empty, stage_doubts(now.doubts, inputs, empty.fields, made.entry.facts))
        return made.artifact

    def _recipe(self, planned: PlannedStep, model: Artifact, inputs: Mapping[str, Artifact]) -> Recipe:
        stage, shop, name = planned.step.stage, self.shop, planned.step.name
        lock, versions = shop.runner.lock_digest(stage), shop.runner.versions(stage)
        parts = step_parts(stage, lock, {"model": model, **inputs}, self.loaded.config.seed, shop.device)
        parents = (model.digest, *(artifact.digest for artifact in inputs.values()))
        log = shop.logs / f"{planned.number}-{name}.log"
        make = partial(self._run, planned, model, inputs, log)
        return Recipe(name, planned.gives, parts, parents, make, log, versions)

    def _run(
        self, planned: PlannedStep, model: Artifact, inputs: Mapping[str, Artifact], log: Path, work: WorkFolder
    ) -> Produced:
        step, shop = planned.step, self.shop
        request = RunRequest(
            stage=step.name,
            fields=step.stage.model_dump(mode="json"),
            model=model,
            inputs=dict(inputs),
            out=work.out,
            scratch=work.scratch,
            outliving=work.outliving,
            seed=self.loaded.config.seed,
            threads=shop.threads,
            memory_limit_gb=step.memory_limit_gb,
        )

        def learning(learnt: Learnt) -> None:
            shop.tracker.learning(planned.number, step.name, learnt.step, learnt.values)

        return shop.runner.run(request, log, step.timeout_s, learning)
