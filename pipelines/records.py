"""What a run leaves behind: one record a stage and one for the run, the JSON of `tapeout run --json`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, JsonValue

from pipelines.budget import Budget, Verdict
from pipelines.measures import DeviceFacts, Report
from pipelines.planner.sightings import Sighting
from pipelines.promotion import Promoted
from stages.base import Frozen, Table

Status = Literal["passed", "halted", "failed", "interrupted"]


class StageRecord(Frozen):
    """One stage of a run. `role` says whether its artifact is the source, the reference or a candidate."""

    index: int
    stage: str = Field(description="config name of the stage; `source` for the fetched model")
    role: Literal["source", "intermediate", "reference", "candidate"] = "intermediate"
    fields: dict[str, JsonValue] = {}
    status: Literal["completed", "halted", "failed"] = "completed"
    cached: bool = Field(False, description="the artifact came from the store")
    seconds: float = Field(0.0, description="what it cost when it was made, its tool environment apart")
    evaluation_seconds: float = 0.0
    artifact: str | None = Field(None, description="digest of the artifact")
    kind: str | None = None
    parents: tuple[str, ...] = ()
    facts: dict[str, JsonValue] = {}
    env: str | None = None
    tool_versions: dict[str, str] = {}
    size_bytes: int = 0
    bits_a_weight: float | None = Field(
        None, description="read off the artifact's files, scales and zero points included; by `tapeout compare`"
    )
    report: Report | None = None
    verdicts: tuple[Verdict, ...] = ()
    sighting: Sighting | None = Field(None, description="what `tapeout plan` predicts of it, beside what was measured")
    unmeasured: str = Field("", description="why this machine could not open the artifact: it is not judged")
    log: Path | None = None
    message: str = ""
    notes: tuple[str, ...] = Field((), description="what the stage says of its work")
    tables: tuple[Table, ...] = Field((), description="what the stage found out, for the report")


class DataRecord(Frozen):
    """The evaluation data as it was used."""

    name: str
    digest: str
    documents: int
    tokens: int


class RunRecord(Frozen):
    """A whole run, passed or not."""

    schema_version: Literal[1] = 1
    name: str
    config_path: str
    config_digest: str
    config_text: str = Field(description="the YAML with its overrides applied, secrets not filled in")
    git_commit: str | None = None
    started: str = Field("", description="UTC, ISO 8601")
    seconds: float = 0.0
    status: Status
    message: str = Field("", description="why it did not pass, or what was flagged")
    device: DeviceFacts
    data: DataRecord | None = None
    seed: int = 0
    evaluation: dict[str, JsonValue] = Field({}, description="the config's evaluation, defaults filled in")
    budgets: tuple[Budget, ...] = ()
    stages: tuple[StageRecord, ...] = ()
    draft: tuple[StageRecord, ...] = Field((), description="what made the draft model, its source first")
    last_passed: str | None = Field(None, description="digest of the last artifact within every budget")
    promotion: Promoted | None = Field(None, description="what became of it beside the champion")
    bundle: Path | None = None
    serve: str | None = Field(None, description="the command that serves the bundle")
    prefect_run: str | None = None
    mlflow_run: str | None = None
    model_version: str | None = Field(None, description="name/version in the MLflow registry, when every budget passed")
