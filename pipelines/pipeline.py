"""What a run does, in order: fetch, stage, measure, gate. Knows neither Prefect nor MLflow."""

from __future__ import annotations

from functools import partial

from pipelines.beside import TEACHER
from pipelines.chain import Chain
from pipelines.challenging import challenge
from pipelines.config import LoadedConfig
from pipelines.data.reading import Data, read_data
from pipelines.further_models import draft_chain, make_draft, teacher_of
from pipelines.gate import Gate
from pipelines.measurers import measurer_of
from pipelines.measuring import Measurer, Subject
from pipelines.plan import Plan
from pipelines.promotion import Promoted
from pipelines.standing import Standing
from pipelines.workshop import Around, Workshop, plainly
from stages.base import Artifact


class Pipeline:
    """One run of one config. The `history` of its `chain` grows as it goes, whatever happens."""

    def __init__(self, loaded: LoadedConfig, plan: Plan, workshop: Workshop) -> None:
        self.loaded, self.plan, self.workshop = loaded, plan, workshop
        self.chain = Chain.of(loaded, plan, workshop)
        self.history = self.chain.history
        self.drafting: Chain | None = None
        self.deployable: Artifact | None = None
        self.promoted: Promoted | None = None

    def run(self, around: Around = plainly) -> None:
        """Carry out the plan.

        Raises:
            BudgetExceeded: at the stage that broke a budget.
            TapeoutError: whatever else ended it.
        """
        with self.workshop.store.in_use():
            model = around("fetch", self.chain.fetch, 2)
            data = around("read-data", self.read_data, 2)
            now = Standing.at_first(model, data).given(teacher_of(self.loaded, self.workshop, around))
            for planned in self.plan.steps[: self.plan.reference]:
                now = self.chain.advance(planned, now, around)
            reference = Subject(now.model, self.loaded.config.reference)
            with measurer_of(data, self.loaded.config, self.workshop, reference) as measurer:
                self.deployable = self._gated(now, measurer, around)
                self.promoted = self._promoted(self.deployable, data, reference, around)

    def read_data(self) -> Data:
        """The evaluation data, checked against the calibration's."""
        shop = self.workshop
        found = read_data(self.loaded, shop.store, shop.home / "data", shop.progress)
        self.history.data = found.record
        return found

    def _gated(self, now: Standing, measurer: Measurer, around: Around) -> Artifact:
        """The model after every step from the reference on, each within its budgets."""
        now = now.given({TEACHER: now.model, **now.beside})  # unless the config names its own
        if self.loaded.config.of_embeddings:
            now = now.given(around("tokenize", lambda: measurer.given))
        draft = self._draft(now, around)
        gate = Gate(self.plan, self.workshop, self.history, measurer)
        for planned in self.plan.steps[self.plan.reference :]:
            now = self.chain.advance(planned, now, around)
            if self.plan.measured(planned):
                its_draft = draft if planned == self.plan.steps[-1] else None
                around(f"measure-{planned.step.name}", partial(gate.measure, planned, now.model, its_draft))
        return now.model

    def _draft(self, reference: Standing, around: Around) -> Artifact | None:
        self.drafting = draft_chain(self.chain)
        return make_draft(self.drafting, reference, around) if self.drafting else None

    def _promoted(self, model: Artifact, data: Data, reference: Subject, around: Around) -> Promoted | None:
        """The word on the model beside the champion, where the config asks for it and the model was judged."""
        promotion, last, shop = self.loaded.config.promotion, self.plan.steps[-1], self.workshop
        if promotion is None or last.opener is None or not self.plan.measured(last):
            return None
        config = self.loaded.config.model_copy(update={"budgets": promotion.budgets})
        measuring = partial(measurer_of, data, config, shop, reference)
        subject, record = Subject(model, last.opener), self.history.records[last.number]

        def compared() -> Promoted:
            return challenge(promotion, shop.tracker.champion(), subject, record, shop.store, measuring)

        return around("compare-with-champion", compared)
