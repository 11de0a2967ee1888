"""What a run does, in order: fetch, stage, measure, gate. Knows neither Prefect nor MLflow."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Protocol, TypeVar

from pipelines.beside import CALIBRATION, TEACHER, TRAINING
from pipelines.budget import Budget
from pipelines.challenging import challenge, kept, subject_of, without_comparison
from pipelines.comparing import Candidate, compare
from pipelines.config import LoadedConfig
from pipelines.data.calibration_doubts import stage_doubts
from pipelines.data.example_sets import ExampleSets, read_examples
from pipelines.data.retrieval import RetrievalSets, read_retrieval
from pipelines.data.texts import Texts, read_texts
from pipelines.errors import BudgetExceeded, TapeoutError
from pipelines.keys import step_parts
from pipelines.making import Made, Recipe, obtain
from pipelines.measures import DeviceFacts, Report
from pipelines.measuring import Bench, Measurer, Subject
from pipelines.measuring_embeddings import EncoderMeasurer
from pipelines.measuring_images import ImageMeasurer
from pipelines.measuring_texts import TextMeasurer
from pipelines.origin import source_fields, source_recipe
from pipelines.plan import Plan, PlannedStep
from pipelines.planner.sightings import Sighting
from pipelines.planner.watching import sighting
from pipelines.progress import Progress
from pipelines.promotion import FIRST, Promoted, Promotion
from pipelines.records import DataRecord, StageRecord
from pipelines.requests import Learnt, RunRequest
from pipelines.runner import Runner
from pipelines.same_tokens import DRAFT, check_tokens
from pipelines.source_kind import kind_of_source
from pipelines.store import Store, WorkFolder
from pipelines.tracking.tracker import NullTracker, Tracker
from stages.base import Artifact, Produced, name_of

T = TypeVar("T")
Data = Texts | ExampleSets | RetrievalSets
NOTHING: Mapping[str, Artifact] = MappingProxyType({})


class Around(Protocol):
    """How one task of the run is carried out: as a Prefect task, or plainly."""

    def __call__(self, name: str, work: Callable[[], T], retries: int = 0) -> T:
        """Do the work and give its result."""
        ...


def plainly(name: str, work: Callable[[], T], retries: int = 0) -> T:
    """Just do it."""
    del name, retries
    return work()


@dataclass(frozen=True)
class Workshop:
    """Where a run works and with what."""

    home: Path
    store: Store
    runner: Runner
    tracker: Tracker
    progress: Progress
    device: DeviceFacts
    logs: Path
    threads: int


@dataclass
class Pipeline:
    """One run of one config. `records` grows as it goes, whatever happens."""

    loaded: LoadedConfig
    plan: Plan
    workshop: Workshop
    records: list[StageRecord] = field(default_factory=list)
    data: DataRecord | None = None
    last_passed: Artifact | None = None
    deployable: Artifact | None = None
    promoted: Promoted | None = None
    drafting: Pipeline | None = None
    _doubts: Mapping[str, str] = field(default_factory=dict)
    _tracked: set[int] = field(default_factory=set)
    _first_opened: dict[str, Subject] = field(default_factory=dict)

    def run(self, around: Around = plainly) -> None:
        """Carry out the plan.

        Raises:
            BudgetExceeded: at the stage that broke a budget.
            TapeoutError: whatever else ended it.
        """
        with self.workshop.store.in_use(), ExitStack() as stack:
            model = around("fetch", self.fetch, 2)
            data = around("read-data", self.read_data, 2)
            beside = {**beside_at_first(data), **self.teacher(around)}
            measurer = draft = None
            for planned in (None, *self.plan.steps):
                if planned is not None:
                    made = around(planned.step.name, partial(self.advance, planned, model, beside))
                    model, beside = (model, {**beside, made.kind: made}) if planned.beside else (made, beside)
                if (planned.number if planned else 0) == self.plan.reference:
                    measurer = stack.enter_context(self.measurer(model, data))
                    beside = {TEACHER: model, **beside, **self.tokenized(measurer, around)}
                    draft = self.draft(model, beside, around)
                if planned is not None and measurer is not None and self.plan.measured(planned):
                    last_one = planned.number == len(self.plan.steps)
                    measure = partial(self.measure, measurer, planned, model, draft if last_one else None)
                    around(f"measure-{planned.step.name}", measure)
            self.deployable = model
            last = next((step for step in reversed(self.plan.steps) if self.plan.measured(step)), None)
            if self.loaded.config.promotion and last and last.number == len(self.plan.steps):
                challenge = partial(self.challenge, self.loaded.config.promotion, last, model, data)
                self.promoted = around("compare-with-champion", challenge)

    def tokenized(self, measurer: Measurer, around: Around) -> Mapping[str, Artifact]:
        """The calibration texts in the reference's tokens, where the model is an encoder."""
        if not self.loaded.config.of_embeddings:
            return {}
        return around("tokenize", lambda: measurer.given)

    def fetch(self) -> Artifact:
        """The source as an artifact."""
        made = obtain(
            self.workshop.store,
            source_recipe(self.loaded, self.plan.source_kind, self.workshop.progress),
            self.workshop.progress,
        )
        role = "reference" if self.plan.reference == 0 else "source"
        self._record(made, StageRecord(index=0, stage="source", role=role, fields=source_fields(self.loaded)))
        return made.artifact

    def teacher(self, around: Around) -> Mapping[str, Artifact]:
        """The config's own teacher, where it names one; else the reference will be it."""
        source = self.loaded.config.teacher
        if source is None:
            return {}
        config = self.loaded.config.model_copy(update={"source": source})
        loaded, shop = replace(self.loaded, config=config), self.workshop
        recipe = source_recipe(loaded, kind_of_source(source, loaded.folder), shop.progress)
        return {TEACHER: around("fetch-teacher", lambda: obtain(shop.store, recipe, shop.progress), 2).artifact}

    def read_data(self) -> Data:
        """The evaluation data, checked against the calibration's."""
        shop, cache = self.workshop, self.workshop.home / "data"
        found: Data
        if self.loaded.config.data.of_images:
            found = read_examples(self.loaded, shop.store, cache, shop.progress)
            self._doubts = found.doubts
        elif self.loaded.config.of_embeddings:
            found = read_retrieval(self.loaded, cache, shop.progress)
        else:
            found = read_texts(self.loaded, shop.store, cache, shop.progress)
            self._doubts = found.doubts
        self.data = found.record
        return found

    def advance(self, planned: PlannedStep, model: Artifact, beside: Mapping[str, Artifact] = NOTHING) -> Artifact:
        """Run one step on the model as it is; `beside` is what else there is, by the names of `extra_inputs`."""
        stage, shop = planned.step.stage, self.workshop
        inputs = {name: beside[name] for name in sorted(type(stage).extra_inputs & beside.keys())}
        name, log = planned.step.name, shop.logs / f"{planned.number}-{planned.step.name}.log"
        seed = self.loaded.config.seed

        def make(work: WorkFolder) -> Produced:
            request = RunRequest(
                stage=name,
                fields=stage.model_dump(mode="json"),
                model=model,
                inputs=inputs,
                out=work.out,
                scratch=work.scratch,
                outliving=work.outliving,
                seed=seed,
                threads=shop.threads,
                memory_limit_gb=planned.step.memory_limit_gb,
            )
            return shop.runner.run(request, log, planned.step.timeout_s, learning)

        def learning(learnt: Learnt) -> None:
            shop.tracker.learning(planned.number, name, learnt.step, learnt.values)

        lock, versions = shop.runner.lock_digest(stage), shop.runner.versions(stage)
        parts = step_parts(stage, lock, {"model": model, **inputs}, seed, shop.device)
        parents = (model.digest, *(artifact.digest for artifact in inputs.values()))
        recipe = Recipe(name, planned.gives, parts, parents, make, log, versions)
        empty = StageRecord(
            index=planned.number,
            stage=name,
            role="reference" if planned.number == self.plan.reference else "intermediate",
            fields=stage.model_dump(mode="json"),
            env=stage.environment,
            tool_versions=versions,
            unmeasured=planned.unmeasured,
        )
        try:
            made = obtain(shop.store, recipe, shop.progress)
        except TapeoutError as error:
            kept = log if log.exists() else None
            self._keep(empty.model_copy(update={"status": "failed", "message": str(error), "log": kept}))
            raise
        self._record(made, empty, stage_doubts(self._doubts, inputs, empty.fields, made.entry.facts))
        return made.artifact

    def draft(self, reference: Artifact, beside: Mapping[str, Artifact], around: Around = plainly) -> Artifact | None:
        """The config's draft model, made by steps of its own, where it names one; they are a pipeline of their own.

        Raises:
            InputRejected: its tokens are not the reference's.
        """
        config, shop = self.loaded.config.drafting, self.workshop
        if config is None or self.plan.draft is None:
            return None
        (shop.logs / "draft").mkdir(parents=True, exist_ok=True)
        shop = replace(shop, tracker=NullTracker(), logs=shop.logs / "draft")
        loaded = replace(self.loaded, config=config)
        own = replace(self, loaded=loaded, plan=self.plan.draft, workshop=shop, records=[], _tracked=set())
        self.drafting = own
        model = around("fetch-draft", own.fetch, 2)
        for planned in self.plan.draft.steps:
            made = around(f"draft-{planned.step.name}", partial(own.advance, planned, model, beside))
            model, beside = (model, {**beside, made.kind: made}) if planned.beside else (made, beside)
        check_tokens(reference, model, shop.store, shop.progress, DRAFT)
        return model

    def measure(self, measurer: Measurer, planned: PlannedStep, model: Artifact, draft: Artifact | None = None) -> None:
        """Compare the step's artifact with the reference, and judge it."""
        assert planned.opener is not None
        sizes = {record.artifact: record.size_bytes for record in self.records}
        candidate = Candidate(
            subject=Subject(model, planned.opener),
            stage=planned.step.name,
            size_bytes=sizes[model.digest],
            reference_bytes=sizes[measurer.reference.artifact.digest],
            deployable=planned.number == len(self.plan.steps),
            baseline=self._baseline(Subject(model, planned.opener)),
            judged=self.plan.judged(planned),
            draft=draft,
        )
        try:
            check_tokens(measurer.reference.artifact, model, self.workshop.store, self.workshop.progress)
            comparison, seconds = compare(measurer, candidate)
        except TapeoutError as error:
            self._amend(planned.number, status="failed", message=str(error))
            raise
        measurer.release(candidate.subject)
        self.data = measurer.data
        failed = [verdict for verdict in comparison.verdicts if not verdict.passed]
        self._amend(self.plan.reference, report=comparison.reference)
        self._amend(
            planned.number,
            role="candidate",
            report=comparison.candidate,
            sighting=self._sighting(measurer, planned, candidate, comparison.candidate),
            verdicts=comparison.verdicts,
            evaluation_seconds=seconds,
            status="halted" if failed else "completed",
            message="; ".join(verdict.message for verdict in failed),
        )
        self._track(planned.number)
        if failed:
            raise BudgetExceeded("\n".join(verdict.message for verdict in failed), self._after_halt())
        if candidate.judged:
            self.last_passed = model

    def challenge(self, promotion: Promotion, planned: PlannedStep, model: Artifact, data: Data) -> Promoted:
        """Measure what passed against the champion, on the same data."""
        assert planned.opener is not None
        champion, store = self.workshop.tracker.champion(), self.workshop.store
        known = without_comparison(champion, model)
        if known or champion is None:
            return known or FIRST
        try:
            theirs, their_bytes = subject_of(champion, store, planned.opener)
        except TapeoutError as error:
            return kept(champion, error.message)
        candidate = Candidate(
            subject=Subject(model, planned.opener),
            stage=planned.step.name,
            size_bytes=self.records[planned.number].size_bytes,
            reference_bytes=their_bytes,
            deployable=True,
            baseline=theirs if self.loaded.config.of_arrays else None,
        )
        with self.measurer(model, data, against=theirs, budgets=promotion.budgets) as measurer:
            return challenge(promotion, champion, measurer, candidate)

    def _sighting(
        self, measurer: Measurer, planned: PlannedStep, candidate: Candidate, report: Report
    ) -> Sighting | None:
        subject, reference = candidate.subject, measurer.reference.artifact
        evaluation, home = self.loaded.config.evaluation, self.workshop.home
        target = name_of(subject.target)
        fields, size = planned.step.stage.model_dump(mode="json"), candidate.size_bytes
        versions = self.workshop.runner.versions(subject.target)
        return sighting(home, reference, subject.artifact, fields, target, evaluation, report, size, versions)

    def _baseline(self, subject: Subject) -> Subject | None:
        """The first artifact that this runtime opened: before it nothing of the runtime was quantized, or slowed."""
        first = self._first_opened.setdefault(name_of(subject.target), subject)
        return first if first != subject and self.loaded.config.of_arrays else None

    def _after_halt(self) -> str:
        kept = f"the last artifact within every budget: {self.last_passed.digest[:12]}" if self.last_passed else ""
        return kept or "no artifact was within every budget; `tapeout artifacts ls` lists what was made"

    def measurer(
        self,
        model: Artifact,
        data: Data,
        against: Subject | None = None,
        budgets: tuple[Budget, ...] | None = None,
    ) -> Measurer:
        """What measures against this reference, or another subject under other budgets, on these data."""
        shop, config = self.workshop, self.loaded.config
        if budgets is not None:
            config = config.model_copy(update={"budgets": budgets})
        bench = Bench(
            config=config,
            store=shop.store,
            runner=shop.runner,
            device=shop.device,
            progress=shop.progress,
            logs=shop.logs,
            threads=shop.threads,
            data=data.record,
        )
        reference = against or Subject(model, config.reference)
        if against is None:
            self._first_opened[name_of(config.reference)] = reference
        if isinstance(data, ExampleSets):
            return ImageMeasurer(bench, reference, data)
        if isinstance(data, RetrievalSets):
            return EncoderMeasurer(bench, reference, data, self._first_opened[name_of(config.reference)])
        return TextMeasurer(bench, reference, data.request)

    def _record(self, made: Made, empty: StageRecord, doubts: tuple[str, ...] = ()) -> None:
        entry = made.entry
        self._keep(
            empty.model_copy(
                update={
                    "cached": made.cached,
                    "seconds": entry.seconds,
                    "artifact": entry.digest,
                    "kind": entry.kind,
                    "parents": entry.parents,
                    "facts": entry.facts,
                    "notes": (*entry.notes, *doubts),
                    "tables": entry.tables,
                    "size_bytes": entry.size_bytes,
                    "log": self.workshop.store.log(entry),
                }
            )
        )

    def _keep(self, record: StageRecord) -> None:
        self.records.append(record)
        measured = record.index > self.plan.reference and self.plan.measured(self.plan.steps[record.index - 1])
        if record.status == "failed" or not (measured or record.index == self.plan.reference):
            self._track(record.index)

    def _amend(self, index: int, **changes: object) -> None:
        self.records[index] = self.records[index].model_copy(update=changes)

    def _track(self, index: int) -> None:
        self.workshop.tracker.stage(self.records[index])
        self._tracked.add(index)

    def track_rest(self) -> None:
        """Tell the tracker of every stage that it has not heard of: the reference, and one that was not measured."""
        for record in self.records:
            if record.index not in self._tracked:
                self._track(record.index)


def beside_at_first(data: Data) -> Mapping[str, Artifact]:
    """What stages are given besides the model before any has run, by input name: to calibrate and to train with."""
    if isinstance(data, RetrievalSets):
        return {}
    if isinstance(data, ExampleSets):
        return data.given
    given = {CALIBRATION: data.calibration, TRAINING: data.training}
    return {name: artifact for name, artifact in given.items() if artifact}
