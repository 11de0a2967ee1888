from pathlib import Path

import numpy as np
import pytest

from stages._inputs import first, load
from stages._tokens import IDS, MASK, Tokens
from stages.base import Refused


def tokens() -> Tokens:
    mask = np.array([[1, 1, 0, 0], [1, 1, 1, 0], [1, 0, 0, 0]], dtype=np.int64)
    return Tokens(ids=np.arange(12).reshape(3, 4) * mask, mask=mask, documents=2, relevant=np.array([1]))


def test_rows_are_cut_to_the_longest_of_them() -> None:
    fed = tokens().feed(np.array([0, 2]), (IDS, MASK))

    assert fed[IDS].tolist() == [[0, 1], [8, 0]]
    assert fed[MASK].tolist() == [[1, 1], [1, 0]]
    assert fed[IDS].dtype == np.int64


def test_only_what_the_model_takes_is_fed() -> None:
    assert list(first(tokens(), 2, [MASK])) == [MASK]
    with pytest.raises(Refused, match="texts fill input_ids and attention_mask, not token_type_ids"):
        tokens().feed(np.array([0]), (IDS, "token_type_ids"))


def test_they_come_back_from_disk_as_they_were(tmp_path: Path) -> None:
    tokens().save(tmp_path)
    again = load(tmp_path)

    assert isinstance(again, Tokens)
    assert (len(again), again.documents, again.what) == (3, 2, "texts")
    assert again.ids.tolist() == tokens().ids.tolist()
    assert again.relevant.tolist() == [1]
