"""Labelled examples on disk: what vision models are calibrated and measured on, prepared the same way everywhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from stages.base import Frozen, Refused

PREPROCESS, IMAGES, LABELS = "preprocess.json", "images.npy", "labels.npy"
Floats = NDArray[np.float32]


class Preprocess(Frozen):
    """From stored pixels to a model's input: (pixels * scale - mean) / std, a channel each, then the layout."""

    layout: Literal["nchw", "nhwc"] = Field("nchw", description="order of batch, height, width and channels")
    scale: float = Field(1.0, description="what pixels are multiplied with: 0.00392157 makes 0..255 to 0..1")
    mean: tuple[float, ...] = Field((), description="subtracted after that, one a channel")
    std: tuple[float, ...] = Field((), description="divided by after that, one a channel")

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

    what = "images"

    def __len__(self) -> int:
        return len(self.labels)

    def feed(self, rows: NDArray[np.int64], names: Sequence[str]) -> dict[str, NDArray[np.generic]]:
        """Those rows as the model takes them, under the name of its one input.

        Raises:
            Refused: it takes several.
        """
        if len(names) != 1:
            raise Refused(
                f"the model takes {len(names)} inputs ({', '.join(names)}), and labelled images fill one",
                "export it with one input",
            )
        return {names[0]: self.preprocess(self.pixels[rows])}

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
