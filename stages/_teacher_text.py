"""A teacher's most likely next tokens for every window of a text, asked once and kept on disk, shard by shard."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages._distillation import Said, said
from stages._team import ALONE, Team

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
        width: int,
        top_k: int,
        temperature: float,
        moved: Moved,
        team: Team = ALONE,
    ) -> TeacherText:
        """Ask for what is not there yet, each process of a team for its share; the teacher is loaded only for that.

        `width` is that of the student's logits: of a teacher's that is wider the fillers at the end do not count.
        """
        own = team.share(range(0, len(windows), _SHARD))
        if missing := [start for start in own if not _file(folder, start).is_file()]:
            network = teacher()
            for number, start in enumerate(missing):
                moved(number, len(missing), "parts of the text, by the teacher")
                answers = _answers(network, windows[start : start + _SHARD], width, top_k, temperature, team.device)
                _keep(answers, _file(folder, start))
        team.wait()
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


def _answers(network: Any, windows: NDArray[np.int64], width: int, top_k: int, temperature: float, device: str) -> Said:
    import torch

    with torch.inference_mode():
        given = torch.from_numpy(windows).to(device)
        return said(network(given, use_cache=False).logits[:, :-1, :width], top_k, temperature)


def _keep(answers: Said, file: Path) -> None:
    import torch

    beside = file.with_suffix(".new")
    torch.save({"ids": answers.ids.to("cpu", torch.int32), "logp": answers.logp.cpu()}, beside)
    beside.replace(file)
