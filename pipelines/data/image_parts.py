"""Which images calibrate, train and evaluate, and what may be wrong with a set of them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Literal

import numpy as np

from pipelines.data.image_types import Images, Labels, Pixels
from pipelines.errors import DataError

Part = Literal["calibration", "training", "evaluation", "all"]


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
