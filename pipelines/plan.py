"""Do the artifact kinds chain, does everything named exist, who opens what: seconds, no toolchain import."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from pipelines.config import LoadedConfig, PipelineConfig, Step
from pipelines.errors import ConfigErrors, SourceError
from pipelines.fetching.weights import locate
from pipelines.fields import BuiltinData, DataSource, HfSource, PackageSource, PathData, PathSource, Source, UrlSource
from pipelines.measures import KINDS, QUALITY_PARTS, kind_of
from pipelines.mistakes import did_you_mean, mistake
from stages.base import ROOT, load, names
from targets.base import Target

AT_EACH_LENGTH = ("ttft_p50_ms", "ttft_p95_ms", "prefill_tokens_per_s")
KIND_OF_SUFFIX = {".gguf": "gguf", ".onnx": "onnx", ".dummy": "dummy"}


@dataclass(frozen=True)
class PlannedStep:
    """A step in its place. `opener` opens its artifact for measurement, None when nothing here can."""

    number: int
    step: Step
    takes: str
    gives: str
    opener: Target | None


@dataclass(frozen=True)
class Plan:
    """What will happen. `reference` is the number of the step whose artifact is the unchanged model, 0 the source."""

    source_kind: str
    steps: tuple[PlannedStep, ...]
    reference: int

    def measured(self, step: PlannedStep) -> bool:
        """Whether the step's artifact is a candidate that is compared with the reference."""
        return step.number > self.reference and step.opener is not None


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
            _environments(config, environments),
            _budgets(config),
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
    plan = Plan(source_kind, steps, reference or 0)
    if config.budgets and not mistakes and not plan.measured(steps[-1]):
        mistakes.append(mistake(origin, "`budgets`", *_unjudged(plan)))
    if mistakes:
        raise ConfigErrors(mistakes)
    return plan


def _unjudged(plan: Plan) -> tuple[str, str]:
    """Why no budget would ever be judged on what is packaged."""
    last = plan.steps[-1]
    if last.number <= plan.reference:
        return "nothing comes after the reference that they could be judged on", "add a stage, or leave them out"
    return f"no target opens {last.gives}, so they cannot be judged on the last artifact", "tapeout ls targets"


def kind_of_source(source: Source, folder: Path) -> str:
    """The artifact kind that the source will have, by its name."""
    return KIND_OF_SUFFIX.get(Path(_model_of(source, folder)).suffix, "hf")


def _model_of(source: Source, folder: Path) -> str | Path:
    match source:
        case PackageSource():
            return source.file
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
    for name, data in _texts(loaded.config):
        if isinstance(data, PathData) and not _at(loaded.folder, data.path).is_file():
            yield name, f"`path`: no such file: {data.path}", hint


def _texts(config: PipelineConfig) -> Iterator[tuple[str, DataSource]]:
    yield "`data` `evaluation`", config.data.evaluation
    if config.data.calibration is not None:
        yield "`data` `calibration`", config.data.calibration
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
        kind, before = stage.produces, f"step {number} `{step.name}`"


def _bridge(kind: str, wanted: frozenset[str]) -> str:
    ways = [name for name in sorted(names()) if kind in load(name).consumes and load(name).produces in wanted]
    return f"put `{ways[0]}` before it" if ways else f"no stage turns {kind} into {' or '.join(sorted(wanted))}"


def _environments(config: PipelineConfig, folder: Path) -> Found:
    known = {file.stem for file in folder.glob("*.txt")}
    for number, step in enumerate(config.steps, 1):
        stage = type(step.stage)
        reason = stage.unavailable()
        if reason is not None:
            yield f"step {number} `{step.name}`", f"cannot run here: {reason}", "tapeout doctor"
        if stage.env not in known and stage.env != "dummy":
            yield f"step {number} `{step.name}`", f"no tool environment `{stage.env}`", did_you_mean(stage.env, known)


def _budgets(config: PipelineConfig) -> Found:
    measured = measured_metrics(config)
    for number, budget in enumerate(config.budgets, 1):
        place, kind = f"`budgets` item {number}", kind_of(budget.metric)
        if kind is None:
            yield place, f"no metric `{budget.metric}`", did_you_mean(budget.metric, KINDS)
            continue
        if budget.max_regression is not None and not kind.compared:
            yield place, f"`max_regression`: {budget.metric} already compares with the reference", "use `min` or `max`"
        if kind.part and not getattr(config.evaluation, kind.part):
            yield place, f"{budget.metric} is not measured: `evaluation` leaves out `{kind.part}`", ""
        elif budget.metric not in measured:
            yield place, f"{budget.metric} is not measured", did_you_mean(budget.metric, measured, "tapeout ls metrics")


def measured_metrics(config: PipelineConfig) -> set[str]:
    """The names of all that the config's evaluation measures of a candidate."""
    names = {name for name, kind in KINDS.items() if not kind.part or getattr(config.evaluation, kind.part)}
    further = config.evaluation.speed.prompt_tokens[1:] if config.evaluation.speed else ()
    each = {f"{name}_{length}" for name in AT_EACH_LENGTH for length in further}
    return names - {"accuracy"} | each | {f"accuracy_{task}" for task in config.evaluation.tasks}


def _data(config: PipelineConfig) -> Found:
    evaluation, calibration = config.data.evaluation, config.data.calibration
    if calibration == evaluation:
        hint = "give calibration the other half" if isinstance(evaluation, BuiltinData) else "name another text"
        yield "`data`", "calibration and evaluation are the same text: the measurement would be worthless", hint
    for name, task in config.evaluation.tasks.items():
        if getattr(task.data, "reader", "") != "multiple-choice":
            yield f"`evaluation` `tasks` `{name}`", "needs data with the reader `multiple-choice`", ""
    settings = config.evaluation.perplexity
    if settings is not None and settings.max_windows < settings.windows:
        yield "`evaluation` `perplexity`", "`max_windows` is less than `windows`", ""
    speed = config.evaluation.speed
    if speed is not None and speed.max_pairs < speed.pairs:
        yield "`evaluation` `speed`", "`max_pairs` is less than `pairs`", ""
    if getattr(evaluation, "reader", "") == "multiple-choice":
        yield "`data` `evaluation`", "multiple choice is no running text", "name it under `evaluation: tasks:`"


def _planned(config: PipelineConfig, kind: str) -> Iterator[PlannedStep]:
    for number, step in enumerate(config.steps, 1):
        gives = type(step.stage).produces
        yield PlannedStep(number, step, kind, gives, opener(config, number, gives))
        kind = gives


def opener(config: PipelineConfig, number: int, kind: str) -> Target | None:
    """The target that opens the artifact of step `number`: the config's nearest one, else any with its defaults."""
    stages = [step.stage for step in config.steps]
    nearest = [*reversed(stages[:number]), *stages[number:], config.reference]
    for stage in nearest:
        if isinstance(stage, Target) and type(stage).can_open(kind):
            return stage
    for name in sorted(names()):
        other = load(name)
        if issubclass(other, Target) and other.can_open(kind):
            return other()
    return None


def _reference(config: PipelineConfig, source_kind: str) -> int | None:
    kinds = [source_kind, *(type(step.stage).produces for step in config.steps)]
    return next((number for number, kind in enumerate(kinds) if type(config.reference).can_open(kind)), None)


def quality_budgets(config: PipelineConfig) -> bool:
    """Whether anything at all is demanded of quality."""
    return any((kind := kind_of(budget.metric)) and kind.part in QUALITY_PARTS for budget in config.budgets)
