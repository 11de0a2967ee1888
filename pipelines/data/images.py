"""Labelled images in a data file: pixels of shape (n, height, width, channels), and the class number of each."""

from __future__ import annotations

import base64
import hashlib
import json
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterable
from io import BytesIO
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipelines.errors import DataError

Pixels = NDArray[np.generic]
Labels = NDArray[np.int64]
Images = tuple[Pixels, Labels]
Part = Literal["calibration", "training", "evaluation", "all"]

CIFAR_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
SUFFIXES = {".png", ".jpg", ".jpeg"}
GREY, COLOUR = {"1", "L", "LA"}, {"P", "RGB", "RGBA", "CMYK", "YCbCr"}
UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, Image.DecompressionBombError)
"""What Pillow raises on damaged files, whichever part of them is damaged."""


def digits() -> Images:
    """scikit-learn's 1,797 handwritten digits: uint8 (1797, 8, 8, 1) of 0..16, ten classes."""
    from sklearn.datasets import load_digits

    found = load_digits()
    return found.images.astype(np.uint8)[..., None], found.target.astype(np.int64)


def bigbench_images(path: Path) -> Images:
    """BIG-bench's CIFAR-10: a PNG in base64 under `input`, the class under `target_scores` or `target`.

    Pixels are uint8 (n, height, width, 3), labels count CIFAR's classes in their usual order.

    Raises:
        DataError: no such file or layout; it names the example.
    """
    examples = _examples(path)
    places = [f"{path}, example {number}" for number in range(1, len(examples) + 1)]
    labels = [_cifar_class(example, place) for example, place in zip(examples, places, strict=True)]
    files = (_png(example, place) for example, place in zip(examples, places, strict=True))
    return _stacked(list(zip(places, files, strict=True)), 3), np.array(labels, dtype=np.int64)


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
    channels = 1 if all(_mode(file) in GREY for file in each) else 3
    labels = np.repeat(np.arange(len(classes), dtype=np.int64), [len(files) for files in listed])
    return _stacked([(str(file), file) for file in each], channels), labels


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


READERS: dict[str, Callable[[Path], Images]] = {
    "bigbench-images": bigbench_images,
    "image-folder": image_folder,
    "npz": npz,
}


def split(pixels: Pixels, labels: Labels, part: Part, calibration: int, training: int = 0) -> Images:
    """One part of the images: `calibration` of them, evenly spaced so that a set sorted by class gives of each class,
    `training` of the others in the same way, or what is left. No two overlap.

    Raises:
        DataError: nothing would be left to evaluate.
    """
    if part == "all":
        return pixels, labels
    if calibration + training >= len(labels):
        named = f"{calibration:,} calibration images" + (f" and {training:,} training images" if training else "")
        raise DataError(
            f"{named} of {len(labels):,} leave none to evaluate", "hold fewer out, or calibrate on other images"
        )
    every = np.arange(len(labels))
    calibrating = every[_spread(calibration, len(every))]
    others = np.setdiff1d(every, calibrating)
    trained = others[_spread(training, len(others))]
    parts = {"calibration": calibrating, "training": trained, "evaluation": np.setdiff1d(others, trained)}
    return pixels[parts[part]], labels[parts[part]]


def _spread(count: int, total: int) -> Labels:
    """That many places among `total`, evenly spaced."""
    places: Labels = ((np.arange(count) + 0.5) * total / max(count, 1)).astype(np.int64)
    return places


def one_class(labels: Labels) -> str:
    """A warning where every label is the same; empty where there are several."""
    found = np.unique(labels)
    return f"all {len(labels):,} images are of class {found[0]}" if len(found) == 1 else ""


def shared_images(a: Pixels, b: Pixels) -> int:
    """How many images of `b` are in `a` as well, pixel for pixel."""
    known = set(_digests(a))
    return sum(digest in known for digest in _digests(b))


def _digests(pixels: Pixels) -> Iterable[bytes]:
    return (hashlib.blake2b(np.ascontiguousarray(image).tobytes(), digest_size=16).digest() for image in pixels)


def _examples(path: Path) -> list[Any]:
    try:
        task = json.loads(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}", "check the path in the config") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not JSON: {error}", _layout()) from error
    found = task.get("examples") if isinstance(task, dict) else None
    if not isinstance(found, list) or not found:
        raise DataError(f"{path}: no list under `examples`", _layout())
    return found


def _cifar_class(example: Any, place: str) -> int:
    scores = example.get("target_scores") if isinstance(example, dict) else None
    if isinstance(scores, dict) and scores and all(isinstance(score, int | float) for score in scores.values()):
        best = [name for name, score in scores.items() if score == max(scores.values())]
        if len(best) != 1:
            raise DataError(f"{place}: {len(best)} classes share the highest score", "leave it out")
        name = best[0]
    else:
        name = example.get("target") if isinstance(example, dict) else None
    if name not in CIFAR_CLASSES:
        found = (
            "no class under `target_scores` or `target`" if name is None else f"the class {name!r} is not CIFAR-10's"
        )
        raise DataError(f"{place}: {found}", _layout())
    return CIFAR_CLASSES.index(name)


def _png(example: Any, place: str) -> IO[bytes]:
    text = example.get("input")
    if not isinstance(text, str) or not text.strip():
        raise DataError(f"{place}: no image under `input`", _layout())
    try:
        return BytesIO(base64.b64decode(text.strip(), validate=True))
    except ValueError as error:
        raise DataError(f"{place}: `input` is not base64: {error}", _layout()) from error


def _mode(file: Path) -> str:
    try:
        with Image.open(file) as image:
            return image.mode
    except UNREADABLE as error:
        raise _undecodable(str(file), error) from error


def _stacked(files: list[tuple[str, IO[bytes] | Path]], channels: int) -> NDArray[np.uint8]:
    """Every named file decoded, uint8 (n, height, width, channels); all have the first one's size."""
    first = _decoded(*files[0], channels, None)
    pixels = np.empty((len(files), *first.shape), dtype=np.uint8)
    for number, (place, file) in enumerate(files):
        pixels[number] = first if number == 0 else _decoded(place, file, channels, (files[0][0], first.shape))
    return pixels


def _decoded(
    place: str, file: IO[bytes] | Path, channels: int, like: tuple[str, tuple[int, ...]] | None
) -> NDArray[np.uint8]:
    try:
        with Image.open(file) as image:
            if image.mode not in GREY | COLOUR:
                raise DataError(f"{place}: pixels of the kind {image.mode}, not 8 bits a channel", "convert the image")
            if like and (image.height, image.width) != like[1][:2]:
                wanted = f"{like[1][1]}x{like[1][0]} like {like[0]}"
                raise DataError(f"{place}: {image.width}x{image.height} pixels, not {wanted}", "resize it to that size")
            found = np.asarray(image.convert("L" if channels == 1 else "RGB"))
    except UNREADABLE as error:
        raise _undecodable(place, error) from error
    return found.reshape(*found.shape[:2], channels)


def _undecodable(place: str, error: BaseException) -> DataError:
    return DataError(f"{place}: the image cannot be decoded: {error}", "replace the file, or leave it out")


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


def _layout() -> str:
    return (
        "`reader: bigbench-images` takes BIG-bench's cifar10_classification/base64/task.json; else image-folder or npz"
    )
