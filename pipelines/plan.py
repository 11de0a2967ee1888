"""Do the artifact kinds chain, does everything named exist, who opens what: seconds, no toolchain import."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from urllib.parse import urlsplit

from pipelines.beside import TEACHER, missing_inputs
from pipelines.config import LoadedConfig, PipelineConfig, Step
from pipelines.errors import ConfigErrors, SourceError
from pipelines.fetching.weights import locate
from pipelines.fields import (
    BuiltinData,
    DataSource,
    HeldOut,
    HfSource,
    PackageFolder,
    PackageSource,
    PathData,
    PathSource,
    PythonSource,
    Source,
    UrlSource,
)
from pipelines.measures import DRAFTING, KINDS, kind_of, of_quality, parts_of
from pipelines.mistakes import did_you_mean, mistake
from stages.base import ROOT, load, name_of, names
from targets.base import Target

AT_EACH_BATCH = ("latency_p50_ms", "latency_p95_ms", "latency_p99_ms", "throughput_per_s", "speed_ratio")
AT_EACH_LENGTH = ("ttft_p50_ms", "ttft_p95_ms", "prefill_tokens_per_s")
KIND_OF_SUFFIX = {".gguf": "gguf", ".onnx": "onnx", ".dummy": "dummy"}


@dataclass(frozen=True)
class PlannedStep:
    """A step in its place. `opener` opens its artifact for measurement, None when nothing here can.

    `unmeasured` is then why this machine cannot, though another could.
    """

    number: int
    step: Step
    takes: str
    gives: str
    opener: Target | None
    unmeasured: str = ""

    @property
    def beside(self) -> bool:
        """Whether the model goes past the step as it was."""
        return type(self.step.stage).beside


@dataclass(frozen=True)
class Plan:
    """What will happen. `reference` is the number of the step whose artifact is the unchanged model, 0 the source.

    `draft` is how the draft model is made, once the reference is there.
    """

    source_kind: str
    steps: tuple[PlannedStep, ...]
    reference: int
    draft: Plan | None = None

    def measured(self, step: PlannedStep) -> bool:
        """Whether the step's artifact is a candidate that is compared with the reference."""
        return step.number > self.reference and step.opener is not None

    def judged(self, step: PlannedStep) -> bool:
        """Whether budgets are judged on it: not where a later step wins back what it lost."""
        return not any(type(later.step.stage).heals for later in self.steps[step.number :])

    @property
    def gated(self) -> bool:
        """Whether the last artifact is judged, or, where only another machine could open it, the one before it."""
        last = next((step for step in reversed(self.steps) if not (step.unmeasured or step.beside)), None)
        return last is not None and self.measured(last)


def check(loaded: LoadedConfig, environments: Path = ROOT / "envs") -> Plan:
    """Plan a config.

    Raises:
        ConfigErrors: every reason why it cannot be carried out here.
    """
    config, origin = loaded.config, str(loaded.path)
    source_kind = kind_of_source(config.source, loaded.folder)
    mistakes = [
        mistake(origin, place, *found)
        for checked in (
            _files(loaded),
            _chain(config, source_kind),
            missing_inputs(config, _reference(config, source_kind)),
            _teacher(loaded),
            _draft(loaded, environments),
            _environments(config, environments),
            _budgets(config),
            _promotion(config),
            _data(config),
        )
        for place, *found in checked
    ]
    steps = tuple(_planned(config, source_kind))
    reference = _reference(config, source_kind)
    if reference is None and not mistakes:
        takes = ", ".join(sorted(type(config.reference).opens or {type(config.reference).produces}))
        hint = f"the reference target opens {takes}; begin with a stage that gives it, or name another `reference`"
        mistakes.append(mistake(origin, "`reference`", "no artifact of this config can be its reference", hint))
    plan = Plan(source_kind, steps, reference or 0, _draft_plan(loaded))
    if config.budgets and not mistakes and not plan.gated:
        mistakes.append(mistake(origin, "`budgets`", *_unjudged(plan)))
    if mistakes:
        raise ConfigErrors(mistakes)
    return plan


def _unjudged(plan: Plan) -> tuple[str, str]:
    """Why no budget would ever be judged on what is packaged."""
    last = plan.steps[-1]
    if last.number <= plan.reference:
        return "nothing comes after the reference that they could be judged on", "add a stage, or leave them out"
    if last.unmeasured:
        return f"cannot be judged on this device, and nothing before it can be either: {last.unmeasured}", ""
    return f"no target opens {last.gives}, so they cannot be judged on the last artifact", "tapeout ls targets"


def kind_of_source(source: Source, folder: Path) -> str:
    """The artifact kind that the source will have, by its name."""
    if isinstance(source, PythonSource):
        return "torch"
    return KIND_OF_SUFFIX.get(Path(_model_of(source, folder)).suffix, "hf")


def _model_of(source: PackageSource | PackageFolder | UrlSource | HfSource | PathSource, folder: Path) -> str | Path:
    match source:
        case PackageSource():
            return source.file
        case PackageFolder():
            return ""
        case UrlSource():
            return urlsplit(source.url).path
        case HfSource():
            return source.files[0] if len(source.files) == 1 else ""
        case PathSource():
            with suppress(SourceError):  # the fetch says what is wrong with it
                return locate(_at(folder, source.path))
            return ""


def _at(folder: Path, path: Path) -> Path:
    return folder / path.expanduser()


Found = Iterator[tuple[str, str, str]]


def _files(loaded: LoadedConfig) -> Found:
    source, hint = loaded.config.source, f"relative paths start at {loaded.folder.absolute()}"
    if isinstance(source, PathSource) and not _at(loaded.folder, source.path).exists():
        yield "`source`", f"`path`: no such file or folder: {source.path}", hint
    if isinstance(source, PythonSource) and source.file and not (loaded.folder / source.file).is_file():
        yield "`source`", f"`python`: no such file: {source.file}", hint
    weights = source.weights if isinstance(source, PythonSource) else None
    if isinstance(weights, PathSource) and not _at(loaded.folder, weights.path).is_file():
        yield "`source` `weights`", f"`path`: no such file: {weights.path}", hint
    for name, data in _texts(loaded.config):
        if isinstance(data, PathData) and not _at(loaded.folder, data.path).exists():
            yield name, f"`path`: no such file: {data.path}", hint


def _texts(config: PipelineConfig) -> Iterator[tuple[str, DataSource | HeldOut]]:
    yield "`data` `evaluation`", config.data.evaluation
    if config.data.calibration is not None:
        yield "`data` `calibration`", config.data.calibration
    if config.data.training is not None:
        yield "`data` `training`", config.data.training
    for name, task in config.evaluation.tasks.items():
        yield f"`evaluation` `tasks` `{name}`", task.data


def _chain(config: PipelineConfig, kind: str) -> Found:
    before = "the source"
    for number, step in enumerate(config.steps, 1):
        stage = type(step.stage)
        if kind not in stage.consumes:
            takes = " or ".join(sorted(stage.consumes))
            yield (
                f"step {number} `{step.name}`",
                f"takes {takes}, but {before} gives {kind}",
                _bridge(kind, stage.consumes),
            )
        if not stage.beside:
            kind, before = stage.produces, f"step {number} `{step.name}`"
    if config.steps and type(config.steps[-1].stage).beside:
        yield f"step {len(config.steps)} `{config.steps[-1].name}`", "is the last step: nothing would use it", ""


def _bridge(kind: str, wanted: frozenset[str]) -> str:
    ways = [name for name in sorted(names()) if kind in load(name).consumes and load(name).produces in wanted]
    return f"put `{ways[0]}` before it" if ways else f"no stage turns {kind} into {' or '.join(sorted(wanted))}"


def _teacher(loaded: LoadedConfig) -> Found:
    """Each step that distils takes a teacher of its own kind."""
    config = loaded.config
    if config.teacher is None:
        return
    kind = kind_of_source(config.teacher, loaded.folder)
    learning = [step for step in config.steps if TEACHER in type(step.stage).extra_inputs]
    if not learning:
        yield "`teacher`", "no step learns from a teacher", "leave it out, or add `distill`"
    for step in learning:
        if kind not in type(step.stage).consumes:
            takes = " or ".join(sorted(type(step.stage).consumes))
            yield "`teacher`", f"is {kind}, and `{step.name}` learns from {takes}", ""


def _draft(loaded: LoadedConfig, environments: Path) -> Found:
    """The draft model's own steps chain, and give what the runtime of the result drafts with."""
    config, drafting = loaded.config, loaded.config.drafting
    if drafting is None:
        return
    if config.of_arrays:
        yield "`draft`", "drafts text, and the model gives none", "leave it out"
        return
    if config.evaluation.speed is None:
        yield "`draft`", "its gain is not measured: `evaluation` leaves out `speed`", ""
    kind = kind_of_source(drafting.source, loaded.folder)
    missing = missing_inputs(drafting, 0)  # it is made once the reference is there
    for place, what, hint in chain(_chain(drafting, kind), missing, _environments(drafting, environments)):
        yield f"`draft` {place}", what, hint
    if isinstance(drafting.source, PathSource) and not _at(loaded.folder, drafting.source.path).exists():
        yield "`draft` `source`", f"`path`: no such file or folder: {drafting.source.path}", ""
    yield from _drafts(config, _kind_at_last(drafting, kind))


def _drafts(config: PipelineConfig, kind: str) -> Found:
    result = type(config.steps[-1].stage).produces
    runtime = opener(config, len(config.steps), result)
    if runtime is None or not type(runtime).drafts:
        others = [name for name in sorted(names()) if issubclass(stage := load(name), Target) and stage.drafts]
        hint = "of the runtimes here " + ", ".join(f"`{name}`" for name in others if name != "dummy") + " does"
        yield "`draft`", f"what opens {result} here takes no draft model", hint
    elif kind not in type(runtime).drafts:
        takes = " or ".join(sorted(type(runtime).drafts))
        yield "`draft`", f"is {kind}, and `{name_of(runtime)}` drafts with {takes}", f"let its `steps` end in {takes}"


def _kind_at_last(config: PipelineConfig, kind: str) -> str:
    return [kind, *(type(step.stage).produces for step in config.steps if not type(step.stage).beside)][-1]


def _draft_plan(loaded: LoadedConfig) -> Plan | None:
    config = loaded.config.drafting
    if config is None:
        return None
    kind = kind_of_source(config.source, loaded.folder)
    steps = tuple(_planned(config, kind))
    return Plan(kind, steps, reference=len(steps) + 1)  # which none of them gives


def _environments(config: PipelineConfig, folder: Path) -> Found:
    known = {file.stem for file in folder.glob("*.txt")}
    for number, step in enumerate(config.steps, 1):
        reason, needed = step.stage.unavailable(), step.stage.environment
        if reason is not None:
            yield f"step {number} `{step.name}`", f"cannot run here: {reason}", "tapeout doctor"
        if needed not in known and needed != "dummy":
            yield f"step {number} `{step.name}`", f"no tool environment `{needed}`", did_you_mean(needed, known)


def _budgets(config: PipelineConfig) -> Found:
    measured = measured_metrics(config)
    for number, budget in enumerate(config.budgets, 1):
        place, kind = f"`budgets` item {number}", kind_of(budget.metric)
        if kind is None:
            yield place, f"no metric `{budget.metric}`", did_you_mean(budget.metric, KINDS)
            continue
        if budget.max_regression is not None and not kind.compared:
            yield place, f"`max_regression`: {budget.metric} already compares with the reference", "use `min` or `max`"
        if kind.part and not any(getattr(config.evaluation, part) for part in parts_of(kind)):
            suits = [part for part in parts_of(kind) if part not in unsuited(config)]
            named = " and ".join(f"`{part}`" for part in suits or parts_of(kind))
            yield place, f"{budget.metric} is not measured: `evaluation` leaves out {named}", ""
        elif budget.metric not in measured:
            yield place, f"{budget.metric} is not measured", did_you_mean(budget.metric, measured, "tapeout ls metrics")


def _promotion(config: PipelineConfig) -> Found:
    measured, promotion = measured_metrics(config), config.promotion
    for metric in (promotion.metric, *promotion.never_worse) if promotion else ():
        kind = kind_of(metric)
        if kind is None or metric not in measured:
            yield "`promotion`", f"{metric} is not measured", did_you_mean(metric, measured, "tapeout ls metrics")
        elif not kind.compared:
            yield "`promotion`", f"{metric} already compares with the reference, so two versions cannot be by it", ""


def unsuited(config: PipelineConfig) -> tuple[str, ...]:
    """The parts of `evaluation:` that cannot be measured on the config's data."""
    return config.unsuited


def measured_metrics(config: PipelineConfig) -> set[str]:
    """The names of all that the config's evaluation measures of a candidate."""
    settings = config.evaluation
    names = {name for name, kind in KINDS.items() if not kind.part or any(getattr(settings, p) for p in parts_of(kind))}
    further = settings.speed.prompt_tokens[1:] if settings.speed else ()
    each = {f"{name}_{length}" for name in AT_EACH_LENGTH for length in further}
    batches = settings.latency.batch_sizes[1:] if settings.latency else ()
    each |= {f"{name}_{batch}" for name in AT_EACH_BATCH for batch in batches}
    if settings.classification:
        each |= {"accuracy_top1", "accuracy_top5"}
    names -= {"accuracy"} if config.draft else {"accuracy", *DRAFTING}
    return names | each | {f"accuracy_{task}" for task in settings.tasks}


def _data(config: PipelineConfig) -> Found:
    evaluation, calibration = config.data.evaluation, config.data.calibration
    if calibration == evaluation:
        hint = "give calibration the other half" if isinstance(evaluation, BuiltinData) else "name another text"
        yield "`data`", "calibration and evaluation are the same text: the measurement would be worthless", hint
    if config.data.training == evaluation:
        yield "`data`", "training and evaluation are the same: the measurement would be worthless", "use `held_out`"
    for name, source in (("calibration", calibration), ("training", config.data.training)):
        if isinstance(source, HeldOut) and not config.data.of_images:
            yield f"`data` `{name}`", "`held_out` is for labelled images", "name another text"
    for name, task in config.evaluation.tasks.items():
        if getattr(task.data, "reader", "") != "multiple-choice":
            yield f"`evaluation` `tasks` `{name}`", "needs data with the reader `multiple-choice`", ""
    for part in unsuited(config):
        if getattr(config.evaluation, part):
            given = "images" if config.data.of_images else "embeddings" if config.of_embeddings else "text"
            yield f"`evaluation` `{part}`", f"cannot be measured on {given}", "leave it out"
    settings = config.evaluation.perplexity
    if settings is not None and settings.max_windows < settings.windows:
        yield "`evaluation` `perplexity`", "`max_windows` is less than `windows`", ""
    speed = config.evaluation.speed
    if speed is not None and speed.max_pairs < speed.pairs:
        yield "`evaluation` `speed`", "`max_pairs` is less than `pairs`", ""
    latency = config.evaluation.latency
    if latency is not None and latency.max_pairs < latency.pairs:
        yield "`evaluation` `latency`", "`max_pairs` is less than `pairs`", ""
    if getattr(evaluation, "reader", "") == "multiple-choice":
        yield "`data` `evaluation`", "multiple choice is no running text", "name it under `evaluation: tasks:`"
    if config.of_embeddings and config.evaluation.tasks:
        yield "`evaluation` `tasks`", "cannot be measured on embeddings", "leave it out"


def _planned(config: PipelineConfig, kind: str) -> Iterator[PlannedStep]:
    for number, step in enumerate(config.steps, 1):
        gives = type(step.stage).produces
        opens = opener(config, number, gives)
        reason = (opens and opens.cannot_measure()) or ""
        yield PlannedStep(number, step, kind, gives, None if reason else opens, reason)
        kind = kind if type(step.stage).beside else gives


def opener(config: PipelineConfig, number: int, kind: str) -> Target | None:
    """The target that opens the artifact of step `number`: the config's nearest one, else any with its defaults."""
    stages = [step.stage for step in config.steps]
    nearest = [*reversed(stages[:number]), *stages[number:], config.reference]
    for stage in nearest:
        if isinstance(stage, Target) and type(stage).can_open(kind):
            return stage
    able = [load(name) for name in sorted(names())]
    able = [other for other in able if issubclass(other, Target) and other.can_open(kind)]
    makers_first = sorted(able, key=lambda other: other.produces != kind)
    return next((other() for other in makers_first if issubclass(other, Target)), None)


def _reference(config: PipelineConfig, source_kind: str) -> int | None:
    """The first artifact that it opens; where a step trains the model, the first one from there on."""
    kinds = [source_kind, *(type(step.stage).produces for step in config.steps)]
    trained = [number for number, step in enumerate(config.steps, 1) if type(step.stage).trains]
    opened = (number for number, kind in enumerate(kinds) if type(config.reference).can_open(kind))
    return next((number for number in opened if number >= max(trained, default=0)), None)


def quality_budgets(config: PipelineConfig) -> bool:
    """Whether anything at all is demanded of quality."""
    return any((kind := kind_of(budget.metric)) and of_quality(kind) for budget in config.budgets)
