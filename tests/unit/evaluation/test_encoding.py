from pathlib import Path

import numpy as np
import pytest
from sessions import Table, random_table

from pipelines.evaluation.accuracy import Choices
from pipelines.evaluation.encoding import EncodingRequest, choices, encode
from pipelines.evaluation.questions import Question
from stages.base import Refused
from targets.base import Tokens

SESSION = Table(random_table(200, 0))


class Merging(Table):
    """Two letters are a token, so that one may span the border between question and choice."""

    def encode(self, text: str) -> Tokens:
        pairs = [text[at : at + 2] for at in range(0, len(text), 2)]
        return np.array([sum(map(ord, pair)) % self.vocabulary_size for pair in pairs], dtype=np.int32)


def test_text_and_tasks_become_files_of_tokens(tmp_path: Path) -> None:
    question = Question(prompt="ab", choices=(" c", " de"), answer=1)
    request = EncodingRequest(text="über", tasks={"one": (question,), "two": (question, question)})
    (tmp_path / "request.json").write_text(request.model_dump_json(), encoding="utf-8")
    out = tmp_path / "out"
    out.mkdir()

    encode(SESSION, tmp_path / "request.json", out)

    assert np.load(out / "text.npy").tolist() == SESSION.encode("über").tolist()
    assert sorted(file.name for file in out.iterdir()) == ["task_one.npz", "task_two.npz", "text.npy"]
    assert Choices.load(out / "task_two.npz").question.tolist() == [0, 0, 1, 1]


def test_choices_lie_end_to_end_behind_their_questions() -> None:
    found = choices(SESSION, (Question(prompt="ab", choices=(" c", " de"), answer=1),))

    assert found.tokens.tolist() == SESSION.encode("ab cab de").tolist()
    assert found.ends.tolist() == [4, 9]
    assert found.starts.tolist() == [2, 2]
    assert found.answer.tolist() == [False, True]


def test_token_across_the_border_counts_to_the_choice() -> None:
    found = choices(Merging(random_table(200, 0)), (Question(prompt="abc", choices=(" de", "d"), answer=0),))

    assert found.ends.tolist() == [3, 5]
    assert found.starts.tolist() == [2, 1]


def test_first_token_is_never_the_choices_own() -> None:
    found = choices(SESSION, (Question(prompt="", choices=("ab", "cd"), answer=0),))

    assert found.starts.tolist() == [1, 1]


def test_question_of_one_token_is_refused() -> None:
    with pytest.raises(Refused) as caught:
        choices(Merging(random_table(200, 0)), (Question(prompt="a", choices=("bc", "d"), answer=0),))

    assert caught.value.message == "question 1 with its choice 2 is less than two tokens"
