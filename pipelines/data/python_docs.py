"""The data that every machine has: the topics of Python's language reference, as `help()` shows them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Literal

from pipelines.data.overlap import Shingle, shingles

Split = Literal["calibration", "evaluation"]


@cache
def python_docs(split: Split) -> tuple[str, ...]:
    """One half of the topics of `pydoc_data.topics`, in the order of their names; the halves share no passage.

    The text differs between Python's releases, patch releases included; its digest tells them apart.
    """
    from pydoc_data.topics import topics

    return tuple(text.strip() for _, text in sorted(halves(topics)[split].items()))


def halves(topics: Mapping[str, str]) -> dict[Split, dict[str, str]]:
    """Split topics in two of about the same size so that no passage of 13 words stands in both.

    The reference repeats itself: "specialnames" holds ten other topics whole, "compound" nine. A topic of which half
    stands in longer ones is left out; those that still share a passage stay together; then each group, longest first,
    goes to the half that is shorter so far.
    """
    groups = _groups(topics)
    found: dict[Split, dict[str, str]] = {"evaluation": {}, "calibration": {}}
    for group in sorted(groups, key=lambda names: (-sum(len(topics[name]) for name in names), min(names))):
        half = min(found, key=lambda split: sum(map(len, found[split].values())))
        found[half] |= {name: topics[name] for name in group}
    return found


def _groups(topics: Mapping[str, str]) -> list[set[str]]:
    """Topics that share a passage, transitively, without those that longer ones repeat."""
    group_of: dict[str, set[str]] = {}
    owner: dict[Shingle, str] = {}
    for name in sorted(topics, key=lambda name: (-len(topics[name]), name)):
        passages = list(shingles([topics[name]]))
        owners = [owner[passage] for passage in passages if passage in owner]
        if 2 * len(owners) > len(passages):
            continue
        group_of[name] = {name}.union(*(group_of[other] for other in owners))
        for other in group_of[name]:
            group_of[other] = group_of[name]
        owner |= {passage: name for passage in passages if passage not in owner}
    return [group for name, group in group_of.items() if name == min(group)]
