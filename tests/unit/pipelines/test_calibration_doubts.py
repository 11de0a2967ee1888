"""Calibration text of another language, or too little of it, is warned of with the number of tokens."""

from __future__ import annotations

from pathlib import Path

from configs import Folder
from pipelines.data.calibration_doubts import calibration_doubts
from pipelines.data.languages import LEAST_ALIKE, another_language, likeness
from pipelines.data.python_docs import python_docs
from pipelines.data.texts import Texts, read_texts
from pipelines.progress import Silent
from pipelines.store import Store
from stages.base import ROOT

GERMAN = (
    "Die Bundesrepublik ist ein Staat in Mitteleuropa, der aus sechzehn Ländern besteht. Die größte Stadt und "
    "Hauptstadt ist Berlin. Im Süden grenzt das Land an die Alpen, im Norden an Nord- und Ostsee. Viele Menschen "
    "arbeiten in der Industrie, andere im Handel oder in der Verwaltung. Das Wetter ist gemäßigt, doch können die "
    "Winter in den Bergen sehr streng sein, und es schneit oft bis in den April hinein. "
)
CONFIG = """\
name: small
source: {path: model.gguf}
steps: [import_gguf, gguf]
data:
  evaluation: {builtin: python-docs, split: evaluation}
  calibration: {path: calibration.txt}
"""


def read(folder: Path, calibration: str) -> Texts:
    (folder / "calibration.txt").write_text(calibration)
    return read_texts(Folder(folder).parse(CONFIG), Store(folder / "store"), folder / "data", Silent())


def test_prose_of_one_language_is_alike_and_of_another_is_not() -> None:
    english = python_docs("evaluation")

    assert likeness(english, python_docs("calibration")) > 0.9
    assert likeness(english, [GERMAN * 10]) < 0.35 < LEAST_ALIKE
    assert another_language(english, ["the quick brown fox"]) is None, "too short to tell"


def test_text_of_another_language_is_doubted_by_name(tmp_path: Path) -> None:
    doubt = read(tmp_path, GERMAN * 10).doubt

    assert doubt.startswith(
        "the calibration text (calibration.txt) seems to be in another language than the evaluation's: likeness 0."
    )
    assert read(tmp_path, (ROOT / "LICENSE").read_text()).doubt == ""


def test_a_stage_that_learnt_tells_the_doubt_with_its_tokens() -> None:
    fields, facts = {"windows": 48, "window": 512}, {"calibration_tokens": 24_576}

    assert calibration_doubts("of another language", fields, facts) == (
        "of another language; 24,576 tokens of it were looked at",
    )
    assert calibration_doubts("", fields, facts) == ()
    assert calibration_doubts("of another language", fields, {}) == ()


def test_too_little_text_is_told_with_what_was_asked_for() -> None:
    told = calibration_doubts("", {"windows": 48, "window": 512}, {"tokens": 1024})

    assert told == (
        "the calibration text is short: it has 1,024 tokens where 24,576 were asked for (48 windows of 512)",
    )
