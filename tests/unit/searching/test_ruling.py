"""What the planner and earlier points rule out, and what they leave alone."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "pipelines"))
sys.path.insert(0, str(Path(__file__).parent.parent / "planner"))
from questions import decoder
from samples import run_record

from configs import RIGHT, Folder
from pipelines.budget import Budget
from pipelines.measures import Interval
from pipelines.planner.calibrations import Calibrations
from pipelines.planner.hardware import find
from pipelines.searching.forecast import Forecaster
from pipelines.searching.results import picture, told
from pipelines.searching.ruling import Ruling, comparable, family
from pipelines.searching.trials import CHANGE, Forecast, Look, SearchRecord, Trial, Verdict, best, front

BUDGETS = (
    Budget(metric="perplexity", max_regression=0.05, relative=True),
    Budget(metric="size_bytes", max=120e6),
)
RULING = Ruling(BUDGETS, ("size_bytes",))


def trial(
    number: int, kind: str, size: float, change: float, verdict: Verdict = "passed", look: Look = "full"
) -> Trial:
    figures = {
        "size_bytes": Interval(value=size, low=size, high=size),
        "perplexity": Interval(value=20 * (1 + change), low=19, high=21),
        CHANGE: Interval(value=change, low=change - 0.01, high=change + 0.01),
    }
    expected = Forecast(size_bytes=size)
    return Trial(number=number, point={"type": kind}, label=kind, verdict=verdict, look=look, figures=figures,
                 forecast=expected)  # fmt: skip


def test_a_size_beyond_the_budget_is_ruled_out_by_more_than_the_planners_error() -> None:
    assert RULING.why({"type": "q8_0"}, Forecast(size_bytes=122e6), []) == ""
    assert RULING.why({"type": "q8_0"}, Forecast(size_bytes=145e6), []) == (
        "planner: size_bytes 142 MB at least > 120 MB"
    )


def test_half_of_a_prior_over_the_budget_rules_out() -> None:
    lossy = Forecast(size_bytes=90e6, perplexity_change=0.12, prior="measured elsewhere")

    assert "+6.0% at least > 5.0% allowed: half of the prior (measured elsewhere)" in RULING.why({}, lossy, [])
    assert RULING.why({}, lossy.model_copy(update={"perplexity_change": 0.08}), []) == ""


def test_more_bits_that_lost_twice_the_budget_rule_out_fewer_of_the_same_family() -> None:
    lost = [trial(1, "q4_k_m", 105e6, 0.13, "over budget", "early")]

    why = RULING.why({"type": "q3_k_m"}, Forecast(size_bytes=93e6), lost)

    assert "half of what trial 1 lost with more bits" in why
    assert RULING.why({"type": "q4_1"}, Forecast(size_bytes=98e6), lost) == ""
    assert RULING.why({"type": "q5_k_m"}, Forecast(size_bytes=112e6), lost) == ""


def test_what_a_passed_point_beats_even_at_best_is_ruled_out() -> None:
    passed = [trial(3, "q4_k_m", 105e6, 0.03)]

    assert RULING.why({"type": "q6_k"}, Forecast(size_bytes=110e6), passed) == (
        "planner: size_bytes 108 MB at best, trial 3 is better"
    )
    assert RULING.why({"type": "q4_k_s"}, Forecast(size_bytes=106e6), passed) == ""
    assert RULING.why({"type": "q6_k"}, Forecast(), passed) == ""


def test_a_second_objective_keeps_larger_points_in_play() -> None:
    passed = [trial(3, "q4_k_m", 105e6, 0.03)]

    assert Ruling(BUDGETS, ("size_bytes", "perplexity")).why({"type": "q5_1"}, Forecast(size_bytes=112e6), passed) == ""


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ({"t": "q4_k_m", "i": True}, {"t": "q3_k_l", "i": True}, True),
        ({"t": "q4_k_m", "i": True}, {"t": "q3_k_l", "i": False}, False),
        ({"t": "q4_k_m"}, {"t": "iq4_nl"}, False),
        ({"t": "q4_0"}, {"t": "q4_1"}, False),
        ({"bits": 8}, {"bits": 4}, True),
        ({"on": True}, {"on": False}, False),
    ],
)
def test_only_points_that_differ_in_bits_alone_compare(one: dict, other: dict, same: bool) -> None:  # type: ignore[type-arg]
    assert comparable(one, other) is same


def test_families_of_gguf_types() -> None:
    assert [family(kind) for kind in ("q4_k_m", "iq3_xxs", "q5_1", "q8_0", "gptq")] == [
        "k", "iq", "legacy 1", "legacy 0", "",
    ]  # fmt: skip


def test_sizes_of_gguf_points_are_forecast_within_a_thousandth(tmp_path: Path) -> None:
    forecaster = Forecaster(decoder("smollm2-135m"), find("avx512-vnni-40c"), Calibrations())

    for kind, measured in (("q6_k", 138.382688e6), ("q4_k_m", 105.45392e6), ("q2_k", 88.201568e6)):  # bench/results
        text = RIGHT.replace("q4_k_m", kind)
        expected = forecaster.forecast(Folder(tmp_path).parse(text).config)
        assert expected.size_bytes == pytest.approx(measured, rel=1e-3)


def test_best_is_the_least_in_the_first_objective_of_what_passed_in_full() -> None:
    trials = [trial(1, "a", 100e6, 0.01), trial(2, "b", 90e6, 0.04), trial(3, "c", 80e6, 0.2, "over budget"),
              trial(4, "d", 85e6, 0.01, "pruned", "early"), trial(5, "e", 101e6, 0.02)]  # fmt: skip

    assert (found := best(trials, ("size_bytes",))) is not None
    assert found.number == 2
    assert [item.number for item in front(trials, ("size_bytes", "perplexity"))] == [2, 1]


def test_a_point_of_the_picture_tells_its_speed_where_it_was_measured() -> None:
    slow = trial(1, "a", 100e6, 0.01)
    speed = Interval(value=6.304, low=6, high=7)

    assert told(slow) == "a"
    assert told(slow.model_copy(update={"figures": {**slow.figures, "tbt_p50_ms": speed}})) == "a, 6.3 ms"


def test_a_search_over_embeddings_has_a_picture() -> None:
    agreement = {"cosine_agreement": Interval(value=0.99, low=0.98, high=1.0)}
    trials = [
        one.model_copy(update={"figures": {"size_bytes": one.figures["size_bytes"], **agreement}})
        for one in (trial(1, "a", 100e6, 0.01), trial(2, "b", 90e6, 0.01))
    ]
    record = SearchRecord(
        name="encoder", config_path="a.yaml", config_digest="", config_text="", status="found", space=2, right=2,
        objectives=("size_bytes",), seed=0, trials=tuple(trials), front=(1, 2), chosen=2, device=run_record().device,
    )  # fmt: skip

    assert (picture(record, None) or b"").startswith(b"\x89PNG")
