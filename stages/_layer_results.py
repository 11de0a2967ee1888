"""Finished layers of a long quantization, and the inputs of the one that comes next: written whole or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any


class LayerResults:
    """A folder with `layer-N.safetensors` for every finished layer and `inputs-N.safetensors` for the next one.

    The inputs of the next layer come first: a kill in between leaves a layer that is done again.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def finished(self) -> int:
        """How many layers are done, from the first on."""
        number = 0
        while self._layer(number).is_file():
            number += 1
        return number

    def layer(self, number: int) -> dict[str, Any]:
        """The tensors of a finished layer."""
        from safetensors.torch import load_file

        tensors: dict[str, Any] = load_file(self._layer(number))
        return tensors

    def inputs(self, number: int) -> Any:
        """What comes into a layer behind a finished one, shape (windows, length, width)."""
        from safetensors.torch import load_file

        return load_file(self._inputs(number))["inputs"]

    def keep(self, number: int, tensors: dict[str, Any], inputs: Any) -> None:
        """Keep a layer's result and the next layer's inputs."""
        self._write(self._inputs(number + 1), {"inputs": inputs})
        self._write(self._layer(number), tensors)
        self._inputs(number).unlink(missing_ok=True)

    def _write(self, path: Path, tensors: dict[str, Any]) -> None:
        from safetensors.torch import save_file

        beside = path.with_suffix(".part")
        save_file({name: tensor.contiguous().cpu() for name, tensor in tensors.items()}, beside)
        beside.replace(path)

    def _layer(self, number: int) -> Path:
        return self._folder / f"layer-{number}.safetensors"

    def _inputs(self, number: int) -> Path:
        return self._folder / f"inputs-{number}.safetensors"
