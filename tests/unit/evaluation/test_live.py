import json
from pathlib import Path

import numpy as np
import pytest
from pydantic import JsonValue
from sessions import Table, random_table

from pipelines.evaluation.accuracy import log_likelihoods
from pipelines.evaluation.encoding import choices
from pipelines.evaluation.live import METHODS, Live
from pipelines.evaluation.questions import Question
from pipelines.evaluation.scores import Scores, score
from stages.base import Artifact, Refused
from targets.dummy import Dummy, write_model

VOCABULARY = 40
Move = tuple[float, float, str]


@pytest.fixture
def moved() -> list[Move]:
    return []


@pytest.fixture
def session() -> Table:
    return Table(random_table(VOCABULARY, 0))


@pytest.fixture
def live(session: Table, moved: list[Move]) -> Live:
    opened = Live.opened(lambda: session, 2, lambda done, total, what: moved.append((done, total, what)))
    assert isinstance(opened, Live)
    return opened


def test_facts_are_the_vocabulary_and_the_seconds_to_open(live: Live) -> None:
    facts = live.facts()

    assert facts["vocabulary_size"] == VOCABULARY
    assert isinstance(facts["load_s"], float)
    assert 0 <= facts["load_s"] < 1


def test_windows_are_cut_one_after_the_other_and_scored(
    tmp_path: Path, live: Live, session: Table, moved: list[Move]
) -> None:
    text = np.random.default_rng(0).integers(0, VOCABULARY, 100, dtype=np.int32)
    np.save(tmp_path / "text.npy", text)
    files = {"tokens": str(tmp_path / "text.npy"), "out": str(tmp_path / "scores.npz")}

    live.answer("score", {**files, "first": 1, "last": 4, "window": 20, "top_k": 3, "reference": None})

    expected = score(session, text[20:80].reshape(3, 20), 3)
    found = Scores.load(tmp_path / "scores.npz")
    np.testing.assert_array_equal(found.logp, expected.logp)
    np.testing.assert_array_equal(found.top_ids, expected.top_ids)
    assert moved == [(1, 3, "windows"), (2, 3, "windows"), (3, 3, "windows")]


def test_candidate_is_scored_on_the_tokens_of_the_references_file(tmp_path: Path, live: Live) -> None:
    text = np.random.default_rng(0).integers(0, VOCABULARY, 40, dtype=np.int32)
    np.save(tmp_path / "text.npy", text)
    reference = score(Table(random_table(VOCABULARY, 9)), text.reshape(2, 20), 3)
    reference.save(tmp_path / "reference.npz")
    files = {
        "tokens": str(tmp_path / "text.npy"),
        "out": str(tmp_path / "scores.npz"),
        "reference": str(tmp_path / "reference.npz"),
    }

    live.answer("score", {**files, "first": 0, "last": 2, "window": 20, "top_k": 3})

    np.testing.assert_array_equal(Scores.load(tmp_path / "scores.npz").top_ids, reference.top_ids)


def test_texts_are_tokenized_and_choices_weighed(tmp_path: Path, live: Live, session: Table) -> None:
    question = Question(prompt="ab", choices=(" c", " de"), answer=1)
    request = {"text": "words", "tasks": {"one": [question.model_dump()]}}
    (tmp_path / "request.json").write_text(json.dumps(request))

    live.answer("encode", {"request": str(tmp_path / "request.json"), "out": str(tmp_path)})
    live.answer("choose", {"choices": str(tmp_path / "task_one.npz"), "out": str(tmp_path / "found.npy")})

    expected = log_likelihoods(session, choices(session, (question,)))
    np.testing.assert_array_equal(np.load(tmp_path / "found.npy"), expected)


def test_generation_survives_json(live: Live, session: Table) -> None:
    answer = live.answer("generate", {"prompt": [3, 1], "n": 4})

    assert json.loads(json.dumps(answer)) == {
        "tokens": list(session.generate(np.array([3, 1]), 4).tokens),
        "seconds": [0.01, 0.02, 0.03, 0.04],
    }


@pytest.mark.parametrize(
    ("method", "arguments"),
    [
        ("load_draft", {"draft": {"kind": "dummy", "path": "x", "digest": "0"}, "tokens": 4}),
        ("speculate", {"prompt": [1], "n": 4}),
        ("tie", {"sequence": [1], "prompt": 1, "one": 1, "other": 2}),
    ],
)
def test_a_session_without_speculation_refuses_a_draft(
    live: Live, method: str, arguments: dict[str, JsonValue]
) -> None:
    with pytest.raises(Refused, match="this target's sessions take no draft model"):
        live.answer(method, arguments)


def test_speculation_survives_json(tmp_path: Path) -> None:
    write_model(tmp_path, "the quick brown fox. " * 9)
    model = Artifact(kind="dummy", path=tmp_path, digest="0")
    live = Live.opened(lambda: Dummy().open(model, 1, 64), 1, lambda *_: None)

    live.answer("load_draft", {"draft": model.model_dump(mode="json"), "tokens": 4})
    made = live.answer("speculate", {"prompt": [3, 1], "n": 6})

    assert isinstance(made, dict)
    own = live.answer("generate", {"prompt": [3, 1], "n": 6})
    assert isinstance(own, dict)
    assert json.loads(json.dumps(made))["tokens"] == own["tokens"]
    assert {name: made[name] for name in ("drafted", "accepted", "steps")} == {"drafted": 4, "accepted": 4, "steps": 2}
    assert live.answer("tie", {"sequence": [3, 1], "prompt": 1, "one": 5, "other": 5}) == {"gap": 0.0, "noise": 0.0}


def test_memory_is_told_and_the_session_closed(live: Live, session: Table) -> None:
    peak = live.answer("peak_memory", {})

    assert isinstance(peak, int)
    assert peak > 10_000_000
    assert live.answer("forget_peak_memory", {}) in {True, False}
    assert not session.closed
    live.answer("close", {})
    assert session.closed


@pytest.mark.parametrize("method", ["facts", "answer", "opened", "__init__", "_session", ""])
def test_only_the_named_calls_are_answered(live: Live, method: str) -> None:
    with pytest.raises(ValueError, match="no such call"):
        live.answer(method, {})


def test_every_named_call_is_there(live: Live) -> None:
    assert all(callable(getattr(live, method)) for method in METHODS)


def test_session_that_takes_neither_text_nor_arrays_is_refused() -> None:
    class Images:
        def run(self, inputs: object) -> object:
            return inputs

        def close(self) -> None:
            pass

    with pytest.raises(Refused) as caught:
        Live.opened(Images, 1, lambda *_: None)  # type: ignore[arg-type]

    assert caught.value.message == (
        "this target's sessions take neither text nor arrays, so that nothing of them can be measured"
    )
