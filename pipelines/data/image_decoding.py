"""PNG and JPEG files as pixels."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipelines.errors import DataError

GREY, COLOUR = {"1", "L", "LA"}, {"P", "RGB", "RGBA", "CMYK", "YCbCr"}
UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, Image.DecompressionBombError)
"""What Pillow raises on damaged files, whichever part of them is damaged."""


def mode(file: Path) -> str:
    """Pillow's name for the kind of its pixels.

    Raises:
        DataError: it is no image.
    """
    try:
        with Image.open(file) as image:
            return image.mode
    except UNREADABLE as error:
        raise _undecodable(str(file), error) from error


def stacked(files: list[tuple[str, IO[bytes] | Path]], channels: int) -> NDArray[np.uint8]:
    """Every named file decoded, uint8 (n, height, width, channels); all have the first one's size.

    Raises:
        DataError: one cannot be decoded, or has another size; it names the file.
    """
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
