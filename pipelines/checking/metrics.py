"""What a config measures, by name; and whether its budgets and its promotion go by that."""

from __future__ import annotations

from pipelines.config import PipelineConfig
from pipelines.measures import DRAFTING, KINDS, Kind, kind_of, of_quality, parts_of
from pipelines.mistakes import Found, did_you_mean

AT_EACH_BATCH = ("latency_p50_ms", "latency_p95_ms", "latency_p99_ms", "throughput_per_s", "speed_ratio")
AT_EACH_LENGTH = ("ttft_p50_ms", "ttft_p95_ms", "prefill_tokens_per_s")
LISTING = "tapeout ls metrics"


def measured_metrics(config: PipelineConfig) -> set[str]:
    """The names of all that the config's evaluation measures of a candidate."""
    settings = config.evaluation
    names = {name for name, kind in KINDS.items() if not kind.part or _asked(config, kind)}
    further = settings.speed.prompt_tokens[1:] if settings.speed else ()
    each = {f"{name}_{length}" for name in AT_EACH_LENGTH for length in further}
    batches = settings.latency.batch_sizes[1:] if settings.latency else ()
    each |= {f"{name}_{batch}" for name in AT_EACH_BATCH for batch in batches}
    if settings.classification:
        each |= {"accuracy_top1", "accuracy_top5"}
    names -= {"accuracy"} if config.draft else {"accuracy", *DRAFTING}
    return names | each | {f"accuracy_{task}" for task in settings.tasks}


def _asked(config: PipelineConfig, kind: Kind) -> bool:
    """Whether the evaluation has a part that yields metrics of the kind."""
    return any(getattr(config.evaluation, part) for part in parts_of(kind))


def unfit_budgets(config: PipelineConfig) -> Found:
    """Each budget on what is not measured, or that compares what is a comparison already."""
    measured = measured_metrics(config)
    for number, budget in enumerate(config.budgets, 1):
        place, kind = f"`budgets` item {number}", kind_of(budget.metric)
        if kind is None:
            yield place, f"no metric `{budget.metric}`", did_you_mean(budget.metric, KINDS)
            continue
        if budget.max_regression is not None and not kind.compared:
            yield place, f"`max_regression`: {budget.metric} already compares with the reference", "use `min` or `max`"
        if kind.part and not _asked(config, kind):
            suits = [part for part in parts_of(kind) if part not in config.unsuited]
            named = " and ".join(f"`{part}`" for part in suits or parts_of(kind))
            yield place, f"{budget.metric} is not measured: `evaluation` leaves out {named}", ""
        elif budget.metric not in measured:
            yield place, f"{budget.metric} is not measured", did_you_mean(budget.metric, measured, LISTING)


def unfit_promotion(config: PipelineConfig) -> Found:
    """Each metric of the promotion that is not measured, or by which two versions cannot be compared."""
    measured, promotion = measured_metrics(config), config.promotion
    for metric in (promotion.metric, *promotion.never_worse) if promotion else ():
        kind = kind_of(metric)
        if kind is None or metric not in measured:
            yield "`promotion`", f"{metric} is not measured", did_you_mean(metric, measured, LISTING)
        elif not kind.compared:
            yield "`promotion`", f"{metric} already compares with the reference, so two versions cannot be by it", ""


def quality_budgets(config: PipelineConfig) -> bool:
    """Whether anything at all is demanded of quality."""
    return any((kind := kind_of(budget.metric)) and of_quality(kind) for budget in config.budgets)
