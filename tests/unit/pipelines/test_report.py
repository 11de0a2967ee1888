from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from samples import CONFIG, run_record

from pipelines.records import RunRecord
from pipelines.reporting import report
from stages.base import Table

PNG = b"\x89PNG\r\n\x1a\n"


class Outline(HTMLParser):
    """Checks that every element is closed, and keeps what is fetched from elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.opened: list[str] = []
        self.fetched: list[str] = []
        self.cells: list[int] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in {"meta", "img", "br"}:
            self.opened.append(tag)
        self.fetched += [value[:15] for name, value in attrs if name in {"src", "href"} and value]

    def handle_endtag(self, tag: str) -> None:
        assert self.opened.pop() == tag


def with_message(message: str) -> RunRecord:
    return run_record("halted", 0.071).model_copy(update={"message": message})


def test_report_opens_with_the_verdict() -> None:
    lines = report.markdown(run_record("halted", 0.071)).splitlines()
    assert lines[:5] == [
        "# smol-q6k: HALTED",
        "",
        "perplexity rose 30.45 -> 32.61 (+7.1%, allowed 2%) after quantize_gguf",
        "",
        f"Nothing was packaged or registered. The last artifact within every budget is `{'c' * 64}`.",
    ]


def test_passed_report_names_the_result_and_how_to_serve_it() -> None:
    text = report.markdown(run_record().model_copy(update={"serve": "dist/x/serve.sh"}))
    assert text.startswith("# smol-q6k: PASSED\n\nEvery budget was met, 2 without a clear interval (flagged).")
    assert "Serve it: `dist/x/serve.sh`" in text
    assert "2026-11-23 17:35:00 UTC, 5 min 10 s, on Xeon, 2 cores, 2 cores, 16 GB." in text


def test_every_number_says_n_its_interval_and_how_it_was_taken() -> None:
    lines = report.markdown(run_record()).splitlines()
    row = "| `perplexity` | 30.87 | 29.02..32.73 | +1.39% | +1.09..+1.69% | 16 | 16 windows of 512 tokens |"
    assert row in lines
    assert "| `tbt_p50_ms` | 15.1 ms | 14.9..15.3 ms | - | - | 40 | 128-token prompt |" in lines


def test_config_and_notes_are_in_the_report() -> None:
    text = report.markdown(run_record())
    assert f"```yaml\n{CONFIG}```" in text
    assert "- `quantize_gguf`: the machine's own speed drifted by 6%" in text


def test_tables_of_the_markdown_have_as_many_cells_in_every_row() -> None:
    for table in re.findall(r"(?:^\|.*\n)+", report.markdown(with_message("a | b")), flags=re.MULTILINE):
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1


def test_budget_that_was_never_reached_is_named() -> None:
    record = run_record("failed")
    assert "- `perplexity` was not judged." in report.markdown(record.model_copy(update={"stages": record.stages[:2]}))


def test_html_is_whole_and_fetches_nothing() -> None:
    outline = Outline()
    outline.feed(report.html(run_record(), {"size": PNG, "speed": PNG}))
    assert outline.opened == []
    assert outline.fetched == ["data:image/png;"] * 2


def test_html_shows_text_of_others_as_text() -> None:
    text = report.html(with_message("<script>alert(1)</script> & more"), {})
    assert "<script" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; more" in text


def test_verdicts_are_words_with_a_colour() -> None:
    text = report.html(run_record("halted", 0.071), {})
    assert '<span class="fail">FAIL</span>' in text
    assert '<h1>smol-q6k: <span class="fail">HALTED</span></h1>' in text


def test_secret_of_the_config_is_not_in_the_report(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HUB_TOKEN", "s3cret-token")
    record = with_message("401 for s3cret-token").model_copy(update={"config_text": "x: ${env:HUB_TOKEN}\n"})
    assert "401 for ${env:HUB_TOKEN}" in report.markdown(record)
    assert "s3cret" not in report.html(record, {})


def test_write_leaves_both_reports_and_the_pictures(tmp_path: Path) -> None:
    report.write(run_record(), tmp_path / "runs" / "1", {"size": PNG})
    names = ["quality_against_size.png", "report.html", "report.md"]
    assert sorted(path.name for path in (tmp_path / "runs" / "1").iterdir()) == names


@pytest.mark.parametrize("status", ["failed", "interrupted"])
def test_run_without_stages_has_a_report(status: str) -> None:
    record = run_record().model_copy(update={"status": status, "stages": (), "data": None, "budgets": ()})
    assert report.markdown(record).startswith(f"# smol-q6k: {status.upper()}")


def test_what_a_stage_says_of_its_work_is_in_the_report() -> None:
    record = run_record()
    table = Table(title="What each layer costs", header=("layer", "cost"), rows=(("`conv`", "3 dB"),))
    told = record.stages[3].model_copy(update={"notes": ("one layer stayed float",), "tables": (table,)})
    text = report.markdown(record.model_copy(update={"stages": (*record.stages[:3], told)}))

    assert "- `quantize_gguf`: one layer stayed float\n- `quantize_gguf`: the machine's own speed drifted by 6%" in text
    rows = "| layer | cost |\n| --- | --- |\n| `conv` | 3 dB |"
    assert f"### From quantize_gguf\n\nWhat each layer costs.\n\n{rows}" in text
