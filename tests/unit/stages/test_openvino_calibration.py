from pathlib import Path

import numpy as np
import pytest

from stages._examples import Examples, Preprocess
from stages._openvino_calibration import chosen, reader, split_rows
from stages.base import Artifact, Context, Refused


@pytest.fixture
def context(tmp_path: Path) -> Context:
    pixels = np.arange(10, dtype=np.uint8).reshape(10, 1, 1, 1)
    Examples(pixels, np.repeat([0, 1], 5).astype(np.int64), Preprocess()).save(tmp_path)
    given = {"calibration": Artifact(kind="examples", path=tmp_path, digest="0")}
    return Context(out=tmp_path, scratch=tmp_path, inputs=given)


@pytest.mark.parametrize(("count", "calibrate", "held_out"), [(400, 300, 100), (10, 3, 3), (7, 7, 0), (5, 1, 4)])
def test_calibration_and_held_out_rows_never_overlap(count: int, calibrate: int, held_out: int) -> None:
    rows, kept = split_rows(count, calibrate, held_out)

    assert (len(rows), len(kept)) == (calibrate, held_out)
    assert len({*rows, *kept}) == calibrate + held_out
    assert max([*rows, *kept]) < count


def test_a_set_sorted_by_class_gives_every_class_its_share() -> None:
    rows, kept = split_rows(400, 300, 100)

    assert np.bincount(kept // 40).tolist() == [10] * 10
    assert np.bincount(rows // 40).tolist() == [30] * 10


def test_too_few_examples_are_refused_with_the_way_out(context: Context) -> None:
    with pytest.raises(Refused) as caught:
        chosen(context, "compress_openvino", 8, 3)

    assert caught.value.message == (
        "`compress_openvino` asks for 8 to calibrate on and 3 to measure the drop on; there are 10 calibration examples"
    )
    assert caught.value.hint == "lower `examples` or `held_out`, or give more in `data: calibration:`"


def test_rows_are_read_one_at_a_time_and_counted(context: Context) -> None:
    seen: list[tuple[float, float, str]] = []
    told = Context(
        out=context.out, scratch=context.scratch, inputs=context.inputs, progress=lambda *moved: seen.append(moved)
    )
    examples, rows, _ = chosen(told, "compress_openvino", 5, 0)
    batch = reader(examples, ["x"], 5, told)

    assert [float(batch(row)["x"].item()) for row in rows.tolist()] == [0, 2, 4, 6, 8]
    assert seen == [(n, 5, "images") for n in (1, 2, 3, 4, 5)]
