"""What the orchestrator asks of a worker and what comes back: one JSON document a line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, JsonValue, TypeAdapter

from stages.base import Artifact, Frozen, Produced


class RunRequest(Frozen):
    """Run one stage: `out` and `scratch` are empty folders, the result goes into `out`.

    `outliving` is the step's folder that a kill leaves: it may not exist yet, or hold what an earlier run left.
    """

    stage: str
    fields: dict[str, JsonValue]
    model: Artifact
    inputs: dict[str, Artifact] = {}
    out: Path
    scratch: Path
    outliving: Path | None = None
    seed: int = 0
    threads: int = 1
    memory_limit_gb: float | None = None


class OpenRequest(Frozen):
    """Open an artifact as a session that then takes calls."""

    stage: str
    fields: dict[str, JsonValue]
    artifact: Artifact
    threads: int = 1
    context_length: int = 512
    memory_limit_gb: float | None = None


class Call(Frozen):
    """One method of the open session (`pipelines.evaluation.live.Live`) with its arguments."""

    method: str
    arguments: dict[str, JsonValue] = {}


class Moved(Frozen):
    """How far a long piece of work is."""

    message: Literal["moved"] = "moved"
    done: float
    total: float
    what: str


class Learnt(Frozen):
    """What a training came to after so many steps, by name of the metric."""

    message: Literal["learnt"] = "learnt"
    step: int
    values: dict[str, float]


class Answer(Frozen):
    """What a call returned."""

    message: Literal["answer"] = "answer"
    value: JsonValue = None


class Failure(Frozen):
    """Why there is no answer. `refused`: the input's fault; `memory`, `disk`: none left. Other ends are in the log."""

    message: Literal["failure"] = "failure"
    cause: Literal["refused", "memory", "disk"]
    text: str
    hint: str = ""


Message = Annotated[Moved | Learnt | Answer | Failure, Field(discriminator="message")]
MESSAGES: TypeAdapter[Moved | Learnt | Answer | Failure] = TypeAdapter(Message)


def produced(answer: JsonValue) -> Produced:
    """The result of a RunRequest out of its answer."""
    return Produced.model_validate(answer)
