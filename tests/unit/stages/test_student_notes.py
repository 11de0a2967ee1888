from __future__ import annotations

from stages._looks import Fit, Point, Score
from stages._student_notes import notes_of

LOOKS = tuple(Point(step=step, train=None, score=Score(metric=1.0, loss=1.0)) for step in (0, 10))


def test_a_start_that_nothing_improved_on_is_told_of() -> None:
    notes = notes_of(Fit(curve=LOOKS, best=0), 10, 20)

    assert len(notes) == 1
    assert notes[0].startswith("no step improved on the start by what is held out: ")
    assert notes_of(Fit(curve=LOOKS, best=10), 10, 20) == ()


def test_how_training_ended_comes_first_and_size_last() -> None:
    notes = notes_of(Fit(curve=LOOKS, best=0, stopped_early=True), 20, 20)

    assert notes[0] == "stopped early at step 10; the weights of step 0 were kept"
    assert notes[-1] == "the student is not smaller than its teacher: 20 parameters against 20"
