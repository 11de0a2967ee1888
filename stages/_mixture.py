"""Which type each tensor gets: the choice that loses least for its size, one step a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path

from stages._gguf_types import TensorType
from stages.base import Frozen, Refused

KIND = "sensitivity"
FILE = "sensitivity.json"


class Choice(Frozen):
    """A type that a tensor may have: what it takes and what it is expected to cost, in nats of KL divergence."""

    type: TensorType
    size_bytes: int
    kl: float


class TensorSensitivity(Frozen):
    """A tensor and its choices. The loss of `probe` was measured, the others' are scaled from it by their errors."""

    name: str
    elements: int
    probe: str
    choices: tuple[Choice, ...]


class PathPoint(Frozen):
    """A place on the path from the smallest file to the largest, where the loss of the whole was measured."""

    steps: int
    size_bytes: int
    kl_expected: float
    kl: float
    perplexity_change: float


class Sensitivity(Frozen):
    """What each tensor's types cost, and what some whole mixtures cost; `size_bytes` counts these tensors alone."""

    tokens: int
    held_out_tokens: int
    imatrix_tokens: int
    tensors: tuple[TensorSensitivity, ...]
    points: tuple[PathPoint, ...] = ()

    @classmethod
    def load(cls, folder: Path) -> Sensitivity:
        """Read the one file of a `sensitivity` artifact."""
        return cls.model_validate_json((folder / FILE).read_text(encoding="utf-8"))

    def save(self, folder: Path) -> None:
        """Write it into an empty folder."""
        (folder / FILE).write_text(self.model_dump_json(indent=1), encoding="utf-8")


class Mixture(Frozen):
    """A type by tensor name, with the bytes that they take together and the KL divergence that is expected of them."""

    types: dict[str, TensorType]
    size_bytes: int
    kl: float


class _Upgrade(Frozen):
    name: str
    before: Choice
    after: Choice

    @property
    def bytes(self) -> int:
        return self.after.size_bytes - self.before.size_bytes

    @property
    def gain(self) -> float:
        """Nats a byte."""
        return (self.before.kl - self.after.kl) / self.bytes


def hull(choices: Iterable[Choice]) -> list[Choice]:
    """The choices worth considering, smallest first: each gains less a byte than the one before."""
    kept: list[Choice] = []
    for choice in sorted(choices, key=lambda choice: (choice.size_bytes, choice.kl)):
        if kept and choice.kl >= kept[-1].kl:
            continue
        while len(kept) > 1 and _slope(kept[-2], choice) >= _slope(kept[-2], kept[-1]):
            kept.pop()
        kept.append(choice)
    return kept


def _slope(smaller: Choice, larger: Choice) -> float:
    return (smaller.kl - larger.kl) / (larger.size_bytes - smaller.size_bytes)


def path(tensors: Iterable[TensorSensitivity]) -> Iterator[Mixture]:
    """Mixtures from the smallest to the largest; each step raises the one tensor that gains most a byte."""
    chosen, upgrades = _ladder(tensors)
    yield _mixture(chosen)
    for upgrade in upgrades:
        chosen[upgrade.name] = upgrade.after
        yield _mixture(chosen)


def _ladder(tensors: Iterable[TensorSensitivity]) -> tuple[dict[str, Choice], list[_Upgrade]]:
    """The smallest choice of each tensor, and every upgrade, the one that gains most a byte first."""
    hulls = {tensor.name: hull(tensor.choices) for tensor in tensors}
    upgrades = [
        _Upgrade(name=name, before=before, after=after)
        for name, choices in hulls.items()
        for before, after in pairwise(choices)
    ]
    smallest = {name: choices[0] for name, choices in hulls.items()}
    return smallest, sorted(upgrades, key=lambda upgrade: (-upgrade.gain, upgrade.name))


def _mixture(chosen: dict[str, Choice]) -> Mixture:
    return Mixture(
        types={name: choice.type for name, choice in chosen.items()},
        size_bytes=sum(choice.size_bytes for choice in chosen.values()),
        kl=sum(choice.kl for choice in chosen.values()),
    )


def within_size(sensitivity: Sensitivity, most_bytes: int) -> Mixture:
    """The mixture of at most so many bytes that is expected to lose least: the path as far as it fits, then what still
    fits of the upgrades behind.

    Raises:
        Refused: even the smallest types take more.
    """
    chosen, upgrades = _ladder(sensitivity.tensors)
    left = most_bytes - sum(choice.size_bytes for choice in chosen.values())
    if left < 0:
        raise Refused(
            f"the smallest types take {-left / 1e6:.1f} MB more than the budget has room for",
            "raise `size_mb`, or allow smaller `types` in `measure_sensitivity`",
        )
    for upgrade in upgrades:
        if upgrade.bytes <= left and chosen[upgrade.name] == upgrade.before:
            chosen[upgrade.name], left = upgrade.after, left - upgrade.bytes
    return _mixture(chosen)


def within_perplexity(sensitivity: Sensitivity, most_change: float) -> Mixture:
    """The smallest mixture of the path whose perplexity, between the measured points, rises by at most that share.

    Raises:
        Refused: even the largest types lose more.
    """
    import numpy as np

    points = sorted(sensitivity.points, key=lambda point: point.size_bytes)
    sizes, changes = [p.size_bytes for p in points], [p.perplexity_change for p in points]
    for mixture in path(sensitivity.tensors):
        if points and float(np.interp(mixture.size_bytes, sizes, changes)) <= most_change:
            return mixture
    raise Refused(
        f"no mixture of these types keeps the rise of perplexity within {most_change:.1%}: the least measured is "
        f"{min(changes, default=float('nan')):.1%}",
        "allow larger `types` in `measure_sensitivity`",
    )
