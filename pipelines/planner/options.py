"""Every option that is legal, and every one that is not with the inequality it violates."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import Field

from pipelines.planner.calibrations import Calibrations
from pipelines.planner.case import Case, Option
from pipelines.planner.formats import Format, Prior, all_formats, whole_format
from pipelines.planner.prediction import Prediction, predict
from stages.base import Frozen

SPLITS = (1, 2, 4, 8)
SGLANG_SHARE, PREFIX_SHARE = 0.6, 0.2
MOST_GAP = 0.25  # what a fused engine may close
SPECULATION_BATCH, SPECULATION_ACCEPTANCE, MOST_VERIFY_COST = 16, 0.6, 1.5


class Weighed(Frozen):
    """An option and what became of it."""

    option: Option
    prediction: Prediction | None = None
    violated: tuple[str, ...] = Field((), description="inequalities that do not hold")
    only_prior: bool = Field(False, description="only a prior of quality, never measured here, speaks against it")
    prior: Prior | None = None

    @property
    def accepted(self) -> bool:
        """Whether nothing speaks against it."""
        return not self.violated


def weigh_all(case: Case, calibrations: Calibrations) -> list[Weighed]:
    """Format x TP x replicas, each with its verdict."""
    weighed = [weigh(case, option, calibrations) for option in options(case)]
    relieved = [weigh(case, option, calibrations) for item in weighed for option in _relieved(case, item)]
    if case.limits.frozen and not case.edge and not any(item.accepted for item in [*weighed, *relieved]):
        relieved += [
            weigh(case, item.option.model_copy(update={"engine": "tensorrt-llm"}), calibrations)
            for item in weighed
            if item.prediction and _gap(case, item.prediction) <= MOST_GAP
        ]
    return [*weighed, *relieved]


def _relieved(case: Case, item: Weighed) -> Iterator[Option]:
    """The same option with the lever that attacks what it violates: L6 for sequences short, L7 for TBT missed."""
    found, limits = item.prediction, case.limits
    if found is None or len(item.violated) != 1:
        return
    short = item.violated[0].startswith(("N = ", "KV of one")) or found.label == "capacity"
    if short and not case.edge:
        yield item.option.model_copy(update={"kv_bits": 8})
    drafts = (limits.acceptance or 0.0) >= SPECULATION_ACCEPTANCE and limits.verify_cost <= MOST_VERIFY_COST
    if item.violated[0].startswith("TBT") and drafts and found.batch <= SPECULATION_BATCH:
        yield item.option.model_copy(update={"speculative": True})


def _gap(case: Case, found: Prediction) -> float:
    """How much more is asked for than is there, relative."""
    return case.work.requests / max(found.requests_per_s * case.limits.load, 1e-9) - 1


def options(case: Case) -> Iterator[Option]:
    """Format x TP, on all the devices there are; a batch may also run on fewer."""
    for form in all_formats().values():
        if case.hardware.kind not in form.kinds or (form.whole and form.unsupported(case.hardware)):
            continue
        for split in SPLITS if not case.edge else (1,):
            if split <= case.count:
                yield from _copies(case, form, split)


def _copies(case: Case, form: Format, split: int) -> Iterator[Option]:
    whole = case.count // split
    counts = {1, whole} if case.goals.objective in {"batch", "cost"} else {whole}
    for replicas in sorted(counts):
        yield Option(
            format=form, split=split, replicas=replicas, engine=engine_of(case), prefix_cache=caches_prefix(case)
        )


def caches_prefix(case: Case) -> bool:
    """L5: from a fifth of the prompt on; without a GPU a chat's own past is cached in any case."""
    return case.edge or case.work.shared / case.work.prompt >= PREFIX_SHARE


def engine_of(case: Case) -> str:
    """llama.cpp without a GPU; SGLang when most of a prompt is shared, else vLLM; TensorRT-LLM only by lever L9."""
    if case.edge:
        return "llama.cpp"
    return "sglang" if case.work.shared / case.work.prompt >= SGLANG_SHARE else "vllm"


def weigh(case: Case, option: Option, calibrations: Calibrations) -> Weighed:
    """Drop what is illegal, then what is too large, then what quality forbids, then what misses the goals."""
    illegal = [
        found
        for found in (
            option.format.unsupported(case.hardware),
            case.model.illegal_split(option.split, option.format.group),
        )
        if found
    ]
    if illegal:
        return Weighed(option=option, violated=tuple(illegal))
    found = predict(case, option, calibrations.efficiency(case.hardware, option.engine, option.format))
    expected = calibrations.prior(case.model, option.format)
    if size := _too_large(case, found):
        return Weighed(option=option, prediction=found, violated=(size,), prior=expected)
    missed = (*_no_gain(case, option, found, calibrations), *_missed(case, option, found))
    forbidden = _forbidden(case, expected)
    return Weighed(
        option=option,
        prediction=found,
        violated=((forbidden,) if forbidden else ()) + missed,
        only_prior=bool(forbidden) and not missed,
        prior=expected,
    )


def _no_gain(case: Case, option: Option, found: Prediction, calibrations: Calibrations) -> Iterator[str]:
    """Fewer bytes do not help where arithmetic binds, unless full precision does not fit."""
    form = option.format
    if case.edge or not form.weight_only or found.batch < found.crossover:
        return
    whole = option.model_copy(update={"format": whole_format(case.hardware)})
    roomy = predict(case, whole, calibrations.efficiency(case.hardware, option.engine, whole.format))
    if roomy.concurrency * option.replicas >= case.needed and roomy.concurrency > 0 and not _capacity(case, roomy):
        yield f"compute-bound: B = {found.batch} >= B* = {found.crossover:.0f}, fewer bytes do not help"


def _capacity(case: Case, found: Prediction) -> bool:
    return case.goals.objective == "batch" and found.label == "capacity"


def _too_large(case: Case, found: Prediction) -> str:
    held = found.weight_bytes_per_device
    if found.room_bytes <= 0:
        extra = f" + adapters {found.adapter_bytes / 1e9:.1f}" if found.adapter_bytes else ""
        return (
            f"weights {held / 1e9:.1f} GB{extra} + reserve {case.reserve / 1e9:.1f} > {case.usable / 1e9:.1f} GB"
            f" a device (room {found.room_bytes / 1e9:.1f} GB)"
        )
    if found.concurrency < 1:
        tokens = case.work.prompt + case.work.output
        return f"KV of one sequence of {tokens:,} tokens > room {found.room_bytes / 1e9:.1f} GB"
    return ""


def _forbidden(case: Case, expected: Prior) -> str:
    goals = case.goals
    if expected.perplexity > goals.perplexity:
        return f"perplexity {expected.perplexity:+.1%} > {goals.perplexity:.0%} allowed ({expected.source})"
    if expected.task > goals.task:
        return f"task accuracy -{expected.task:g} > {goals.task:g} points allowed ({expected.source})"
    return ""


def _missed(case: Case, option: Option, found: Prediction) -> Iterator[str]:
    goals, work = case.goals, case.work
    if work.users is not None and found.concurrency * option.replicas < work.users:
        yield f"N = {found.concurrency} x {option.replicas} < {work.users} streams"
    if goals.objective == "batch":
        hours = batch_hours(case, option, found)
        if hours > goals.hours:
            yield f"{hours:.1f} h > {goals.hours:g} h until the deadline"
    else:
        if found.tbt_ms > goals.tbt_ms:
            yield f"TBT {found.tbt_ms:.0f} ms > {goals.tbt_ms:g} ms"
        if found.ttft_p95_ms > goals.ttft_ms:
            yield f"TTFT p95 {found.ttft_p95_ms:.0f} ms > {goals.ttft_ms:g} ms"
        if work.users is None:
            usable = found.requests_per_s * case.limits.load
            if usable < work.requests:
                yield (
                    f"{found.requests_per_s:.3g} req/s x {case.limits.load:.0%} load = {usable:.3g} < "
                    f"{work.requests:g} req/s"
                )
    ceiling, dollars = goals.dollars_per_million, found.dollars_per_million
    if ceiling is not None and dollars is not None and dollars > ceiling:
        yield f"${dollars:.3g} > ${ceiling:g} for 10^6 tokens"


def batch_hours(case: Case, option: Option, found: Prediction) -> float:
    """Hours for every document on all replicas."""
    documents = case.work.documents or case.work.requests * 3600 * case.goals.hours
    return documents * case.work.output / (found.tokens_per_s * option.replicas) / 3600


def batch_dollars(case: Case, option: Option, found: Prediction) -> float | None:
    """Dollars for every document; None without a price."""
    price = case.hardware.price_per_hour
    return None if price is None else batch_hours(case, option, found) * price * option.devices
