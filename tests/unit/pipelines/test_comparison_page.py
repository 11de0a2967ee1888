from __future__ import annotations

import pytest
from samples import run_record

from pipelines.records import RunRecord
from pipelines.reporting.comparison_page import page
from pipelines.reporting.comparison_picture import chart, points


@pytest.fixture
def records() -> list[RunRecord]:
    return [run_record(), run_record("halted", 0.071).model_copy(update={"name": "smol-q4k"})]


def test_page_has_a_row_a_config_with_its_verdict_and_one_picture(records: list[RunRecord]) -> None:
    text = page(records)

    assert text.count("<tr>") == 3
    for part in ("smol-q6k", "smol-q4k", "2.65x", "138 MB", "passed", "halted"):
        assert part in text
    assert text.count("data:image/png;base64,") == 1


def test_points_are_speed_quality_and_size_with_their_intervals(records: list[RunRecord]) -> None:
    first, halted = points(records)

    assert first.record.name == "smol-q6k"
    assert first.speed is not None
    assert first.speed[0] == pytest.approx(2.65, abs=0.01)
    assert first.quality == pytest.approx((1.39, 1.09, 1.69))
    assert halted.quality[0] == pytest.approx(7.1)
    assert first.size_mb == 138


def test_runs_without_speed_are_drawn_by_quality_and_size(records: list[RunRecord]) -> None:
    (slow,) = points([without_speed(records[0])])

    assert slow.speed is None
    assert chart([without_speed(records[0])]) is not None


def without_speed(record: RunRecord) -> RunRecord:
    stages = []
    for stage in record.stages:
        report = stage.report and stage.report.model_copy(
            update={"metrics": {name: each for name, each in stage.report.metrics.items() if name != "speed_ratio"}}
        )
        stages.append(stage.model_copy(update={"report": report}))
    return record.model_copy(update={"stages": tuple(stages)})


def test_runs_that_measured_nothing_leave_no_picture(records: list[RunRecord]) -> None:
    unmeasured = [
        record.model_copy(
            update={"stages": tuple(stage.model_copy(update={"report": None}) for stage in record.stages)}
        )
        for record in records
    ]

    assert chart(unmeasured) is None
    assert "data:image/png" not in page(unmeasured)
