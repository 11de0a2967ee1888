"""A teacher's most likely next tokens for every window of a text, asked once and kept on disk, shard by shard."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages._distillation import Said, said

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_SHARD = 8  # windows a call of the teacher, and a file
Moved = Callable[[float, float, str], None]


class TeacherText:
    """What the teacher said of windows of shape (n, length); a kill loses one shard at most."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._read: dict[int, Any] = {}

    @classmethod
    def asked(
        cls,
        folder: Path,
        teacher: Callable[[], Any],
        windows: NDArray[np.int64],
        top_k: int,
        temperature: float,
        moved: Moved,
    ) -> TeacherText:
        """Ask for what is not there yet; the teacher is loaded only for that."""
        import torch

        missing = [start for start in range(0, len(windows), _SHARD) if not _file(folder, start).is_file()]
        if not missing:
            return cls(folder)
        network = teacher()
        for number, start in enumerate(missing):
            moved(number, len(missing), "parts of the text, by the teacher")
            with torch.inference_mode():
                given = torch.from_numpy(windows[start : start + _SHARD])
                answers = said(network(given, use_cache=False).logits[:, :-1], top_k, temperature)
            _keep(answers, _file(folder, start))
        return cls(folder)

    def of(self, rows: NDArray[np.int64]) -> Said:
        """For these windows, in their order: ids and log-probabilities of shape (rows, length - 1, k)."""
        import torch

        places = [divmod(int(row), _SHARD) for row in rows]
        found = [[held[place] for held in self._shard(shard * _SHARD)] for shard, place in places]
        ids, logp = zip(*found, strict=True)
        return Said(torch.stack(ids).long(), torch.stack(logp))

    def _shard(self, start: int) -> Any:
        import torch

        if start not in self._read:
            held = torch.load(_file(self._folder, start), weights_only=True, mmap=True)
            self._read[start] = held["ids"], held["logp"]
        return self._read[start]


def _file(folder: Path, start: int) -> Path:
    return folder / f"teacher-{start:07}.pt"


def _keep(answers: Said, file: Path) -> None:
    import torch

    beside = file.with_suffix(".new")
    torch.save({"ids": answers.ids.to(torch.int32), "logp": answers.logp}, beside)
    beside.replace(file)
