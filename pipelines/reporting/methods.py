"""What a config does to a model, in a few words: its steps with the fields that its author wrote down."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import yaml

from pipelines.records import RunRecord

_LIMITS = frozenset({"timeout_s", "memory_limit_gb"})


def method_of(record: RunRecord) -> str:
    """Such as `quantize_gptq: bits 4, group_size 64, symmetric`: steps after the reference that say how.

    A conversion that says nothing is left out unless nothing else was done.
    """
    reference = next((stage.index for stage in record.stages if stage.role == "reference"), 0)
    steps = list(_steps(record.config_text))[reference:]
    told = [f"{name}: {fields}" if fields else name for name, fields in steps]
    last = {len(steps) - 1}
    return " + ".join(text for number, text in enumerate(told) if steps[number][1] or number in last)


def _steps(config_text: str) -> Iterator[tuple[str, str]]:
    given = yaml.safe_load(config_text) or {}
    for step in given.get("steps", ()):
        fields = {step: None} if isinstance(step, str) else step
        name = next((key for key in fields if key not in _LIMITS), "")
        yield name, ", ".join(_told(*field) for field in (fields[name] or {}).items())


def _told(field: str, value: Any) -> str:
    if isinstance(value, bool):
        return field if value else f"no {field}"
    return f"{field} {value if isinstance(value, str | int | float) else json.dumps(value)}"
