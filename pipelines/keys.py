"""Cache keys: everything that a result depends on, and nothing else."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

from pydantic import JsonValue

from pipelines.measures import DeviceFacts
from stages.base import Artifact, Stage, name_of, source_digest

HERE = Path(__file__).parent
JUDGES = (
    *("budget", "comparing", "comparing_arrays", "comparing_embeddings", "comparing_images", "comparing_texts"),
    *("comparison", "device", "draft_timing", "measures", "measuring", "measuring_arrays", "measuring_embeddings"),
    *("measuring_images", "measuring_texts", "quantities", "timing", "array_timing"),
)
"""Modules outside `evaluation/` that a cached comparison, verdicts included, comes from."""


def fingerprint(stage: Stage, lock_digest: str) -> dict[str, JsonValue]:
    """What a stage is: name, version, fields, source and the versions of its tools."""
    return {
        "stage": name_of(stage),
        "version": type(stage).version,
        "fields": stage.model_dump(mode="json"),
        "source": source_digest(type(stage)),
        "environment": lock_digest,
    }


def step_parts(
    stage: Stage, lock_digest: str, inputs: dict[str, Artifact], seed: int, device: DeviceFacts
) -> dict[str, JsonValue]:
    """Everything that the artifact of a stage depends on."""
    parts: dict[str, JsonValue] = {
        **fingerprint(stage, lock_digest),
        "inputs": {name: artifact.digest for name, artifact in inputs.items()},
        "seed": seed,
    }
    return {**parts, "device": device.identity} if stage.bound else parts


@cache
def evaluation_digest() -> str:
    """sha256 over the source of everything that measures and judges."""
    digest = hashlib.sha256()
    for file in [*sorted((HERE / "evaluation").glob("*.py")), *(HERE / f"{name}.py" for name in JUDGES)]:
        digest.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()
