from __future__ import annotations

from pathlib import Path

import pytest
from samples import run_record

from pipelines.reporting.plots import draw, points, quality_against


def test_picture_is_a_png() -> None:
    assert quality_against(run_record("halted", 0.071), "size").startswith(b"\x89PNG\r\n\x1a\n")


def test_points_are_change_of_perplexity_with_its_interval() -> None:
    reference, f16, quantized = points(run_record("halted", 0.071), "size")
    assert (reference.group, f16.group, quantized.group) == ("reference", "within budget", "over budget")
    assert (reference.x[0], reference.y) == (538.0, (0.0, 0.0, 0.0))
    assert quantized.label == "quantize_gguf\nq6_k"
    assert quantized.y == pytest.approx((7.1, 6.8, 7.4))


def test_one_measured_stage_makes_no_picture(tmp_path: Path) -> None:
    record = run_record()
    record = record.model_copy(update={"stages": record.stages[:2]})
    assert draw(record, tmp_path) == {}
    with pytest.raises(ValueError, match="fewer than two stages have both perplexity and size_bytes"):
        quality_against(record, "size")


def test_picture_of_the_same_numbers_is_kept(tmp_path: Path) -> None:
    first = draw(run_record(), tmp_path)
    kept = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert draw(run_record(cached=True), tmp_path) == first
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == kept
    draw(run_record(change=0.012), tmp_path)
    assert len(list(tmp_path.iterdir())) == 4
