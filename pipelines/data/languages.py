"""Whether two texts are in one language, by how often they use each run of three letters.

Cavnar and Trenkle 1994, "N-Gram-Based Text Categorization"; here by the cosine of the counts.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence

LEAST_ALIKE = 0.4
"""English prose and English prose: 0.9 to 0.99 over whole texts, 0.45 and more where one is of 2,000 characters;
English against German, French, Dutch, Spanish: 0.2 to 0.3."""
LEAST_CHARACTERS = 2000
SAMPLE = 100_000
"""Characters that are looked at, in pieces spread over the whole text."""
_PIECES = 20
_WORD = re.compile(r"[^\W\d_]+")


def likeness(one: Sequence[str], other: Sequence[str]) -> float:
    """0 for texts that share no run of three letters, 1 for the same mixture of them."""
    mine, theirs = _trigrams(one), _trigrams(other)
    product = sum(count * theirs[run] for run, count in mine.items())
    size = math.sqrt(sum(n * n for n in mine.values()) * sum(n * n for n in theirs.values()))
    return product / size if size else 0.0


def another_language(evaluation: Sequence[str], other: Sequence[str]) -> float | None:
    """How alike the texts are where that is too little for one language; None where it is not, or one is too short."""
    if min(sum(map(len, texts)) for texts in (evaluation, other)) < LEAST_CHARACTERS:
        return None
    alike = likeness(evaluation, other)
    return alike if alike < LEAST_ALIKE else None


def _trigrams(texts: Sequence[str]) -> Counter[str]:
    found: Counter[str] = Counter()
    for word in _WORD.findall(_sample("\n".join(texts)).lower()):
        padded = f" {word} "
        found.update(padded[start : start + 3] for start in range(len(padded) - 2))
    return found


def _sample(text: str) -> str:
    if len(text) <= SAMPLE:
        return text
    step, length = len(text) // _PIECES, SAMPLE // _PIECES
    return "\n".join(text[start : start + length] for start in range(0, _PIECES * step, step))
