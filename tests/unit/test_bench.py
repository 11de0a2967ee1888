"""What the measurements write is what they measured."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from stages.base import ROOT

sys.path[:0] = [str(ROOT), str(ROOT / "tests/unit/pipelines")]  # bench is no installed package

from samples import run_record  # noqa: E402

from bench._compare_llm import Row, goals, into_readme, lean  # noqa: E402
from bench._idle import busy_share  # noqa: E402
from bench.compare_llm import ENTRIES, previous  # noqa: E402
from pipelines.parsing import parse  # noqa: E402

OPTIONS = argparse.Namespace(goal_float_percent=0.01, goal_openvino=0.5, goal_imatrix=0.55, goal_mixed=0.35)


def named(name: str, change: float) -> Row:
    record = run_record(change=change).model_copy(update={"name": name, "config_path": str(ROOT / "configs/a.yaml")})
    return Row(record=lean(record), busy=0.02)


def test_a_row_keeps_what_it_shows_and_no_path_of_this_machine() -> None:
    kept = named("gguf-f16", 0.01).model_dump_json()

    assert "configs/a.yaml" in kept
    assert str(ROOT) not in kept
    assert Row.model_validate_json(kept).record.stages[-1].report is not None


def test_goals_are_of_what_was_measured() -> None:
    rows = [named("gguf-f16", 0.0002), named("gguf-q4_k_m", 0.08), named("gguf-q4_k_m-imatrix", 0.04)]

    found = {goal.what: (round(goal.value, 4), goal.met) for goal in goals(rows, OPTIONS)}

    assert found == {
        "gguf-f16 against the reference": (0.02, False),
        "gguf-q4_k_m-imatrix: loss against gguf-q4_k_m's": (0.5, True),
    }


def test_the_readmes_table_is_replaced_between_its_marks(tmp_path: Path) -> None:
    page = tmp_path / "README.md"
    page.write_text("before\n<!-- compare_llm -->\nold\n<!-- /compare_llm -->\nafter\n")

    into_readme(page, [named("gguf-q6_k", 0.01)])
    into_readme(page, [named("gguf-q6_k", 0.0139)])

    text = page.read_text()
    assert text.startswith("before\n<!-- compare_llm -->\n\n| config | method |")
    assert text.endswith("(docs/compare_llm.png)\n\n<!-- /compare_llm -->\nafter\n")
    assert text.count("gguf-q6_k") == 1
    assert "| passed | yes |" in text


def test_every_entry_is_a_config_that_parses() -> None:
    for entry in ENTRIES:
        parse(ROOT / "configs/smollm2-135m" / f"{entry.config}.yaml", entry.overrides)


def test_without_an_earlier_run_there_are_no_rows(tmp_path: Path) -> None:
    assert previous(tmp_path / "compare_llm.json") == []


def test_busy_is_a_share() -> None:
    assert 0 <= busy_share(0.05) <= 1
