"""An evaluation that would be worthless or impossible is told before a run."""

import pytest

from configs import DIGITS, RIGHT, TASK, Folder, changed


def test_calibration_on_the_evaluation_text_is_refused(folder: Folder) -> None:
    text = RIGHT + "  calibration: {builtin: python-docs, split: evaluation}\n"

    assert folder.mistakes(text) == [
        "a.yaml: `data`: calibration and evaluation are the same text: the measurement would be worthless\n\n"
        "hint: give calibration the other half"
    ]


def test_training_on_what_is_measured_is_a_mistake(folder: Folder) -> None:
    (folder.path / "model.py").write_text("")

    assert folder.mistakes(DIGITS.replace("training: {held_out: 100}", "training: {digits: true}")) == [
        "a.yaml: `data`: training and evaluation are the same: the measurement would be worthless\n\n"
        "hint: use `held_out`"
    ]


def test_training_text_is_not_held_out_of_the_evaluation(folder: Folder) -> None:
    text = changed(more="  training: {held_out: 10}\n")

    assert folder.mistakes(text) == [
        "a.yaml: `data` `training`: `held_out` is for labelled images\n\nhint: name another text"
    ]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (
            "evaluation: {perplexity: {windows: 9, max_windows: 8}}\n",
            "`evaluation` `perplexity`: `max_windows` is less than `windows`",
        ),
        ("evaluation: {speed: {pairs: 9, max_pairs: 8}}\n", "`evaluation` `speed`: `max_pairs` is less than `pairs`"),
        (
            TASK.replace(", reader: multiple-choice", ""),
            "`evaluation` `tasks` `siqa`: needs data with the reader `multiple-choice`",
        ),
    ],
)
def test_settings_that_contradict_each_other_are_told(folder: Folder, more: str, message: str) -> None:
    assert folder.mistakes(changed(more=more)) == [f"a.yaml: {message}"]


def test_multiple_choice_is_no_running_text(folder: Folder) -> None:
    text = changed(("{builtin: python-docs, split: evaluation}", "{path: model.gguf, reader: multiple-choice}"))

    assert folder.mistakes(text) == [
        "a.yaml: `data` `evaluation`: multiple choice is no running text\n\nhint: name it under `evaluation: tasks:`"
    ]
