"""Labelled examples on disk: what vision models are calibrated and measured on, prepared the same way everywhere."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from stages.base import Frozen

PREPROCESS, IMAGES, LABELS = "preprocess.json", "images.npy", "labels.npy"
Floats = NDArray[np.float32]


class Preprocess(Frozen):
    """From stored pixels to a model's input: (pixels * scale - mean) / std, a channel each, then the layout."""

    layout: Literal["nchw", "nhwc"] = "nchw"
    scale: float = 1.0
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    def __call__(self, pixels: NDArray[np.generic]) -> Floats:
        """Pixels of shape (n, height, width, channels) as float32 in the model's layout."""
        prepared = pixels.astype(np.float32) * np.float32(self.scale)
        if self.mean:
            prepared -= np.array(self.mean, dtype=np.float32)
        if self.std:
            prepared /= np.array(self.std, dtype=np.float32)
        return np.ascontiguousarray(prepared.transpose(0, 3, 1, 2)) if self.layout == "nchw" else prepared


@dataclass(frozen=True)
class Examples:
    """`pixels` (n, height, width, channels) as stored, read from disk as needed; `labels` (n,) are class numbers."""

    pixels: NDArray[np.generic]
    labels: NDArray[np.int64]
    preprocess: Preprocess

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, start: int, stop: int) -> Floats:
        """Examples [start, stop) as the model takes them."""
        return self.preprocess(self.pixels[start:stop])

    def save(self, folder: Path) -> None:
        """Write the three files of an `examples` artifact into an empty folder."""
        np.save(folder / IMAGES, self.pixels)
        np.save(folder / LABELS, self.labels)
        (folder / PREPROCESS).write_text(self.preprocess.model_dump_json(), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Examples:
        """Read what `save` wrote; nothing pickled is accepted."""
        pixels = np.load(folder / IMAGES, mmap_mode="r", allow_pickle=False)
        labels = np.load(folder / LABELS, allow_pickle=False)
        text = (folder / PREPROCESS).read_text(encoding="utf-8")
        return cls(pixels, labels, Preprocess.model_validate_json(text))
