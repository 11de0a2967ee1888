import csv
from pathlib import Path

from pipelines.reporting.sensitivity import HEADER, leave
from stages._mixture import Choice, PathPoint, Sensitivity, TensorSensitivity


def tensor(name: str, kl: float) -> TensorSensitivity:
    choices = (Choice(type="q4_0", size_bytes=36, kl=kl), Choice(type="q8_0", size_bytes=68, kl=kl / 100))
    return TensorSensitivity(name=name, elements=64, probe="q4_0", choices=choices)


def test_the_table_begins_with_the_tensor_that_loses_most_and_says_what_was_measured(tmp_path: Path) -> None:
    tensors = (tensor("token_embd.weight", 0.1), tensor("blk.0.ffn_up.weight", 0.3), tensor("blk.1.ffn_up.weight", 0.2))
    points = (PathPoint(steps=0, size_bytes=108, kl_expected=0.6, kl=0.5, perplexity_change=0.4),)
    leave(Sensitivity(tokens=8, held_out_tokens=8, imatrix_tokens=0, tensors=tensors, points=points), tmp_path)

    rows = list(csv.reader((tmp_path / "sensitivity.csv").read_text().splitlines()))
    assert tuple(rows[0]) == HEADER
    assert rows[1] == ["blk.0.ffn_up.weight", "64", "q4_0", "36", "0.3", "yes"]
    assert rows[2] == ["blk.0.ffn_up.weight", "64", "q8_0", "68", "0.003", "scaled"]
    assert [row[0] for row in rows[3::2]] == ["blk.1.ffn_up.weight", "token_embd.weight"]
    assert (tmp_path / "sensitivity.png").read_bytes().startswith(b"\x89PNG")
