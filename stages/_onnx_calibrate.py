"""The range of every activation over the calibration examples, in bounded memory."""

from __future__ import annotations

import math
import os
import re
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from stages._inputs import Inputs
from stages._onnx_graph import Graph
from stages._onnx_session import opened, options
from stages.base import Context, Frozen, Refused

Method = Literal["minmax", "entropy", "percentile"]
Rows = NDArray[np.int64]
Batch = dict[str, NDArray[np.generic]]
_BINS = 2048  # ONNX Runtime's 128 give entropy the same ranges as minmax
_MEMORY, _AVAILABLE = Path("/proc/meminfo"), re.compile(r"MemAvailable:\s+(\d+) kB")
_COPIES = 4  # of an activation while a histogram is taken: as made, as one array, absolute, binned


class Calibration(Frozen):
    """How a range follows from the values of so many examples at a time."""

    method: Method
    percentile: float
    batch: int
    symmetric: bool

    @property
    def told(self) -> str:
        """`percentile 99.99`."""
        return f"percentile {self.percentile:g}" if self.method == "percentile" else self.method


def evenly(count: int, used: int) -> Rows:
    """The rows of `used` among `count` examples, evenly spaced."""
    return np.linspace(0, count - 1, used).round().astype(np.int64)


def ranges(file: Path, examples: Inputs, rows: Rows, how: Calibration, context: Context) -> Any:
    """ONNX Runtime's TensorsData over those rows of the examples.

    Each batch is binned and forgotten, where the library would keep them all.

    Raises:
        Refused: examples that the model does not take, or a batch whose activations exceed the memory.
    """
    from onnxruntime.quantization.calibrate import CalibrationMethod, create_calibrator

    refuse_beyond_memory(file, how, len(rows))
    method = {
        "minmax": CalibrationMethod.MinMax,
        "entropy": CalibrationMethod.Entropy,
        "percentile": CalibrationMethod.Percentile,
    }[how.method]
    extra: dict[str, float] = {"symmetric": how.symmetric}
    if how.method != "minmax":
        extra |= {"num_bins": _BINS, **({"percentile": how.percentile} if how.method == "percentile" else {})}
    with tempfile.TemporaryDirectory(dir=context.scratch) as folder:
        calibrator = create_calibrator(
            file, None, str(Path(folder, "augmented.onnx")), calibrate_method=method, extra_options=extra
        )
        calibrator.infer_session = opened(Path(calibrator.augmented_model_path), options(context.threads, "none"))
        for done, batch in enumerate(_batches(file, examples, rows, how.batch), 1):
            calibrator.collect_data(_Reader([batch]))
            context.progress(min(done * how.batch, len(rows)), len(rows), f"calibrating, {how.told}")
        return calibrator.compute_data()


def _batches(file: Path, examples: Inputs, rows: Rows, batch_size: int) -> Iterator[Batch]:
    taken = opened(file, options(1, "none")).get_inputs()
    for start in range(0, len(rows), batch_size):
        batch = examples.feed(rows[start : start + batch_size], [each.name for each in taken])
        for each in taken:
            _refuse_other_shape(each, batch[each.name].shape)
        yield batch


def _refuse_other_shape(taken: Any, given: tuple[int, ...]) -> None:
    fits = len(taken.shape) == len(given) and all(
        size == have for size, have in zip(taken.shape[1:], given[1:], strict=True) if isinstance(size, int)
    )
    if not fits:
        raise Refused(
            f"calibration examples have the shape {list(given)}, the model's input `{taken.name}` {taken.shape}",
            "see `data: preprocess: layout`, and the size of the images",
        )


class _Reader:
    """Batches as ONNX Runtime's calibrators ask for them."""

    def __init__(self, batches: Iterable[Batch]) -> None:
        self._batches = iter(batches)

    def get_next(self) -> Batch | None:
        """The next batch, or None."""
        return next(self._batches, None)


def refuse_beyond_memory(file: Path, how: Calibration, examples: int) -> None:
    """Refuse a batch whose activations do not fit: minmax keeps two of them at a time, the others bin all of them."""
    import onnx

    batch, sizes = min(how.batch, examples), sorted(_activation_bytes(Graph(onnx.load(str(file)))))
    needed = batch * (sum(sizes[-2:]) if how.method == "minmax" else _COPIES * sum(sizes))
    free = _free_bytes()
    if needed > free:
        raise Refused(
            f"calibrating by {how.told}, the activations of {batch} examples take {needed / 1e9:.1f} GB, "
            f"{free / 1e9:.1f} GB are free",
            "lower `batch`" if how.method == "minmax" else "lower `batch`, or use `method: minmax`, which keeps none",
        )


def _free_bytes() -> int:
    """What a process can still get: unused memory, and where the system says so, the file cache it would give up."""
    told = _AVAILABLE.search(_MEMORY.read_text()) if _MEMORY.is_file() else None
    return int(told[1]) * 1024 if told else os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _activation_bytes(graph: Graph) -> list[int]:
    """Of one example, a number a tensor; an axis that is not fixed counts as 1."""
    return [4 * math.prod(size or 1 for size in shape) for shape in graph.shapes().values()]
