"""The `tapeout` command as its users start it."""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from bench._processes import TAPEOUT, started_by, variables
from pipelines.store import Store
from stages.base import ROOT

CONFIGS = ROOT / "configs/smollm2-135m"
REAL = CONFIGS / "gguf_q4_k_m_imatrix.yaml"
WITHOUT_VNNI = "vnni" not in Path("/proc/cpuinfo").read_text()  # then INT8 with weights in 8 bits saturates
ALONE = ("--no-prefect", "--no-mlflow", "--quiet")


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str

    @property
    def report(self) -> Any:
        """The JSON on standard output."""
        return json.loads(self.out)


@dataclass(frozen=True)
class Program:
    home: Path
    dist: Path

    def __call__(self, *arguments: object, cwd: Path = ROOT, **more: str) -> Ended:
        ended = subprocess.run(
            [TAPEOUT, *map(str, arguments)],
            cwd=cwd,
            env=self.variables(**more),
            capture_output=True,
            text=True,
            timeout=1200,
        )
        return Ended(ended.returncode, ended.stdout, ended.stderr)

    def variables(self, **more: str) -> dict[str, str]:
        own = variables(self.home, PREFECT_HOME=str(self.home / "prefect"), **more)
        return {name: value for name, value in own.items() if name != "TAPEOUT_ENVS"}  # the home's are meant

    def run(self, config: Path, *arguments: object, **more: str) -> Ended:
        """One run without Prefect and MLflow."""
        return self("run", config, *arguments, *ALONE, "--dist", self.dist, **more)

    def published(self) -> list[str]:
        """The stages and measurements whose results are in the store."""
        return sorted(entry.stage for entry in Store(self.home / "store").ls())

    def leftovers(self) -> list[str]:
        """What no run may leave behind: work folders, bundles begun, processes."""
        folders = (self.home / "store/work", self.dist)
        files = [str(path) for folder in folders if folder.is_dir() for path in folder.iterdir()]
        return files + list(started_by(self.home).values())


def written(path: Path, source: dict[str, Any], steps: list[Any], **more: Any) -> Path:
    """A config file with a small evaluation over Python's documentation."""
    config = {
        "name": "test",
        "source": source,
        "steps": steps,
        "data": {"evaluation": {"builtin": "python-docs", "split": "evaluation"}},
        "evaluation": {
            "perplexity": {"windows": 2, "window": 64, "max_windows": 2},
            "generation": {"prompts": 1, "prompt_tokens": 8, "tokens": 4},
            "speed": {"prompt_tokens": [16], "tokens": 4, "pairs": 3, "max_pairs": 3},
        },
        "budgets": [{"metric": "perplexity", "max_regression": "100%"}],
        **more,
    }
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    return path
