"""What of a run becomes which MLflow parameter, metric and tag; pure, without MLflow."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pydantic import JsonValue

from pipelines.measures import DeviceFacts, Report
from pipelines.quantities import duration, size
from pipelines.records import DataRecord, RunRecord, StageRecord
from pipelines.reporting.methods import method_of

if TYPE_CHECKING:
    from pipelines.tracking import RunStart

LONGEST_PARAM, LONGEST_TAG, LONGEST_NAME = 6000, 8000, 250
DATASET_DIGEST = 36
LOG_BYTES = 2_000_000

COMPARISONS = "comparisons"

RUN_STATUS = {"passed": "FINISHED", "halted": "FAILED", "failed": "FAILED", "interrupted": "KILLED"}
STAGE_STATUS = {"completed": "FINISHED", "halted": "FAILED", "failed": "FAILED"}


def run_params(run: RunStart) -> dict[str, str]:
    """Seed, evaluation and budgets, flattened: `perplexity.windows`, `budget.perplexity.max_regression`."""
    budgets = {budget.metric: budget.model_dump(exclude={"metric"}, exclude_none=True) for budget in run.budgets}
    return {"seed": str(run.seed)} | flat("evaluation", run.evaluation) | flat("budget", budgets)


def stage_params(record: StageRecord) -> dict[str, str]:
    """The stage's fields under their config names, and what it made."""
    facts = {"stage": record.stage, "role": record.role, "kind": record.kind, "env": record.env, "facts": record.facts}
    return (
        _planned(record)
        | flat("", record.fields)
        | flat("", {name: fact for name, fact in facts.items() if fact is not None})
    )


def _planned(record: StageRecord) -> dict[str, str]:
    """Which figures the planner's predictions came from."""
    seen = record.sighting
    if seen is None:
        return {}
    told: dict[str, JsonValue] = {
        "hash": seen.plan,
        "catalogue": seen.catalogue,
        "hardware": seen.hardware.key,
        "engine": seen.engine,
        "engine_version": seen.engine_version,
        "format": seen.format.name,
        "prompt_tokens": list(seen.prompts),
        "output_tokens": seen.tokens,
        "users": 1,
        "calibrated": seen.calibrated,
    }
    return flat("plan", told)


def flat(prefix: str, value: JsonValue | Mapping[str, JsonValue]) -> dict[str, str]:
    """Nested mappings as dotted names, leaves as text; lists as JSON."""
    if isinstance(value, Mapping):
        parts = [flat(f"{prefix}.{key}" if prefix else key, item) for key, item in value.items()]
        return {name: text for part in parts for name, text in part.items()}
    return {prefix: value if isinstance(value, str) else json.dumps(value)}


def metrics(report: Report) -> Iterator[tuple[str, float]]:
    """Each metric's value, the bounds of its interval, and its change against the reference."""
    for name, metric in report.metrics.items():
        yield name, metric.value
        if metric.low != metric.high:
            yield f"{name}_low", metric.low
            yield f"{name}_high", metric.high
        if metric.change:
            yield f"{name}_change", metric.change.value
        if metric.relative:
            yield f"{name}_change_relative", metric.relative.value


def stage_metrics(record: StageRecord) -> dict[str, float]:
    """What was measured of a stage, and what it cost."""
    measured = dict(metrics(record.report)) if record.report else {}
    costs = {"seconds": record.seconds, "evaluation_seconds": record.evaluation_seconds}
    if record.bits_a_weight is not None:
        costs["bits_a_weight"] = record.bits_a_weight
    return {"size_bytes": float(record.size_bytes)} | costs | measured | _checked_predictions(record)


def _checked_predictions(record: StageRecord) -> dict[str, float]:
    """What the planner expected, what came, and how far off it was: pred_, meas_ and err_ of each figure."""
    found: dict[str, float] = {}
    for item in record.sighting.values if record.sighting else ():
        found |= {f"pred_{item.name}": item.predicted, f"meas_{item.name}": item.measured}
        found[f"err_{item.name}"] = item.error
    return found


def series(run: RunRecord) -> Iterator[tuple[str, float, int]]:
    """(name, value, stage index) of every measured stage, so that the last one, the deployable, is what a table shows.

    A metric that the last measured stage lacks is left out: an earlier stage's number would stand in its place.
    """
    measured = [record for record in run.stages if record.report]
    shown = stage_metrics(measured[-1]).keys() - {"seconds", "evaluation_seconds"} if measured else set()
    for record in measured:
        for name, value in stage_metrics(record).items():
            if name in shown:
                yield name, value, record.index
    yield "seconds", run.seconds, len(run.stages)


def start_tags(run: RunStart) -> dict[str, str]:
    """Where the run came from and where it ran."""
    git = {"git_commit": run.git_commit, "mlflow.source.git.commit": run.git_commit} if run.git_commit else {}
    return {key: text for key, text in git.items() if text} | {
        "config": run.config_path,
        "config_digest": run.config_digest,
        "mlflow.source.name": run.config_path,
        "mlflow.source.type": "JOB",
        **device_tags(run.device),
    }


def started_ms(run: RunStart) -> int | None:
    """Since 1970: the run began before its MLflow process had anything to say."""
    return int(datetime.fromisoformat(run.started).timestamp() * 1000) if run.started else None


def device_tags(device: DeviceFacts) -> dict[str, str]:
    """The machine that the numbers were taken on."""
    return {
        "device": device.cpu if not device.gpus else f"{device.gpus[0]} ({device.cpu})",
        "device_identity": device.identity,
        "system": device.system,
    }


def stage_tags(record: StageRecord) -> dict[str, str]:
    """What came out of a stage, out of what, made by which versions of the tools."""
    judged = {f"verdict.{verdict.metric}": verdict.message for verdict in record.verdicts}
    versions = {f"tool.{name}": version for name, version in record.tool_versions.items()}
    named = {
        "artifact_digest": record.artifact or "",
        "parents": " ".join(record.parents),
        "message": record.message,
        "notes": "; ".join(record.notes),
    }
    told = {name: text for name, text in named.items() if text}
    return (
        told
        | judged
        | versions
        | {"stage": record.stage, "cached": str(record.cached).lower(), "verdict": word(record)}
    )


def finish_tags(run: RunRecord) -> dict[str, str]:
    """Whether it passed; if not, which stage it halted at; and what it leaves."""
    last = next((record for record in reversed(run.stages) if record.artifact), None)
    halted = next((record.stage for record in run.stages if record.status != "completed"), None)
    named = {
        "verdict": run.status,
        "halted_stage": halted,
        "message": run.message,
        "artifact_digest": last.artifact if last else None,
        "parents": " ".join(last.parents) if last else None,
        "last_passed": run.last_passed,
        "bundle": str(run.bundle) if run.bundle else None,
        "prefect_run": run.prefect_run,
        "data": _told(run.data) if run.data else None,
    }
    # the tools' versions are on the stages' runs: fifty of them here push all else off the page
    return {name: text for name, text in named.items() if text}


def _told(data: DataRecord) -> str:
    return f"{data.name} ({f'{data.tokens} tokens' if data.tokens else f'{data.documents} examples'})"


class ComparisonChild(NamedTuple):
    """What of a run stands beside others."""

    tags: dict[str, str]
    metrics: dict[str, float]


def comparison_child(run: RunRecord) -> ComparisonChild:
    """The numbers of the run's last measured stage, and where the whole run is."""
    named = {
        "run": run.mlflow_run,
        "config": run.config_path,
        "method": method_of(run),
        "verdict": run.status,
        "message": run.message,
    }
    tags = {name: text for name, text in named.items() if text} | device_tags(run.device)
    measured = [stage for stage in run.stages if stage.report and stage.role != "reference"]
    made = {"seconds_to_produce": sum(stage.seconds for stage in run.stages)}
    return ComparisonChild(tags, (stage_metrics(measured[-1]) if measured else {}) | made)


def word(record: StageRecord) -> str:
    """The stage's verdict in one word."""
    if record.status != "completed":
        return record.status
    if record.unmeasured:
        return "not measured on this device"
    if not record.verdicts:
        return "not judged"
    return "flagged" if any(verdict.flagged for verdict in record.verdicts) else "passed"


def dataset(data: DataRecord) -> dict[str, str]:
    """The fields of an MLflow dataset."""
    return {
        "name": data.name,
        "digest": data.digest[:DATASET_DIGEST],
        "source_type": "local",
        "source": json.dumps({"name": data.name, "sha256": data.digest}),
        "profile": json.dumps({"documents": data.documents, "tokens": data.tokens}),
    }


def clipped(longest: int, texts: Mapping[str, str]) -> dict[str, str]:
    """Texts by name, within the widths of MLflow's columns."""
    return {name[:LONGEST_NAME]: text[:longest] for name, text in texts.items()}


def tail(log: Path) -> str:
    """The last two million bytes of a worker's log."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - LOG_BYTES))
        return file.read().decode(errors="replace")


def description(run: RunRecord) -> str:
    """The run's note in MLflow's interface, in Markdown: what came out, did it pass, what each stage cost."""
    rows = [
        f"| {record.stage} | {duration(record.seconds)}{' (cached)' if record.cached else ''} "
        f"| {duration(record.evaluation_seconds)} | {size(record.size_bytes)} | {word(record)} |"
        for record in run.stages
    ]
    heading = "| stage | made in | measured in | size | verdict |\n|---|---|---|---|---|"
    serve = f"Serve it: `{run.serve}`" if run.serve else ""
    return "\n\n".join(filter(None, [f"**{run.status}** {run.message}".strip(), serve, "\n".join([heading, *rows])]))
