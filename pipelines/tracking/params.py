"""What of a run and its stages becomes which MLflow parameter."""

from __future__ import annotations

import json
from collections.abc import Mapping

from pydantic import JsonValue

from pipelines.records import StageRecord
from pipelines.tracking.lines import RunStart


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
