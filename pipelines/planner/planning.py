"""From a question to a plan."""

from __future__ import annotations

from dataclasses import replace

from pydantic import JsonValue

from pipelines.planner import choosing, encoders, serve_block
from pipelines.planner.answer import Band, Challenger, Plan, Variation, Verdict
from pipelines.planner.calibrations import Calibrations
from pipelines.planner.case import Case
from pipelines.planner.choosing import PLANNER_ERROR
from pipelines.planner.doubts import doubts
from pipelines.planner.hardware import Hardware, catalogue_version
from pipelines.planner.levers import Left, engine_reason, left_alone, pull
from pipelines.planner.options import Weighed, batch_dollars, batch_hours, weigh_all
from pipelines.planner.prediction import Prediction
from pipelines.planner.shapes import Decoder, Encoder, checked
from pipelines.planner.values import Frozen
from pipelines.planner.workload import Goals, Limits, Workload

SCALES = (("prompt x 1/2", (0.5, 1, 1)), ("prompt x 2", (2, 1, 1)), ("output x 1/2", (1, 0.5, 1)),
          ("output x 2", (1, 2, 1)), ("load x 1/2", (1, 1, 0.5)), ("load x 2", (1, 1, 2)))  # fmt: skip
ERROR_P90 = {"memory": 0.10, "throughput": 0.30, "tbt": 0.30, "ttft": 0.50, "size": 0.02, "cost": 0.30}
"""What 90% of predictions keep within, before calibration (PLANNER.md's goals)."""
RATINGS = {"ttft": (200, 500, 1000), "tbt": (30, 50, 100)}
"""Milliseconds up to which a time is good, ok, poor."""
UNCALIBRATED = Calibrations()


class Question(Frozen):
    """Everything that a plan is made from."""

    model: Decoder | Encoder
    hardware: Hardware
    count: int = 1
    work: Workload = Workload()
    goals: Goals = Goals()
    limits: Limits = Limits()


class _Choice(Frozen):
    verdict: Verdict
    chosen: Weighed | None
    warm_tokens: int | None = None


def answer(question: Question, calibrations: Calibrations = UNCALIBRATED) -> Plan:
    """The plan.

    Raises:
        UserError: the model's shapes contradict its checkpoint.
    """
    model = checked(question.model)
    if isinstance(model, Encoder):
        return encoders.answer(model, question.hardware, question.count, question.goals, question.limits)
    case = Case(model, question.hardware, question.count, question.work, question.goals, question.limits)
    weighed = weigh_all(case, calibrations)
    choice = _choose(case, weighed, calibrations)
    chosen = choice.chosen
    found = chosen.prediction if chosen else None
    rival = choosing.challenger(case, weighed, chosen)
    near = choosing.nearest(case, chosen, calibrations) if choice.verdict == "INFEASIBLE" else None
    fits = found is not None and found.concurrency > 0
    return Plan(
        verdict=choice.verdict,
        model=model.name,
        parameters=model.parameters,
        hardware=case.hardware.name,
        hardware_kind=case.hardware.kind,
        devices=case.count,
        workload=case.work,
        goals=case.goals,
        limits=case.limits,
        binding=found.label if found else None,
        chosen=chosen,
        levers=pull(case, chosen.option, calibrations) if chosen and fits else (),
        stop=_stop(case, choice),
        predictions=_bands(chosen, calibrations),
        rejected=_rejected(case, weighed, chosen),
        challenger=_challenger(case, rival),
        nearest=near,
        warm_tokens=choice.warm_tokens,
        context_limit=_context_limit(case, found),
        hours=batch_hours(case, chosen.option, found) if chosen and found and _batch(case) else None,
        dollars=batch_dollars(case, chosen.option, found) if chosen and found and _batch(case) else None,
        variations=tuple(_variations(case, calibrations)),
        assumptions=(*_assumptions(case, chosen), *_untrusted(calibrations)),
        warnings=tuple(doubts(case)),
        pipeline=_pipeline(case, chosen),
        serve=serve_block.settings(case, chosen.option, found) if chosen and found and fits else {},
        catalogue=catalogue_version(),
    )


def _batch(case: Case) -> bool:
    return case.goals.objective == "batch"


def _choose(case: Case, weighed: list[Weighed], calibrations: Calibrations) -> _Choice:
    chosen = choosing.best(case, [item for item in weighed if item.accepted])
    if chosen is not None and chosen.prediction is not None:
        cold = not _batch(case) and chosen.prediction.cold_ttft_ms > case.goals.ttft_ms
        return _Choice(verdict="WARM_ONLY" if cold else "FEASIBLE", chosen=chosen)
    late = [item for item in weighed if item.violated and all(text.startswith("TTFT") for text in item.violated)]
    warm = choosing.best(case, late) if case.work.alone else None
    if warm is not None:
        tokens = choosing.warm_tokens(case, warm.option, calibrations)
        if tokens:
            return _Choice(verdict="WARM_ONLY", chosen=warm, warm_tokens=tokens)
    return _Choice(verdict="INFEASIBLE", chosen=choosing.closest(case, weighed))


def _stop(case: Case, choice: _Choice) -> str:
    chosen = choice.chosen
    if choice.verdict == "INFEASIBLE" or chosen is None or chosen.prediction is None:
        violated = "; ".join(chosen.violated) if chosen else "no format runs on this machine"
        return f"S4: nothing left attacks it: {violated}"
    found = chosen.prediction
    if choice.verdict == "WARM_ONLY":
        budget = f"; up to {choice.warm_tokens} new tokens meet it" if choice.warm_tokens else ""
        return (
            f"TTFT {found.cold_ttft_ms:.0f} ms cold > {case.goals.ttft_ms:g} ms, met only behind a cached "
            f"prefix{budget}; else a smaller model"
        )
    if _batch(case):
        hours = batch_hours(case, chosen.option, found)
        return f"deadline met: {hours:.1f} <= {case.goals.hours:g} h; more devices halve the time for equal dollars"
    if case.goals.objective == "cost" and case.hardware.price_per_hour:
        return f"S2: nothing else that is accepted is cheaper by more than the planner's error of {PLANNER_ERROR:.0%}"
    if chosen.option.format.whole and case.work.adapters > 1:
        return "no pressure; adapters validated on BF16"
    if chosen.option.format.whole and not case.edge:
        return "S1: goals met in full precision: nothing is quantized without need"
    spent = max(_spent(chosen.prior.perplexity, case.goals.perplexity) if chosen.prior else 0.0, 0.0)
    if spent >= 0.8:
        return f"S3: {spent:.0%} of the quality budget spent"
    return f"S1: goals met at {case.limits.load:.0%} load"


def _spent(loss: float, allowed: float) -> float:
    return loss / allowed if allowed else (1.0 if loss else 0.0)


def _bands(chosen: Weighed | None, calibrations: Calibrations) -> tuple[Band, ...]:
    if chosen is None or chosen.prediction is None:
        return ()
    found = chosen.prediction
    listed = [
        ("size", "size", found.weight_bytes, "bytes"),
        ("memory a device", "memory", found.peak_memory_bytes, "bytes"),
        ("TTFT p95", "ttft", found.ttft_p95_ms, "ms"),
        ("TBT", "tbt", found.tbt_ms, "ms"),
        ("throughput a replica", "throughput", found.tokens_per_s, "tokens/s"),
        ("requests, all replicas", "throughput", found.requests_per_s, "/s"),
    ]
    if found.dollars_per_million is not None:
        listed.append(("10^6 output tokens", "cost", found.dollars_per_million, "$"))
    margins = {**ERROR_P90, **calibrations.margins}
    return tuple(
        Band(
            name=name,
            value=value,
            low=value * (1 - margins[kind]),
            high=value * (1 + margins[kind]),
            unit=unit,
            rating=rating(kind, value),
        )
        for name, kind, value, unit in listed
    )


def rating(kind: str, milliseconds: float) -> str:
    """good, ok or poor, or beyond that; nothing for what is no time that a user waits."""
    if kind not in RATINGS:
        return ""
    return next((word for word, most in zip(("good", "ok", "poor"), RATINGS[kind], strict=True)
                 if milliseconds <= most), "beyond poor")  # fmt: skip


def _rejected(case: Case, weighed: list[Weighed], chosen: Weighed | None) -> tuple[Left, ...]:
    """Every option with what it violates; one that violates nothing ranks behind the chosen one."""
    said = []
    for item in weighed:
        if chosen is not None and item.option == chosen.option:
            continue
        why = "; ".join(item.violated) or _outranked(case, item.prediction, chosen)
        said.append(Left(what=str(item.option), why=why))
    if chosen is not None and chosen.prediction is not None and chosen.prediction.concurrency > 0:
        said += left_alone(case, chosen.option, chosen.prediction)
    return tuple(said)


def _outranked(case: Case, found: Prediction | None, chosen: Weighed | None) -> str:
    if found is None or chosen is None or chosen.prediction is None:
        return "outranked"
    best = chosen.prediction
    if case.goals.objective in {"batch", "cost"}:
        price, least = found.dollars_per_million, best.dollars_per_million
        if price is not None and least is not None:
            return f"${price:.3g} a million tokens against ${least:.3g}: no gain beyond the planner's error, or dearer"
    if case.edge:
        return f"{found.tokens_per_s:.1f} <= {best.tokens_per_s:.1f} tok/s"
    if chosen.option.format.whole and found.requests_per_s > best.requests_per_s:
        return "goals met without it: keep BF16"
    return f"{found.requests_per_s:.3g} <= {best.requests_per_s:.3g} req/s"


def _challenger(case: Case, rival: Weighed | None) -> Challenger | None:
    if rival is None or rival.prediction is None:
        return None
    gain = f"{rival.prediction.tokens_per_s:.3g} tok/s a replica"
    if _batch(case):
        hours = batch_hours(case, rival.option, rival.prediction)
        dollars = batch_dollars(case, rival.option, rival.prediction)
        gain = f"{hours:.1f} h" + (f", ${dollars:.2f}" if dollars is not None else "")
    gate = f"measure quality first: by prior, {'; '.join(rival.violated)}"
    return Challenger(option=str(rival.option), gate=gate, gain=gain)


def _context_limit(case: Case, found: Prediction | None) -> int | None:
    if found is None or found.room_bytes <= 0 or not case.edge:
        return None
    return int(found.room_bytes / case.model.kv_bytes())


def _variations(case: Case, calibrations: Calibrations) -> list[Variation]:
    said = []
    for what, scales in SCALES:
        varied = replace(case, work=case.work.scaled(*scales))
        choice = _choose(varied, weigh_all(varied, calibrations), calibrations)
        name = str(choice.chosen.option) if choice.chosen else "none"
        said.append(Variation(what=what, verdict=choice.verdict, chosen=name))
    return said


def _assumptions(case: Case, chosen: Weighed | None) -> list[str]:
    work, hardware = case.work, case.hardware
    said = [
        f"prompt {work.prompt}, output {work.output}, shared prefix {work.shared} tokens; {work.streams}",
        f"goals: TTFT p95 {case.goals.ttft_ms:g} ms, TBT {case.goals.tbt_ms:g} ms; objective {case.goals.objective}; "
        f"perplexity +{case.goals.perplexity:.0%}, task -{case.goals.task:g} points",
        f"memory {case.usable / 1e9:.1f} GB usable a device, {case.reserve / 1e9:.1f} GB reserved; load <= "
        f"{case.limits.load:.0%}",
        engine_reason(case),
    ]
    if hardware.price_per_hour is not None:
        source = hardware.sources.get("price_per_hour", "given by hand")
        said.append(f"${hardware.price_per_hour:g} an hour and device ({source})")
    else:
        said.append("no price is known, so nothing is ranked by cost: --price")
    if chosen and chosen.option.kv_bits < 16:
        said.append("an 8-bit KV cache costs quality that no prior tells: the gate decides")
    if chosen and chosen.prior and not chosen.option.format.whole:
        said.append(f"quality by prior, {chosen.prior.source}: the gate decides")
    return said


def _untrusted(calibrations: Calibrations) -> list[str]:
    said = ", ".join(f"{kind} off by {share:.0%} (p90)" for kind, share in calibrations.margins.items())
    return [f"UNTRUSTED by measured runs, bands widened: {said}"] if said else []


def _pipeline(case: Case, chosen: Weighed | None) -> dict[str, JsonValue]:
    """Stages and gates: what changes quality is always evaluated, and every plan ends in a benchmark."""
    if chosen is None:
        return {}
    form = chosen.option.format
    stages: list[JsonValue] = []
    if form.whole and chosen.option.kv_bits < 16:
        stages.append("evaluate")
    if not form.whole:
        fields: dict[str, JsonValue] = {
            "method": form.method or "gguf",
            "bits": form.bits if not form.gguf else form.gguf,
        }
        stages += [{"quantize": fields | ({"group": form.group} if form.group else {})}, "evaluate"]
    gates: dict[str, JsonValue] = {"ppl_rel_max": case.goals.perplexity, "task_drop_max": case.goals.task}
    return {"stages": [*stages, "benchmark", "serve_config"], "gates": gates}


def verdict_of(question: Question, calibrations: Calibrations) -> tuple[Verdict, str]:
    """The verdict and the chosen option alone."""
    if isinstance(question.model, Encoder):
        found = encoders.answer(question.model, question.hardware, question.count, question.goals, question.limits)
        return found.verdict, encoders.target_of(question.hardware)
    case = Case(question.model, question.hardware, question.count, question.work, question.goals, question.limits)
    choice = _choose(case, weigh_all(case, calibrations), calibrations)
    return choice.verdict, str(choice.chosen.option) if choice.chosen else "none"
