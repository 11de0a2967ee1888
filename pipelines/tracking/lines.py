"""What the orchestrator and the MLflow writer say to each other: JSON lines, and what came of them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, JsonValue, TypeAdapter

from pipelines.budget import Budget
from pipelines.measures import DeviceFacts
from pipelines.promotion import Champion
from pipelines.records import RunRecord, StageRecord
from pipelines.searching.trials import SearchRecord, Trial
from stages.base import Frozen

UNANSWERED = "the registry did not answer"
"""Why a version is not promoted as long as nothing else is known: whoever is killed or left alone has said it."""


class RunStart(Frozen):
    """What is known of a run before its first stage."""

    name: str
    config_path: str
    config_digest: str
    config_text: str = Field(description="secrets not filled in")
    git_commit: str | None = None
    started: str = Field("", description="UTC, ISO 8601")
    device: DeviceFacts
    seed: int = 0
    evaluation: dict[str, JsonValue] = Field({}, description="defaults filled in")
    budgets: tuple[Budget, ...] = ()
    promotes: bool = Field(False, description="whether the champion is wanted, to be compared with")


class Attachments(Frozen):
    """The files that go with a run. The worker logs are named by its records."""

    folder: Path | None = Field(None, description="takes report.md, report.html and plots; attached with all it holds")


class Tracked(Frozen):
    """Where a run is found in MLflow, or why it is not there."""

    mlflow_run: str | None = None
    experiment: str | None = None
    model_version: str | None = Field(None, description="name/version")
    champion: Champion | None = Field(None, description="when the run began")
    not_promoted: str = Field("", description="why the registry did not take what the comparison said")
    hint: str = Field("", description="how to look at it")
    problem: str = Field("", description="why tracking failed, or is incomplete")


class Opening(Frozen):
    """The writer's first line: where MLflow is."""

    event: Literal["start"] = "start"
    run: RunStart
    home: Path


class Progressed(Frozen):
    """One more stage is done."""

    event: Literal["stage"] = "stage"
    record: StageRecord


class Learning(Frozen):
    """A stage that trains is so far."""

    event: Literal["learning"] = "learning"
    index: int
    stage: str
    step: int
    values: dict[str, float]


class Closing(Frozen):
    """The run is over, one way or another."""

    event: Literal["finish"] = "finish"
    run: RunRecord
    attachments: Attachments


class Comparing(Frozen):
    """The only line of a comparison: runs that are over, beside each other."""

    event: Literal["compare"] = "compare"
    records: tuple[RunRecord, ...]
    home: Path


class Searching(Frozen):
    """A search's first line."""

    event: Literal["search"] = "search"
    name: str
    config_path: str
    config_text: str
    started: str
    home: Path
    resumes: str | None = Field(None, description="the run of an earlier session of it")


class Tried(Frozen):
    """One more trial of a search ended."""

    event: Literal["trial"] = "trial"
    trial: Trial


class Searched(Frozen):
    """A search is over, one way or another."""

    event: Literal["searched"] = "searched"
    record: SearchRecord
    folder: Path = Field(description="its JSON, PNG and YAML files are attached")


Line = Opening | Progressed | Learning | Closing | Comparing | Searching | Tried | Searched
LINES: TypeAdapter[Line] = TypeAdapter(Annotated[Line, Field(discriminator="event")])
