"""BIG-bench's CIFAR-10."""

from __future__ import annotations

import base64
import json
from io import BytesIO
from pathlib import Path
from typing import IO, Any

import numpy as np

from pipelines.data.image_decoding import stacked
from pipelines.data.image_types import Images
from pipelines.errors import DataError

CIFAR_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


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
    return stacked(list(zip(places, files, strict=True)), 3), np.array(labels, dtype=np.int64)


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


def _layout() -> str:
    return (
        "`reader: bigbench-images` takes BIG-bench's cifar10_classification/base64/task.json; else image-folder or npz"
    )
