"""Which of several results no other beats in everything."""

from __future__ import annotations

from collections.abc import Sequence


def front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Places of the points that no other is at most as large as in both and smaller in one, by their first number.

    Less is better in both numbers: negate what should be large. Equal points stay together.
    """
    kept = [
        number
        for number, mine in enumerate(points)
        if not any(all(a <= b for a, b in zip(other, mine, strict=True)) and other != mine for other in points)
    ]
    return sorted(kept, key=lambda number: points[number])
