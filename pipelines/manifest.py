"""What a bundle says of itself, and whether its files are still what it says."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Literal

from pydantic import Field, JsonValue, ValidationError

from pipelines.budget import Budget, Verdict
from pipelines.errors import UserError
from pipelines.measures import DeviceFacts, Metric
from pipelines.records import DataRecord, RunRecord
from stages.base import Artifact, Frozen

MANIFEST = "manifest.json"


class BundledFile(Frozen):
    """One file of the bundle."""

    size_bytes: int
    sha256: str


class BundledStage(Frozen):
    """One stage on the way to the model."""

    stage: str
    fields: dict[str, JsonValue] = Field(description="as the config gives them, defaults filled in")
    artifact: str | None = Field(description="digest of what it made")
    kind: str | None
    env: str | None = Field(description="the tool environment it ran in")
    tool_versions: dict[str, str]
    verdicts: tuple[Verdict, ...]
    unmeasured: str = Field("", description="why the machine that made it could not measure it")


class Manifest(Frozen):
    """The schema of `manifest.json`."""

    schema_version: Literal[1] = 1
    name: str
    version: str
    kind: str = Field(description="of the model: gguf, onnx, ...")
    artifact: str = Field(description="digest of the model's files in Tapeout's store")
    parents: tuple[str, ...] = Field(description="digests of what it was made from")
    files: dict[str, BundledFile] = Field(description="every file but this one, by its path in the bundle")
    source: dict[str, JsonValue] = Field(description="where the model came from, as the config says it")
    licence: str | None = Field(description="SPDX name, where the config says it")
    stages: tuple[BundledStage, ...]
    budgets: tuple[Budget, ...]
    verdicts: tuple[Verdict, ...] = Field(description="of the packaged artifact")
    metrics: dict[str, Metric] = Field(description="measured of the packaged artifact")
    reference_metrics: dict[str, Metric] = Field(description="measured of the reference in the same run")
    device: DeviceFacts = Field(description="what the metrics were taken on")
    data: DataRecord | None
    config_digest: str
    tapeout_commit: str | None
    created: str = Field(description="UTC, ISO 8601, of the run")

    @property
    def tool_versions(self) -> dict[str, str]:
        """The tools of every stage."""
        return {name: version for stage in self.stages for name, version in stage.tool_versions.items()}


def describe(record: RunRecord, artifact: Artifact, version: str, files: dict[str, BundledFile]) -> Manifest:
    """The manifest of a bundle of `artifact`, the result of the run."""
    last = next(stage for stage in reversed(record.stages) if stage.artifact == artifact.digest)
    reference = next((stage.report for stage in record.stages if stage.role == "reference" and stage.report), None)
    source = next((stage.fields for stage in record.stages if stage.role == "source"), {})
    licence = source.get("licence")
    return Manifest(
        name=record.name,
        version=version,
        kind=artifact.kind,
        artifact=artifact.digest,
        parents=artifact.parents,
        files=files,
        source={name: value for name, value in source.items() if name != "licence"},
        licence=licence if isinstance(licence, str) else None,
        stages=tuple(
            BundledStage.model_validate({name: getattr(stage, name) for name in BundledStage.model_fields})
            for stage in record.stages
        ),
        budgets=record.budgets,
        verdicts=last.verdicts,
        metrics=last.report.metrics if last.report else {},
        reference_metrics=reference.metrics if reference else {},
        device=record.device,
        data=record.data,
        config_digest=record.config_digest,
        tapeout_commit=record.git_commit,
        created=record.started,
    )


def read_manifest(bundle: Path) -> Manifest:
    """The manifest of a bundle folder.

    Raises:
        UserError: the folder is no bundle, or its manifest is damaged.
    """
    path = bundle / MANIFEST
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except OSError as error:
        raise UserError(f"{bundle} is no bundle: {path.name}: {error.strerror}", "give the folder itself") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise UserError(f"{path}: {where}: {first['msg']}".replace(": :", ":"), "package it anew") from None


def check_files(bundle: Path) -> list[str]:
    """What is wrong with the files of a bundle: missing, changed or unexpected; empty when all is well.

    Raises:
        UserError: the folder is no bundle, or its manifest is damaged.
    """
    manifest = read_manifest(bundle)
    found = {str(path.relative_to(bundle)): path for path in sorted(bundle.rglob("*")) if not path.is_dir()}
    found.pop(MANIFEST)
    problems = [f"{name} is missing" for name in manifest.files if name not in found]
    for name, path in found.items():
        if name not in manifest.files:
            problems.append(f"{name} does not belong to the bundle")
        elif (wrong := _wrong(path, manifest.files[name])) is not None:
            problems.append(f"{name} {wrong}")
    return problems


def _wrong(path: Path, expected: BundledFile) -> str | None:
    if not path.is_file():
        return "is not a file"
    if (size := path.stat().st_size) != expected.size_bytes:
        return f"was changed: {size} bytes, expected {expected.size_bytes}"
    if (digest := sha256(path)) != expected.sha256:
        return f"was changed: sha256 {digest[:12]}, expected {expected.sha256[:12]}"
    return None


def sha256(path: Path) -> str:
    """Hex digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def manifest_schema() -> str:
    """The JSON schema of `manifest.json`."""
    return json.dumps(Manifest.model_json_schema(), indent=2)
