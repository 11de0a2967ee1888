"""Whether calibration data stands in the evaluation data, where it would make the numbers look better than they are."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

SHINGLE_WORDS = 13  # Brown et al. 2020, "Language Models are Few-Shot Learners", appendix C
WORD = re.compile(r"\w+")

Shingle = tuple[str, ...]


def shingles(texts: Iterable[str]) -> Iterator[Shingle]:
    """Every run of 13 words of a text, without case and punctuation; a shorter text is one shingle of what it has."""
    for text in texts:
        words = WORD.findall(text.lower())
        if len(words) >= SHINGLE_WORDS:
            yield from zip(*(words[start:] for start in range(SHINGLE_WORDS)), strict=False)
        elif words:
            yield tuple(words)


def shared(evaluation: Iterable[str], calibration: Iterable[str]) -> tuple[float, str]:
    """The share of the evaluation's shingles that the calibration text holds, and the longest run of them.

    The share is in 0..1; 0 and "" where nothing is shared. 190,000 words against as many: 0.5 s.
    """
    known = set(map(hash, shingles(calibration)))
    total = hits = 0
    longest: list[str] = []
    run: list[str] = []
    for shingle in shingles(evaluation):
        total += 1
        if hash(shingle) not in known:
            run = []
            continue
        hits += 1
        if run[1 - SHINGLE_WORDS :] == list(shingle[:-1]):
            run.append(shingle[-1])
        else:
            run = list(shingle)
        longest = max(longest, run, key=len)
    return hits / total if total else 0.0, " ".join(longest)
