import json
from pathlib import Path

import pytest

from configs import Folder
from pipelines.data.texts import Texts, read_texts
from pipelines.errors import DataError
from pipelines.progress import Silent
from pipelines.store import Store
from stages._calibration_text import CalibrationText

WORDS = [f"word{number}" for number in range(60)]
CONFIG = """\
name: small
source: {path: model.gguf}
steps: [import_gguf, gguf]
data:
  evaluation: {path: evaluation.txt}
  calibration: {path: calibration.txt}
evaluation:
  tasks:
    quiz: {data: {path: quiz.json, reader: multiple-choice}, examples: 2}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    (tmp_path / "evaluation.txt").write_text("of this the quality is measured " * 40)
    (tmp_path / "calibration.txt").write_text("of that the quantizer may see something " * 40)
    questions = [{"input": " ".join(WORDS[k : k + 20]), "target_scores": {"yes": 1, "no": 0}} for k in (0, 20)]
    (tmp_path / "quiz.json").write_text(json.dumps({"examples": questions}))
    return Folder(tmp_path)


def read(folder: Folder) -> Texts:
    return read_texts(folder.parse(CONFIG), Store(folder.path / "store"), folder.path / "data", Silent())


def test_calibration_text_is_an_artifact_that_stages_read(folder: Folder) -> None:
    made = read(folder).calibration

    assert made is not None
    assert made.kind == "text"
    text = CalibrationText.load(made.path)
    assert text.name == "calibration.txt"
    assert text.documents == ((folder.path / "calibration.txt").read_text(),)


def test_the_same_calibration_text_is_the_same_artifact_and_another_one_is_not(folder: Folder) -> None:
    first, second = read(folder).calibration, read(folder).calibration
    (folder.path / "calibration.txt").write_text("something else " * 40)
    third = read(folder).calibration

    digests = [made.digest for made in (first, second, third) if made]
    assert len(digests) == 3
    assert digests[0] == digests[1] != digests[2]


def test_calibration_text_that_holds_a_tasks_questions_is_refused(folder: Folder) -> None:
    (folder.path / "calibration.txt").write_text(" ".join(WORDS))

    with pytest.raises(
        DataError,
        match=r"calibration data \(calibration.txt\) holds [0-9.]+% of the 13-word passages of "
        r"the evaluation data \(task quiz\)",
    ):
        read(folder)
