from __future__ import annotations

import pytest
from rich.console import Console
from samples import run_record

from pipelines.measures import Interval, metric
from pipelines.records import RunRecord
from pipelines.reporting.table import stage_table, verdict_lines


def rendered(record: RunRecord, width: int) -> str:
    console = Console(width=width, color_system=None, force_terminal=False)
    with console.capture() as capture:
        console.print(stage_table(record))
    return "\n".join(line.rstrip() for line in capture.get().splitlines())


def test_table_has_a_row_a_stage() -> None:
    assert rendered(run_record("halted", 0.071, cached=True), 100) == EXPECTED


@pytest.mark.parametrize("width", [80, 100, 200])
def test_no_number_is_cut_short(width: int) -> None:
    text = rendered(run_record(), width)
    assert "…" not in text
    for number in ("30.87", "+1.09..+1.69", "95.8%", "0.0139", "136", "15.1", "942", "2.65x", "221 MB", "138 MB"):
        assert number in text
    assert max(map(len, text.splitlines())) <= width


def test_verdicts_are_words_without_colour() -> None:
    text = rendered(run_record("halted", 0.071), 80)
    assert "HALTED" in text
    assert "FAIL" in text
    assert "flagged" in text


def test_stage_that_was_not_measured_is_dashes() -> None:
    row = next(line for line in rendered(run_record(), 80).splitlines() if line.startswith("source"))
    assert row.split() == ["source", *["-"] * 6]


def test_task_accuracy_has_its_line() -> None:
    record = run_record()
    last = record.stages[-1]
    assert last.report is not None
    accuracy = metric("accuracy_social_iqa", Interval(value=0.415, low=0.35, high=0.48), 200, "log-likelihood")
    report = last.report.model_copy(update={"metrics": last.report.metrics | {accuracy.name: accuracy}})
    stages = (*record.stages[:-1], last.model_copy(update={"report": report}))
    text = rendered(record.model_copy(update={"stages": stages}), 80)
    assert "social_iqa" in text
    assert "41.5%" in text


def test_verdict_lines_say_each_verdict_and_note_once() -> None:
    assert [line.plain for line in verdict_lines(run_record())] == [
        "pass    perplexity rose 30.45 -> 30.87 (+1.4%, allowed 2%) after quantize_gguf",
        "flagged size_bytes is 138 MB",
        "note    the machine's own speed drifted by 6%",
    ]


EXPECTED = """\
                   perplexity                 ms  tokens/s
stage            95% interval     top-1     TTFT   prefill
precision              change  KL, nats  TBT p50    decode   memory
made + eval        its 95%, %     exact  TBT p95  speed-up  on disk  budgets
───────────────────────────────────────────────────────────────────────────────────────
source                      -         -        -         -        -  -
4.1 s                                                       91.7 MB
cached

import_gguf             30.45    100.0%      360       356   861 MB  -
fp32 ref.        28.62..32.28         0     40.0      25.0   538 MB
14 s + 61 s                      100.0%     48.0     1.00x
cached

gguf                    30.45    100.0%      187       684   434 MB  flagged size_bytes
f16              28.63..32.28  0.000040     20.8      48.1   271 MB
9.0 s + 70 s          -0.004%     87.5%     25.0     1.92x
cached         -0.304..+0.296

quantize_gguf           32.61     78.7%      136       942   221 MB  FAIL perplexity
q6_k             30.66..34.57    0.0710     15.1      66.2   138 MB  flagged size_bytes
3.4 s + 145 s          +7.10%     87.5%     18.1     2.65x
cached           +6.80..+7.40
HALTED"""
