"""What a training leaves on disk as it goes: the checkpoint that it can go on from, and its best weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

_STATE, _BEST = "checkpoint.pt", "best.pt"


@dataclass(frozen=True)
class TrainingFiles:
    """Of a module in a folder. Of several processes that train together one `writes`, and all of them read."""

    module: Any
    folder: Path
    writes: bool = True

    def keep(self, optimizer: Any, further: dict[str, Any]) -> None:
        """Write a checkpoint."""
        self._write({"module": self._weights(), "optimizer": optimizer.state_dict(), **further}, _STATE)

    def resumed(self, optimizer: Any) -> dict[str, Any] | None:
        """Put the last checkpoint into module and optimizer; what else it holds, or None where there is none."""
        if not (self.folder / _STATE).is_file():
            return None
        held = self._read(_STATE)
        self.module.load_state_dict(held.pop("module"), strict=False)
        optimizer.load_state_dict(held.pop("optimizer"))
        return held

    def keep_best(self) -> None:
        """Write the weights as they are now."""
        self._write(self._weights(), _BEST)

    def restore_best(self) -> None:
        """Put them back into the module."""
        self.module.load_state_dict(self._read(_BEST), strict=False)

    def _weights(self) -> dict[str, Any]:
        """What steps change: frozen weights are where they came from, and beside adapters they are nearly all."""
        named = self.module.named_parameters(remove_duplicate=False)
        frozen = {name for name, weights in named if not weights.requires_grad}
        return {name: value for name, value in self.module.state_dict().items() if name not in frozen}

    def _read(self, name: str) -> dict[str, Any]:
        import torch

        held: dict[str, Any] = torch.load(self.folder / name, weights_only=True, map_location="cpu")
        return held

    def _write(self, held: Any, name: str) -> None:
        """Whole or not at all: a kill between the two leaves what was there."""
        import torch

        if not self.writes:
            return
        beside = self.folder / f"{name}.new"
        torch.save(held, beside)
        beside.replace(self.folder / name)
