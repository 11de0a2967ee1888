"""The pages that a newcomer reads agree with the code."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.commands.ls import WHAT
from pipelines.fields.evaluation import Evaluation
from pipelines.measures import KINDS
from stages.base import ROOT, load, names

GENERATE = ROOT / "docs" / "generate.py"
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "envs").glob("*.md")])
LINK = re.compile(r"\]\((?P<target>[^)#:\s]+)(?:#[^)]*)?\)")


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def test_the_config_reference_is_what_the_code_says() -> None:
    done = subprocess.run([sys.executable, GENERATE, "--check"], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_a_stale_config_reference_is_told_and_shown(tmp_path: Path) -> None:
    (tmp_path / "stale.py").write_text(
        f"import sys\nsys.path.insert(0, {str(GENERATE.parent)!r})\nimport generate\nfrom pathlib import Path\n"
        f"generate.OUT = Path({str(tmp_path / 'config.md')!r})\n"
        "generate.OUT.write_text(generate.page().replace('## Exit codes', '## Codes'))\n"
        "sys.exit(generate.main(['--check']))\n"
    )

    done = subprocess.run([sys.executable, tmp_path / "stale.py"], capture_output=True, text=True, check=False)

    assert done.returncode == 1
    assert "-## Codes\n+## Exit codes\ndocs/config.md is stale: python docs/generate.py\n" in done.stderr


@pytest.mark.parametrize("name", sorted(name for name in names() if name != "dummy"))
def test_the_config_reference_names_every_field_of_a_stage(name: str) -> None:
    section = text("docs/config.md").partition(f"\n### `{name}`\n")[2].partition("\n### ")[0]

    assert [field for field in load(name).model_fields if f"| `{field}` |" not in section] == []


def test_the_config_reference_names_every_part_of_the_evaluation() -> None:
    assert [part for part in Evaluation.model_fields if f"| `{part}` |" not in text("docs/config.md")] == []


def test_how_each_metric_is_taken_is_written_down() -> None:
    assert [name for name in KINDS if f"`{name}" not in text("docs/measuring.md")] == []


def test_the_readme_names_every_stage_and_target() -> None:
    readme = text("README.md")

    assert [name for name in names() if name != "dummy" and f"`{name}`" not in readme] == []


def test_commands_that_the_pages_name_exist() -> None:
    from pipelines.cli import COMMANDS

    named = {
        match[1] for page in PAGES for match in re.finditer(r"`tapeout ([a-z]+)", page.read_text(encoding="utf-8"))
    }
    listed = {
        match[1] for page in PAGES for match in re.finditer(r"`tapeout ls ([a-z]+)", page.read_text(encoding="utf-8"))
    }

    assert named - set(COMMANDS) == set()
    assert listed - set(WHAT) == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files_that_exist(page: Path) -> None:
    targets = [match["target"] for match in LINK.finditer(page.read_text(encoding="utf-8"))]

    assert [target for target in targets if not (page.parent / target).exists()] == []
