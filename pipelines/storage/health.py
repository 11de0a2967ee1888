"""Damage: found by reading objects again, and moved aside so that the steps that made them run again."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from pipelines.progress import Progress
from pipelines.storage.layout import Layout
from stages.base import Frozen


class Damage(Frozen):
    """A damaged object: what is wrong, which keys lost it, where it was moved."""

    digest: str
    message: str
    keys: tuple[str, ...]
    moved: Path | None


def verify(layout: Layout, digests: Iterable[str], progress: Progress) -> list[Damage]:
    """Read every byte of the objects; the damaged ones go to quarantine."""
    found = sorted(digests)
    total = sum(layout.objects.size_bytes(digest) for digest in found)
    done = 0
    with progress.bar("verify", total, "bytes") as bar:

        def read(size: int) -> None:
            nonlocal done
            done += size
            bar.update(done)

        damaged = [digest for digest in found if layout.objects.damage(digest, thorough=True, read=read)]
    return [damage for digest in damaged if (damage := heal(layout, digest, thorough=True))]


def heal(layout: Layout, digest: str, thorough: bool = False) -> Damage | None:
    """Move a damaged object aside and drop its keys, unless another process has repaired it meanwhile."""
    with layout.object_lock(digest):
        message = layout.objects.damage(digest, thorough)
        if not message:
            return None
        keys = tuple(entry.key for entry in layout.entries.all() if entry.digest == digest)
        for key in keys:
            layout.entries.drop(key)
        return Damage(digest=digest, message=message, keys=keys, moved=layout.objects.set_aside(digest))
