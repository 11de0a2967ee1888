"""From a question to a plan."""

from __future__ import annotations

from dataclasses import replace

from pipelines.planner import choosing, encoders, rejections, serve_block
from pipelines.planner.answer import Plan, Variation, Verdict
from pipelines.planner.assumptions import assumptions
from pipelines.planner.bands import bands
from pipelines.planner.calibrations import Calibrations
from pipelines.planner.case import Case
from pipelines.planner.doubts import doubts
from pipelines.planner.hardware import Hardware, catalogue_version
from pipelines.planner.options import batch_dollars, batch_hours, weigh_all
from pipelines.planner.pipeline_block import stages_and_gates
from pipelines.planner.prediction import Prediction
from pipelines.planner.pulling import pull
from pipelines.planner.shapes import Decoder, Encoder, checked
from pipelines.planner.verdicts import choose, stop
from pipelines.planner.workload import Goals, Limits, Workload
from stages.base import Frozen

SCALES = (("prompt x 1/2", (0.5, 1, 1)), ("prompt x 2", (2, 1, 1)), ("output x 1/2", (1, 0.5, 1)),
          ("output x 2", (1, 2, 1)), ("load x 1/2", (1, 1, 0.5)), ("load x 2", (1, 1, 2)))  # fmt: skip
UNCALIBRATED = Calibrations()


class Question(Frozen):
    """Everything that a plan is made from."""

    model: Decoder | Encoder
    hardware: Hardware
    count: int = 1
    work: Workload = Workload()
    goals: Goals = Goals()
    limits: Limits = Limits()

    def case(self, model: Decoder) -> Case:
        """The same, of a language model."""
        return Case(model, self.hardware, self.count, self.work, self.goals, self.limits)


def answer(question: Question, calibrations: Calibrations = UNCALIBRATED) -> Plan:
    """The plan.

    Raises:
        UserError: the model's shapes contradict its checkpoint.
    """
    model = checked(question.model)
    if isinstance(model, Encoder):
        return encoders.answer(model, question.hardware, question.count, question.goals, question.limits)
    return _plan(question.case(model), calibrations)


def _plan(case: Case, calibrations: Calibrations) -> Plan:
    weighed = weigh_all(case, calibrations)
    choice = choose(case, weighed, calibrations)
    chosen = choice.chosen
    found = chosen.prediction if chosen else None
    rival = choosing.challenger(case, weighed, chosen)
    fits = found is not None and found.concurrency > 0
    batch = case.goals.objective == "batch"
    return Plan(
        verdict=choice.verdict,
        model=case.model.name,
        parameters=case.model.parameters,
        hardware=case.hardware.name,
        hardware_kind=case.hardware.kind,
        devices=case.count,
        workload=case.work,
        goals=case.goals,
        limits=case.limits,
        binding=found.label if found else None,
        chosen=chosen,
        levers=pull(case, chosen.option, calibrations) if chosen and fits else (),
        stop=stop(case, choice),
        predictions=bands(chosen, calibrations),
        rejected=rejections.rejected(case, weighed, chosen),
        challenger=rejections.challenger(case, rival),
        nearest=choosing.nearest(case, chosen, calibrations) if choice.verdict == "INFEASIBLE" else None,
        warm_tokens=choice.warm_tokens,
        context_limit=_context_limit(case, found),
        hours=batch_hours(case, chosen.option, found) if chosen and found and batch else None,
        dollars=batch_dollars(case, chosen.option, found) if chosen and found and batch else None,
        variations=tuple(_variations(case, calibrations)),
        assumptions=assumptions(case, chosen, calibrations),
        warnings=tuple(doubts(case)),
        pipeline=stages_and_gates(case, chosen.option) if chosen else {},
        serve=serve_block.settings(case, chosen.option, found) if chosen and found and fits else {},
        catalogue=catalogue_version(),
    )


def verdict_of(question: Question, calibrations: Calibrations) -> tuple[Verdict, str]:
    """The verdict and the chosen option alone."""
    if isinstance(question.model, Encoder):
        found = encoders.answer(question.model, question.hardware, question.count, question.goals, question.limits)
        return found.verdict, encoders.target_of(question.hardware)
    return _verdict(question.case(question.model), calibrations)


def _verdict(case: Case, calibrations: Calibrations) -> tuple[Verdict, str]:
    choice = choose(case, weigh_all(case, calibrations), calibrations)
    return choice.verdict, str(choice.chosen.option) if choice.chosen else "none"


def _variations(case: Case, calibrations: Calibrations) -> list[Variation]:
    said = []
    for what, scales in SCALES:
        verdict, name = _verdict(replace(case, work=case.work.scaled(*scales)), calibrations)
        said.append(Variation(what=what, verdict=verdict, chosen=name))
    return said


def _context_limit(case: Case, found: Prediction | None) -> int | None:
    if found is None or found.room_bytes <= 0 or not case.edge:
        return None
    return int(found.room_bytes / case.model.kv_bytes())
