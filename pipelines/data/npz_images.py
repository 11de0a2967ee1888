"""Images in numpy's own archive."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.data.image_types import Images, Pixels
from pipelines.errors import DataError


def npz(path: Path) -> Images:
    """`images` (n, height, width, channels) and `labels` (n,) of an .npz file; nothing pickled is accepted.

    Raises:
        DataError: no such file, arrays or shapes.
    """
    layout = "write it with numpy.savez(FILE, images=..., labels=...)"
    try:
        with path.open("rb") as file:  # numpy leaves the file open when it is no archive
            arrays = np.load(file, allow_pickle=False)
            if isinstance(arrays, np.ndarray):
                raise DataError(f"{path}: holds one array, not `images` and `labels`", layout)
            found = {name: arrays[name] for name in ("images", "labels") if name in arrays}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path}: cannot be read as .npz: {error}", layout) from error
    if len(found) < 2:
        missing = "labels" if "images" in found else "images"
        raise DataError(f"{path}: no array `{missing}`, it holds {', '.join(arrays.files) or 'none'}", layout)
    pixels, labels = found["images"], found["labels"]
    _check_arrays(path, pixels, labels)
    return pixels, labels.astype(np.int64)


def _check_arrays(path: Path, pixels: Pixels, labels: NDArray[Any]) -> None:
    if pixels.ndim != 4 or not np.issubdtype(pixels.dtype, np.number) or np.iscomplexobj(pixels):
        shape = f"{pixels.dtype} {pixels.shape}"
        raise DataError(
            f"{path}: `images` is {shape}, not numbers of shape (n, height, width, channels)",
            "grey images need a last axis of 1: images[..., None]",
        )
    if labels.shape != (len(pixels),) or not np.issubdtype(labels.dtype, np.integer):
        raise DataError(
            f"{path}: `labels` is {labels.dtype} {labels.shape}, not {len(pixels)} class numbers",
            "one whole number an image, counted from 0",
        )
    if not pixels.size:
        raise DataError(f"{path}: holds no images", "check that it was written whole")
    if labels.min() < 0:
        raise DataError(f"{path}: a label is {labels.min()}", "classes are counted from 0")
    if not np.isfinite(pixels).all():
        raise DataError(f"{path}: an image holds NaN or infinity", "find it with numpy.isfinite, and leave it out")
