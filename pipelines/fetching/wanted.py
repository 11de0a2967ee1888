"""What is to come out of a package's archive: one file, or every file of a folder."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path, PurePosixPath
from typing import IO, Any, ClassVar, cast

from pipelines.errors import SourceError
from pipelines.fetching.downloads import chunks_of, write_verified


class NotInside(SourceError):
    """The package's archive does not hold the file."""


@dataclass(frozen=True)
class Wanted:
    """One file of one package, and the folder it goes to."""

    pin: str
    file: str
    sha256: str | None
    into: Path
    single: ClassVar[bool] = True

    @property
    def path(self) -> Path:
        """Where it goes."""
        return self.into / PurePosixPath(self.file).name

    def has(self, name: str) -> bool:
        """Whether a member of the archive is wanted."""
        return name == self.file

    def write(self, name: str, content: IO[bytes]) -> None:
        """Publish a member's content if its sha256 is the wanted one."""
        del name
        write_verified(chunks_of(cast("Any", content)), self.path, self.sha256, f"{self.pin}: {self.file}")

    def missing(self, names: list[str], origin: str) -> NotInside:
        """The error for an archive that holds these names."""
        twins = [name for name in names if PurePosixPath(name).name == PurePosixPath(self.file).name]
        near = list(dict.fromkeys((*twins, *get_close_matches(self.file, names, n=3))))[:3]
        hint = f"did you mean {' or '.join(f'`{name}`' for name in near)}?" if near else f"it holds {len(names)} files"
        return NotInside(f"{self.pin}: no `{self.file}` in {PurePosixPath(origin).name}", hint)


@dataclass(frozen=True)
class WantedFolder:
    """Every file of one folder of one package but hidden ones, and the folder they go to."""

    pin: str
    folder: str
    into: Path
    single: ClassVar[bool] = False

    def has(self, name: str) -> bool:
        """Whether a member of the archive is wanted."""
        inside = name.removeprefix(f"{self.folder}/")
        return inside != name and not any(part.startswith(".") for part in inside.split("/"))

    def write(self, name: str, content: IO[bytes]) -> None:
        """Write a member under its path in the folder."""
        path = self.into / name.removeprefix(f"{self.folder}/")
        path.parent.mkdir(parents=True, exist_ok=True)
        write_verified(chunks_of(cast("Any", content)), path, None, f"{self.pin}: {name}")

    def missing(self, names: list[str], origin: str) -> NotInside:
        """The error for an archive that holds these names."""
        folders = sorted({PurePosixPath(name).parent.as_posix() for name in names})
        near = get_close_matches(self.folder, folders, n=3)
        hint = (
            f"did you mean {' or '.join(f'`{name}`' for name in near)}?" if near else f"it has {', '.join(folders[:5])}"
        )
        return NotInside(f"{self.pin}: no folder `{self.folder}` in {PurePosixPath(origin).name}", hint)
