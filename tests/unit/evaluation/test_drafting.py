import pytest

from pipelines.evaluation.drafting import DraftSamples, Turn, draft_metrics, draft_notes, pair_of, sample_draft
from pipelines.measures import DRAFTING
from targets.base import Generated, Speculated


def samples(alone: list[float], drafted: list[float], accepted: tuple[int, ...] = (6, 0, 3)) -> DraftSamples:
    """Three prompts in turn; each drafts 8 tokens of 10."""
    pairs = [
        {
            "prompt": n % 3,
            "alone_s": one,
            "seconds": other,
            "drafted": 8,
            "accepted": accepted[n % 3],
            "steps": 10 - accepted[n % 3],
            "parted": 4 if n % 3 == 1 else None,
        }
        for n, (one, other) in enumerate(zip(alone, drafted, strict=True))
    ]
    return DraftSamples.model_validate(
        {
            "tokens": 4,
            "prompt_tokens": 16,
            "generated": 10,
            "pairs": pairs,
            "stopped": "precision",
            "peak_memory_bytes": (100, 130),
            "notes": ("a tie",),
        }
    )


def test_every_prompt_counts_once_in_what_was_accepted() -> None:
    found = draft_metrics(samples([1.0] * 4, [0.5] * 4), 77, seed=0)

    assert set(found) == DRAFTING
    assert found["draft_acceptance"].value == 9 / 24
    assert found["draft_acceptance"].how.startswith("9 of 24 drafted tokens, at most 4 a step; 10 greedy tokens")
    assert found["draft_tokens_per_step"].value == 30 / 21
    assert found["draft_exact_match"].value == pytest.approx(2 / 3)
    assert found["draft_acceptance"].n == 3
    assert found["draft_acceptance"].low < 9 / 24 < found["draft_acceptance"].high


def test_speed_is_that_of_whole_generations_in_pairs() -> None:
    found = draft_metrics(samples([1.0, 2.0, 4.0], [0.5, 1.0, 2.0]), 77, seed=0)

    assert found["draft_speedup"].interval.model_dump() == {"value": 2, "low": 2, "high": 2}
    assert found["undrafted_tokens_per_s"].value == 5
    assert found["draft_tokens_per_s"].value == 10
    relative = found["draft_tokens_per_s"].relative
    assert relative is not None
    assert relative.value == 1
    assert found["draft_memory_bytes"].value == 30
    assert found["draft_size_bytes"].value == 77


@pytest.mark.parametrize(
    ("drafted", "said"),
    [
        ([0.5, 0.5, 0.5], "2.00x (2.00..2.00x) the speed, 10.0 -> 20.0 tokens/s: it pays"),
        ([2.0, 2.0, 2.0], "0.50x (0.50..0.50x) the speed, 10.0 -> 5.0 tokens/s: it slows the model down"),
        ([0.5, 1.0, 2.0], "1.00x (0.50..2.00x) the speed, 10.0 -> 10.0 tokens/s: no clear difference"),
    ],
)
def test_whichever_way_it_falls_is_told(drafted: list[float], said: str) -> None:
    taken = samples([1.0] * 3, drafted)

    notes = draft_notes(taken, draft_metrics(taken, 77, seed=0))

    assert notes == [f"with the draft model {said}; 37.5% of 4 tokens a step accepted, 1.43 tokens a pass", "a tie"]


def test_every_prompt_has_its_turn_on_both_sides_and_the_last_one_warms_up() -> None:
    asked: list[str] = []

    def alone(number: int) -> Generated:
        asked.append(f"a{number}")
        return Generated((1, 2), (0.3, 0.1))

    def drafted(number: int) -> Speculated:
        asked.append(f"d{number}")
        return Speculated((1, 2), 0.2, 1, 1, 1)

    pairs, stopped = sample_draft(alone, drafted, 4, (2, 3, 0.05, 60.0))

    assert asked == ["a3", "d3", "a0", "d0", "d1", "a1", "a2", "d2", "d3", "a3"]
    assert stopped == "precision"
    assert [pair_of(*pair).alone_s for pair in pairs] == [0.4] * 4


def test_the_first_token_that_differs_is_kept() -> None:
    own = Turn(2, 1.0, (5, 6, 7, 8))

    assert pair_of(own, Turn(2, 1.0, (5, 6, 7, 8), Speculated((5, 6, 7, 8), 1.0, 2, 2, 2))).parted is None
    assert pair_of(own, Turn(2, 1.0, (5, 9, 7, 1), Speculated((5, 9, 7, 1), 1.0, 2, 2, 2))).parted == 1
