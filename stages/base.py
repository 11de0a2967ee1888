"""What every stage is made of: Artifact in, files and facts out."""

from __future__ import annotations

import ast
import hashlib
import importlib
import inspect
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import ClassVar

from pydantic import BaseModel, ConfigDict, JsonValue

FAMILIES = ("stages", "targets")
ROOT = Path(__file__).resolve().parent.parent


class Frozen(BaseModel):
    """A value that crosses boundaries: immutable, and strict about its keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Refused(Exception):
    """The input cannot be processed, and no retry will change that.

    Args:
        message: what is wrong, and where.
        hint: the way out.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message, self.hint = message, hint


class Artifact(Frozen):
    """A folder on disk plus what is known of it."""

    kind: str
    path: Path
    digest: str
    parents: tuple[str, ...] = ()
    facts: dict[str, JsonValue] = {}


class Table(Frozen):
    """Rows that the run's report shows below its measurements: a title, column heads, cells."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


class Produced(Frozen):
    """What `Stage.run` returns; the files themselves are in `Context.out`.

    `facts` describe the artifact, and a later stage may hand them on. `notes` and `tables` tell of this stage's work.
    """

    facts: dict[str, JsonValue] = {}
    notes: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()


def no_progress(done: float, total: float, what: str) -> None:
    """Ignore a progress message."""


@dataclass(frozen=True)
class Context:
    """What a stage may use besides its fields and its model.

    `out` is an empty folder that becomes the artifact, `scratch` is thrown away, `progress(done, total, what)`
    draws the bar of a long piece of work. `outliving` is what `resume` is made of; without one, in `scratch`.
    """

    out: Path
    scratch: Path
    seed: int = 0
    threads: int = 1
    inputs: Mapping[str, Artifact] = field(default_factory=dict)
    progress: Callable[[float, float, str], None] = no_progress
    outliving: Path | None = None

    @property
    def resume(self) -> Path:
        """A folder that outlives a killed run, for what a later run of this very step goes on from.

        It belongs to the step's cache key: whatever changes the key leads to another, empty folder. It is gone once
        the artifact is published. A run may be killed while it writes: write beside, then `os.replace`.
        """
        folder = self.outliving or self.scratch / "resume"
        folder.mkdir(parents=True, exist_ok=True)
        return folder


class Stage(Frozen, ABC):
    """One transformation. Its fields are its config, under the same names in Python and in YAML.

    `extra_inputs` names what `Context.inputs` may hold: `calibration`, and the kinds that stages beside the chain make.
    The artifact of a stage that is `beside` is no model: the next step takes the model as it was, and every later step
    that names the kind among its `extra_inputs` is given it.
    """

    consumes: ClassVar[frozenset[str]]
    produces: ClassVar[str]
    env: ClassVar[str]
    version: ClassVar[int] = 1
    extra_inputs: ClassVar[frozenset[str]] = frozenset()
    beside: ClassVar[bool] = False
    device_bound: ClassVar[bool] = False
    heals: ClassVar[bool] = False  # what the steps before it lost is won back: they are measured, and judged no more
    trains: ClassVar[bool] = False  # what comes before it is no model yet, and no reference either

    @property
    def bound(self) -> bool:
        """Whether the result is this device's alone: its identity joins the cache key."""
        return type(self).device_bound

    @property
    def environment(self) -> str:
        """The tool environment that the stage runs in, these fields being what they are."""
        return type(self).env

    def unavailable(self) -> str | None:
        """The reason why this machine cannot run the stage with these fields, or None. Imports no toolchain."""
        return None

    def under(self, least: Mapping[str, float]) -> Stage:
        """The stage as it is run under the config's budgets: the least value of each metric that has one."""
        return self

    def needs(self) -> frozenset[str]:
        """Those of `extra_inputs` that cannot be done without, these fields being what they are."""
        return frozenset()

    @abstractmethod
    def run(self, model: Artifact, context: Context) -> Produced:
        """Write the result into `context.out`.

        Raises:
            Refused: the model cannot be processed.
        """


def name_of(stage: type[Stage] | Stage) -> str:
    """The name used in a config: the last part of the module's name."""
    kind = stage if isinstance(stage, type) else type(stage)
    return kind.__module__.rpartition(".")[2]


@cache
def names() -> dict[str, str]:
    """Every stage and target by config name, with the module that holds it."""
    found = {}
    for family in FAMILIES:
        for module in pkgutil.iter_modules([str(ROOT / family)]):
            if module.name != "base" and not module.name.startswith("_"):
                found[module.name] = f"{family}.{module.name}"
    return found


@cache
def load(name: str) -> type[Stage]:
    """The class behind a config name.

    Raises:
        KeyError: there is no stage and no target of that name.
        TypeError: the file does not define exactly one stage.
    """
    module = importlib.import_module(names()[name])
    found = [
        item
        for _, item in inspect.getmembers(module, inspect.isclass)
        if issubclass(item, Stage) and item.__module__ == module.__name__ and not inspect.isabstract(item)
    ]
    if len(found) != 1:
        raise TypeError(f"{module.__name__} must define exactly one stage, found {len(found)}")
    return found[0]


@cache
def source_digest(stage: type[Stage]) -> str:
    """sha256 over the stage's own source file and the project files of `stages` and `targets` it imports."""
    digest = hashlib.sha256()
    for module in sorted(_closure(stage.__module__, set())):
        digest.update(module.encode() + b"\0" + _file_of(module).read_bytes() + b"\0")
    return digest.hexdigest()


def _closure(module: str, seen: set[str]) -> set[str]:
    seen.add(module)
    for node in ast.walk(ast.parse(_file_of(module).read_text())):
        for imported in _imported(node):
            if imported.split(".")[0] in FAMILIES and imported not in seen and _file_of(imported).is_file():
                _closure(imported, seen)
    return seen


def _imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.module:
        return [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return []


def _file_of(module: str) -> Path:
    return ROOT.joinpath(*module.split(".")).with_suffix(".py")
