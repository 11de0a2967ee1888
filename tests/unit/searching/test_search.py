"""Searches over the dummy target: everything but the tools, and the planner's forecasts, is the real thing."""

import json
from pathlib import Path

import pytest
import yaml
from spaces import Lab, Noisy, Sized

from pipelines.errors import UserError
from pipelines.home import try_lock
from pipelines.searching import carrying
from pipelines.searching.forecast import Forecaster
from pipelines.searching.points import Points
from pipelines.searching.search import Searcher
from pipelines.searching.space import checked
from pipelines.searching.trials import SearchRecord


def noise(record: SearchRecord, number: int) -> float:
    value = record.trial(number).point["steps.2.dummy.noise"]
    assert isinstance(value, float)
    return value


def test_it_finds_the_best_point_within_the_budgets(tmp_path: Path) -> None:
    record = Lab(tmp_path).search()

    assert record.status == "found"
    assert record.chosen is not None
    assert noise(record, record.chosen) in {0.0, 0.01}
    assert record.chosen in record.front
    assert {noise(record, trial.number) for trial in record.trials} == {0.0, 0.01, 0.02, 0.05, 1.5, 3.0}
    assert "is tried or ruled out" in record.stopped


def test_what_is_hopeless_is_given_up_after_a_first_look(tmp_path: Path) -> None:
    record = Lab(tmp_path).search()

    hopeless = [trial for trial in record.trials if noise(record, trial.number) >= 1.5]

    assert {(trial.look, trial.verdict) for trial in hopeless} == {("early", "over budget")}
    assert all("allowed 5.0%" in trial.reason for trial in hopeless)


def test_the_budget_of_trials_ends_it(tmp_path: Path) -> None:
    record = Lab(tmp_path).search(trials=2)

    assert len(record.trials) == 2
    assert record.stopped == "the budget of 2 trials is spent"


def test_the_budget_of_minutes_ends_it(tmp_path: Path) -> None:
    record = Lab(tmp_path).search(minutes=1e-9)

    assert len(record.trials) == 0
    assert "minutes is spent" in record.stopped
    assert record.status == "nothing within budget"


def test_the_same_seed_tries_the_same_points(tmp_path: Path) -> None:
    tried = []
    for number in range(2):
        folder = tmp_path / str(number)
        folder.mkdir()
        tried.append([trial.point for trial in Lab(folder).search(seed=7, trials=4).trials])

    assert tried[0] == tried[1]


def test_it_goes_on_where_it_ended(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    first, whole = lab.search(trials=2), lab.search()

    assert whole.trials[:2] == first.trials
    assert len(whole.trials) == 6
    made = len(lab.made)
    assert lab.search().trials == whole.trials
    assert len(lab.made) == made + 1  # the source alone


def test_afresh_forgets_the_trials(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    lab.search(trials=3)

    assert len(lab.search(trials=2, afresh=True).trials) == 2


def test_an_interrupt_ends_it_with_what_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lab, calls = Lab(tmp_path), []
    real = carrying.Pipeline.run

    def run(pipeline: carrying.Pipeline) -> None:
        calls.append(pipeline)
        if len(calls) == 4:
            raise KeyboardInterrupt
        real(pipeline)

    with monkeypatch.context() as patch:
        patch.setattr(carrying.Pipeline, "run", run)
        record = lab.search()

    assert record.status == "interrupted"
    assert 1 <= len(record.trials) <= 3
    assert lab.search().trials[: len(record.trials)] == record.trials


def test_a_point_that_fails_is_a_trial_and_the_search_goes_on(tmp_path: Path) -> None:
    search = "search: {space: {steps.2.dummy.fail: ['', refuse]}, objectives: [perplexity]}\n"

    record = Lab(tmp_path, search).search()

    assert sorted(trial.verdict for trial in record.trials) == ["failed", "passed"]
    assert record.status == "found"
    assert "told to refuse" in "".join(trial.reason for trial in record.trials)


def test_trials_share_what_the_store_has(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    lab.search()

    stages = [entry.stage for entry in lab.bench.workshop().store.ls()]

    assert stages.count("source") == 1
    assert stages.count("dummy") == 6  # the first step once, which is the second without noise; five noisy ones


PADDED = """search:
  space: {steps.2.dummy.noise: [0.0, 1.5], steps.2.dummy.padding_bytes: [0, 20000, 40000, 60000, 80000]}
  exclude: [{steps.2.dummy.padding_bytes: 0, steps.2.dummy.noise: 0.0}]
  objectives: [size_bytes]
  first_windows: 2
"""


@pytest.mark.parametrize("seed", range(4))
def test_of_what_waits_for_its_whole_evaluation_the_smallest_alone_gets_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setattr(Forecaster, "of", lambda *_: Sized())

    record = Lab(tmp_path, PADDED).search(seed=seed)

    whole = [trial for trial in record.trials if trial.look == "full"]
    assert [trial.number for trial in whole] == [record.chosen]
    assert whole[0].point == {"steps.2.dummy.noise": 0.0, "steps.2.dummy.padding_bytes": 20000}
    assert len(record.trials) == 9
    assert len({trial.number for trial in record.trials}) == 9
    assert all(trial.reason for trial in record.trials if trial is not whole[0])


def test_the_planner_s_own_point_is_the_middle_by_size_of_those_that_are_left(tmp_path: Path) -> None:
    space = Lab(tmp_path, PADDED).space()
    points = Points(space, checked(space), Sized())  # type: ignore[arg-type]
    found = points.halfway(list(points), "size_bytes")

    assert points[found]["steps.2.dummy.padding_bytes"] == 40000
    small = [key for key in points if points[key]["steps.2.dummy.padding_bytes"] in (20000, 0)]
    assert points[points.halfway(small, "size_bytes")]["steps.2.dummy.padding_bytes"] == 20000


def test_what_fails_its_whole_evaluation_gives_way_to_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over a budget that a first look does not measure: the smaller point has to be tried, and is not chosen."""
    monkeypatch.setattr(Forecaster, "of", lambda *_: Sized())
    space = "{steps.2.dummy.noise: [0.0, 0.02], steps.2.dummy.padding_bytes: [0, 40000]}"
    exclude = "[{steps.2.dummy.noise: 0.0, steps.2.dummy.padding_bytes: 0}]"
    lab = Lab(tmp_path, f"search: {{space: {space}, exclude: {exclude}, objectives: [size_bytes], first_windows: 2}}\n")
    text = lab.bench.config.read_text()
    lab.bench.config.write_text(text.replace("budgets:\n", "budgets:\n  - {metric: kl_divergence, max: 0.00001}\n"))

    record = lab.search()

    assert record.chosen is not None
    smaller = next(trial for trial in record.trials if trial.point["steps.2.dummy.padding_bytes"] == 0)
    assert (smaller.look, smaller.verdict) == ("full", "over budget")
    assert all(trial.look == "full" for trial in record.trials)
    assert record.trial(record.chosen).point == {"steps.2.dummy.noise": 0.0, "steps.2.dummy.padding_bytes": 40000}


def test_minutes_leave_time_for_the_whole_evaluation_of_what_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Forecaster, "of", lambda *_: Sized())
    lab = Lab(tmp_path, PADDED)
    monkeypatch.setattr(Searcher, "_spent", lambda its: 60.0 * len(its.made) + 60.0)

    record = lab.search(minutes=2.5)

    assert "minutes is spent" in record.stopped
    assert [trial.verdict for trial in record.trials if trial.look != "none"].count("passed") <= 1
    assert all(trial.verdict != "pruned" or trial.reason for trial in record.trials)


def test_what_the_planner_rules_out_is_never_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lab = Lab(tmp_path, "search: {space: {steps.2.dummy.noise: [0.0, 0.01, 0.02, 0.05]}, objectives: [size_bytes]}\n")
    monkeypatch.setattr(Forecaster, "of", lambda *_: Noisy())

    text = lab.bench.config.read_text()
    lab.bench.config.write_text(text.replace("budgets:\n", "budgets:\n  - {metric: size_bytes, max: 970 kB}\n"))
    record = lab.search()

    ruled = [trial for trial in record.trials if trial.look == "none"]
    assert {noise(record, trial.number) for trial in ruled} >= {0.0, 0.01}
    assert all("planner: size_bytes" in trial.reason and trial.verdict == "pruned" for trial in ruled)
    assert not any("noise: 0.01" in text for text in lab.made)


def test_record_picture_and_chosen_config_are_left_at_home(tmp_path: Path) -> None:
    record = Lab(tmp_path).search()

    assert record.folder is not None
    assert json.loads((record.folder / "search.json").read_text())["chosen"] == record.chosen
    assert (record.folder / "front.png").read_bytes().startswith(b"\x89PNG")
    chosen = yaml.safe_load((record.folder / "chosen.yaml").read_text())
    assert "search" not in chosen
    assert Path(chosen["source"]["path"]).is_absolute()
    assert Path(chosen["data"]["evaluation"]["path"]).is_file()


def test_two_searches_of_one_study_exclude_each_other(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    folder = lab.search(trials=1).folder
    assert folder is not None

    with try_lock(folder / "lock"), pytest.raises(UserError, match="another search of this config"):
        lab.search()
