"""`trigger:` of a config: where new checkpoints land, and how one is known to be whole."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Annotated

from pydantic import Field, Tag, field_validator

from pipelines.fields.source import HfSource
from pipelines.fields.unions import which
from stages.base import Frozen

ATTEMPTS = 3
RetryAfter = Annotated[
    float, Field(ge=0, description="seconds before a second attempt; five times as long before the third")
]


class FolderTrigger(Frozen):
    """A folder, local or mounted: every entry in it is a checkpoint, a file or a folder."""

    folder: Path = Field(description="relative to the config file, or absolute")
    pattern: str = Field("*", description="names of entries that are checkpoints; hidden ones never are")
    marker: str | None = Field(
        None,
        description="written last, and again after an overwrite: `NAME` + marker beside a file, or a file of that name "
        "in a folder; without one, `quiet_s` decides",
    )
    quiet_s: float = Field(10.0, ge=0, description="seconds without a change after which an entry counts as whole")
    retry_after_s: RetryAfter = 60.0


class UrlTrigger(Frozen):
    """One file at an address that fsspec opens; a new ETag, or a new size and time, is a new checkpoint."""

    url: str = Field(description="https, s3, gs, file, ...")
    every_s: float = Field(60.0, gt=0, description="seconds between looks")
    retry_after_s: RetryAfter = 60.0


class HfTrigger(Frozen):
    """A revision on a hub that speaks the Hugging Face API; a new commit behind it is a new checkpoint."""

    hf: str = Field(description="organisation/name")
    revision: str = Field("main", description="a branch or tag that moves")
    files: tuple[str, ...] = Field(HfSource.model_fields["files"].default, description="patterns to fetch")
    every_s: float = Field(60.0, gt=0, description="seconds between looks")
    retry_after_s: RetryAfter = 60.0


class MlflowTrigger(Frozen):
    """A registered model in MLflow: every version of it, or each version that an alias moves to."""

    mlflow: str = Field(pattern=r"^[^'/:]+$", description="the registered model's name")
    alias: str | None = Field(None, description="only the version that carries it")
    file: str | None = Field(
        None, description="the checkpoint inside the version; without it the version's whole folder is one"
    )
    every_s: float = Field(60.0, gt=0, description="seconds between looks")
    retry_after_s: RetryAfter = 60.0

    @field_validator("file")
    @classmethod
    def _inside(cls, file: str | None) -> str | None:
        path = PurePosixPath(file or "")
        if path.is_absolute() or ".." in path.parts or "\\" in (file or ""):
            raise ValueError(f"{file} is not inside the version: name a file below its folder, as data/model.gguf")
        return file


Trigger = Annotated[
    Annotated[FolderTrigger, Tag("folder")]
    | Annotated[UrlTrigger, Tag("url")]
    | Annotated[HfTrigger, Tag("hf")]
    | Annotated[MlflowTrigger, Tag("mlflow")],
    which("folder", "url", "hf", "mlflow"),
]
