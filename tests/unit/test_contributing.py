"""The worked examples of CONTRIBUTING.md, put where they say they belong in a copy of the project, and run."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from stages.base import ROOT

PAGE = ROOT / "CONTRIBUTING.md"
BLOCK = re.compile(r"<!-- file -->\n```\w+\n# (?P<path>\S+)\n(?P<text>.*?)```\n", re.DOTALL)
COPIED = ("pipelines", "stages", "targets", "envs", "tests/unit/test_contract.py", "tests/unit/pipelines/dummies.py")
GATED = """
import sys
from pathlib import Path
from dummies import Bench

bench = Bench(Path(sys.argv[1]))
bench.config.write_text(Path("configs/bigrams.yaml").read_text())
within = bench.run()
assert within.error is None, within.error
assert [stage.stage for stage in within.record.stages] == ["source", "dummy", "round_bigrams", "bigrams"]
assert (within.record.bundle / "bigrams.npy").is_file()
beyond = bench.run("steps.round_bigrams.bits=2")
assert beyond.error.exit_code == 1, beyond.error
assert beyond.record.bundle is None
print(beyond.error)
"""


def files() -> dict[str, str]:
    return {match["path"]: match["text"] for match in BLOCK.finditer(PAGE.read_text(encoding="utf-8"))}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkout")
    for name in COPIED:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(ROOT / name, folder / name)
    for name, text in files().items():
        assert not (ROOT / name).exists()
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def python(checkout: Path, *arguments: str) -> str:
    paths = os.pathsep.join([str(checkout), str(checkout / "tests/unit/pipelines")])
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=checkout,
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_page_holds_a_stage_a_target_their_tests_and_a_config() -> None:
    assert list(files()) == [
        "stages/round_bigrams.py",
        "tests/unit/stages/test_round_bigrams.py",
        "targets/bigrams.py",
        "tests/unit/targets/test_bigrams.py",
        "configs/bigrams.yaml",
    ]


@pytest.mark.slow
def test_the_examples_keep_the_contract_and_pass_their_own_tests(checkout: Path) -> None:
    said = python(checkout, "-m", "pytest", "-q", "-W", "error", "-k", "bigrams or toolchain", "tests/unit")

    assert re.search(r"\b14 passed", said), said


@pytest.mark.slow
def test_the_examples_run_measured_and_gated(checkout: Path, tmp_path: Path) -> None:
    said = python(checkout, "-c", GATED, str(tmp_path))

    assert "perplexity rose" in said
    assert "after round_bigrams" in said


def test_the_examples_pass_the_linter_as_the_project_does(checkout: Path) -> None:
    sources = [name for name in files() if name.endswith(".py") and not name.startswith("tests/")]
    shutil.copyfile(ROOT / "pyproject.toml", checkout / "pyproject.toml")

    python(checkout, "-m", "ruff", "check", "--no-cache", *sources)
    python(checkout, "-m", "ruff", "format", "--no-cache", "--check", *sources)
