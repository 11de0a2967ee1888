import pytest

from stages._mixture import (
    Choice,
    PathPoint,
    Sensitivity,
    TensorSensitivity,
    hull,
    path,
    within_perplexity,
    within_size,
)
from stages.base import Refused


def tensor(name: str, *choices: tuple[str, int, float]) -> TensorSensitivity:
    made = tuple(Choice.model_validate({"type": kind, "size_bytes": size, "kl": kl}) for kind, size, kl in choices)
    return TensorSensitivity(name=name, elements=64, probe=choices[0][0], choices=made)


DELICATE = tensor("delicate", ("q4_0", 36, 0.9), ("q5_0", 44, 0.3), ("q8_0", 68, 0.01))
ROBUST = tensor("robust", ("q4_0", 36, 0.03), ("q5_0", 44, 0.01), ("q8_0", 68, 0.0))
POINTS = tuple(
    PathPoint(steps=step, size_bytes=size, kl_expected=0, kl=0, perplexity_change=change)
    for step, size, change in ((0, 72, 0.9), (2, 104, 0.1), (4, 136, 0.0))
)
MEASURED = Sensitivity(tokens=1, held_out_tokens=1, imatrix_tokens=0, tensors=(DELICATE, ROBUST), points=POINTS)


def test_a_type_that_is_larger_and_no_better_is_never_chosen() -> None:
    choices = [
        *DELICATE.choices,
        Choice(type="q5_1", size_bytes=48, kl=0.31),
        Choice(type="q6_k", size_bytes=60, kl=0.25),
    ]

    assert [choice.type for choice in hull(choices)] == ["q4_0", "q5_0", "q8_0"]


def test_each_step_of_the_path_raises_the_tensor_that_gains_most_a_byte() -> None:
    steps = list(path([ROBUST, DELICATE]))

    assert [(step.types["delicate"], step.types["robust"]) for step in steps] == [
        ("q4_0", "q4_0"),
        ("q5_0", "q4_0"),
        ("q8_0", "q4_0"),
        ("q8_0", "q5_0"),
        ("q8_0", "q8_0"),
    ]
    assert [step.size_bytes for step in steps] == [72, 80, 104, 112, 136]
    assert steps[-1].kl == pytest.approx(0.01)


@pytest.mark.parametrize("most", range(72, 140))
def test_a_size_budget_is_kept_and_what_is_left_buys_no_more_of_the_next_upgrade(most: int) -> None:
    found = within_size(MEASURED, most)
    better = [step for step in path(MEASURED.tensors) if step.size_bytes <= most]

    assert found.size_bytes <= most
    assert found.kl <= better[-1].kl


def test_room_that_the_best_upgrade_does_not_fit_into_goes_to_another() -> None:
    assert within_size(MEASURED, 88).types == {"delicate": "q5_0", "robust": "q5_0"}


def test_a_size_below_the_smallest_types_is_refused() -> None:
    with pytest.raises(Refused, match=r"the smallest types take 0\.0 MB more than the budget has room for"):
        within_size(MEASURED, 71)


@pytest.mark.parametrize(("most", "size"), [(0.95, 72), (0.7, 80), (0.1, 104), (0.05, 136)])
def test_a_loss_budget_takes_the_smallest_mixture_between_the_measured_points(most: float, size: int) -> None:
    assert within_perplexity(MEASURED, most).size_bytes == size


def test_a_loss_that_no_mixture_keeps_is_refused_with_the_least_measured() -> None:
    lossy = MEASURED.model_copy(update={"points": POINTS[:2]})

    with pytest.raises(Refused) as caught:
        within_perplexity(lossy, 0.02)
    assert caught.value.message == (
        "no mixture of these types keeps the rise of perplexity within 2.0%: the least measured is 10.0%"
    )
