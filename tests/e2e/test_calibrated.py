"""Calibration text through the whole program: an importance matrix and sensitivities, made once and used by many."""

from pathlib import Path
from typing import Any

from program import Ended, Program, written

PROSE = {"builtin": "python-docs", "split": "calibration"}
EVALUATION = {"builtin": "python-docs", "split": "evaluation"}
COLLECT = {"collect_imatrix": {"windows": 4, "window": 64}}
MEASURE = {"measure_sensitivity": {"types": ["q4_0", "q5_0", "q8_0"], "windows": 2, "held_out": 2, "window": 64}}


def config(folder: Path, tiny: Path, last: dict[str, Any], *beside: Any, calibration: Any = PROSE) -> Path:
    data = {"evaluation": EVALUATION, "calibration": calibration}
    steps = [*beside, {"gguf": {"outtype": "f32"}}, {"quantize_gguf": last}]
    return written(folder / "config.yaml", {"path": str(tiny)}, steps, data=data, name="calibrated")


def stages(ended: Ended) -> dict[str, Any]:
    assert ended.code == 0, ended.err
    return {stage["stage"]: stage for stage in ended.report["stages"]}


def test_an_importance_matrix_is_collected_once_for_every_type(shared: Program, tiny: Path, tmp_path: Path) -> None:
    first = stages(shared.run(config(tmp_path, tiny, {"type": "q4_0"}, COLLECT), "--json"))
    second = stages(shared.run(config(tmp_path, tiny, {"type": "q4_1"}, COLLECT), "--json"))

    assert not first["collect_imatrix"]["cached"]
    assert second["collect_imatrix"]["cached"]
    assert first["collect_imatrix"]["report"] is None
    assert first["collect_imatrix"]["artifact"] in first["quantize_gguf"]["parents"]
    assert first["quantize_gguf"]["facts"]["imatrix_tokens"] == 256
    assert {first[name]["role"] for name in ("gguf", "quantize_gguf")} == {"candidate"}


def test_other_calibration_text_is_another_importance_matrix(shared: Program, tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "other.txt").write_text("Seit das Licht brennt, ist kein Schiff mehr auf das Riff gelaufen. " * 200)
    ours = stages(shared.run(config(tmp_path, tiny, {"type": "q4_0"}, COLLECT), "--json"))
    other = {"path": "other.txt"}
    theirs = stages(shared.run(config(tmp_path, tiny, {"type": "q4_0"}, COLLECT, calibration=other), "--json"))

    assert theirs["collect_imatrix"]["artifact"] != ours["collect_imatrix"]["artifact"]
    assert theirs["quantize_gguf"]["artifact"] != ours["quantize_gguf"]["artifact"]
    (note,) = theirs["collect_imatrix"]["notes"]
    assert note.startswith("the calibration text (other.txt) seems to be in another language than the evaluation's")
    assert note.endswith("256 tokens of it were looked at")
    assert ours["collect_imatrix"]["notes"] == []


def test_a_size_budget_buys_a_mixture_and_leaves_the_table_and_the_plot(
    fresh: Program, tiny: Path, tmp_path: Path
) -> None:
    sizes = [
        stages(fresh.run(config(tmp_path, tiny, {"type": kind}), "--json"))["quantize_gguf"]["size_bytes"]
        for kind in ("q4_0", "q8_0")
    ]
    wanted = (sum(sizes) / 2 + 4000) / 1e6
    mixed = stages(fresh.run(config(tmp_path, tiny, {"budget": {"size_mb": wanted}}, COLLECT, MEASURE), "--json"))

    assert sizes[0] < mixed["quantize_gguf"]["size_bytes"] <= wanted * 1e6
    assert len(mixed["quantize_gguf"]["facts"]["tensor_types"]) > 2
    assert len(list((fresh.home / "runs").glob("*/sensitivity.csv"))) == 1
    assert len(list((fresh.home / "runs").glob("*/sensitivity.png"))) == 1


def test_calibration_text_out_of_the_evaluation_is_refused(shared: Program, tiny: Path, tmp_path: Path) -> None:
    from pipelines.data.python_docs import python_docs

    (tmp_path / "leaked.txt").write_text("\n\n".join(python_docs("evaluation")[:20]))
    leaked = {"path": "leaked.txt"}
    ended = shared.run(config(tmp_path, tiny, {"type": "q4_0"}, COLLECT, calibration=leaked))

    assert ended.code == 2
    assert "calibration data (leaked.txt) holds" in ended.err
