"""Labelled images in a data file: pixels of shape (n, height, width, channels), and the class number of each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from pipelines.data.bigbench_images import bigbench_images
from pipelines.data.image_decoding import GREY, mode, stacked
from pipelines.data.image_types import Images
from pipelines.data.npz_images import npz
from pipelines.errors import DataError

SUFFIXES = {".png", ".jpg", ".jpeg"}


def digits() -> Images:
    """scikit-learn's 1,797 handwritten digits: uint8 (1797, 8, 8, 1) of 0..16, ten classes."""
    from sklearn.datasets import load_digits

    found = load_digits()
    return found.images.astype(np.uint8)[..., None], found.target.astype(np.int64)


def image_folder(path: Path) -> Images:
    """A sub-folder a class, in the order of their names, with PNG and JPEG files of one size; in grey if all are.

    Raises:
        DataError: no classes, an empty one, or a file that cannot be used; it names the file.
    """
    way_out = "one sub-folder a class, with the class's PNG or JPEG files in it"
    if not path.is_dir():
        raise DataError(f"{path}: no such folder", way_out)
    classes = sorted(folder for folder in path.iterdir() if folder.is_dir() and not folder.name.startswith("."))
    if not classes:
        raise DataError(f"{path}: holds no sub-folders", way_out)
    listed = [sorted(file for file in folder.iterdir() if file.suffix.lower() in SUFFIXES) for folder in classes]
    for folder, files in zip(classes, listed, strict=True):
        if not files:
            raise DataError(f"{folder}: holds no PNG and no JPEG file", way_out)
    each = [file for files in listed for file in files]
    channels = 1 if all(mode(file) in GREY for file in each) else 3
    labels = np.repeat(np.arange(len(classes), dtype=np.int64), [len(files) for files in listed])
    return stacked([(str(file), file) for file in each], channels), labels


READERS: dict[str, Callable[[Path], Images]] = {
    "bigbench-images": bigbench_images,
    "image-folder": image_folder,
    "npz": npz,
}
