"""What a config comes to, step by step, or every reason why it cannot be: seconds, no toolchain import."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pipelines.beside import missing_inputs
from pipelines.checking import evaluation, files, further_models, metrics, steps
from pipelines.config import LoadedConfig, PipelineConfig, Step
from pipelines.errors import ConfigErrors
from pipelines.mistakes import Found, mistake
from pipelines.opening import opener, reference_of
from pipelines.source_kind import kind_of_source
from stages.base import ROOT
from targets.base import Target


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
    config, kind = loaded.config, kind_of_source(loaded.config.source, loaded.folder)
    reference = reference_of(config, kind)
    plan = Plan(kind, tuple(_planned(config, kind)), reference or 0, _draft(loaded))
    found = [*_wrong(loaded, kind, reference, environments)]
    if not found and reference is None:
        found = [("`reference`", *_unreferenced(config))]
    if not found and config.budgets and not plan.gated:
        found = [("`budgets`", *_unjudged(plan))]
    if found:
        raise ConfigErrors([mistake(str(loaded.path), *each) for each in found])
    return plan


def _planned(config: PipelineConfig, kind: str) -> Iterator[PlannedStep]:
    for number, step in enumerate(config.steps, 1):
        gives = type(step.stage).produces
        opens = opener(config, number, gives)
        reason = (opens and opens.cannot_measure()) or ""
        yield PlannedStep(number, step, kind, gives, None if reason else opens, reason)
        kind = kind if type(step.stage).beside else gives


def _draft(loaded: LoadedConfig) -> Plan | None:
    config = loaded.config.drafting
    if config is None:
        return None
    kind = kind_of_source(config.source, loaded.folder)
    planned = tuple(_planned(config, kind))
    return Plan(kind, planned, reference=len(planned) + 1)  # which none of them gives


def _wrong(loaded: LoadedConfig, kind: str, reference: int | None, environments: Path) -> Found:
    """Every mistake; `kind` is the source's, `reference` the number of the step that gives the reference."""
    config = loaded.config
    yield from files.missing(loaded)
    yield from steps.unchained(config, kind)
    yield from missing_inputs(config, reference)
    yield from further_models.unfit_teacher(loaded)
    yield from further_models.unfit_draft(loaded, environments)
    yield from steps.unavailable(config, environments)
    yield from metrics.unfit_budgets(config)
    yield from metrics.unfit_promotion(config)
    yield from evaluation.unfit(config)


def _unreferenced(config: PipelineConfig) -> tuple[str, str]:
    """Why nothing can be measured against."""
    takes = ", ".join(sorted(type(config.reference).opens or {type(config.reference).produces}))
    hint = f"the reference target opens {takes}; begin with a stage that gives it, or name another `reference`"
    return "no artifact of this config can be its reference", hint


def _unjudged(plan: Plan) -> tuple[str, str]:
    """Why no budget would ever be judged on what is packaged."""
    last = plan.steps[-1]
    if last.number <= plan.reference:
        return "nothing comes after the reference that they could be judged on", "add a stage, or leave them out"
    if last.unmeasured:
        return f"cannot be judged on this device, and nothing before it can be either: {last.unmeasured}", ""
    return f"no target opens {last.gives}, so they cannot be judged on the last artifact", "tapeout ls targets"
