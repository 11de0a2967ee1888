"""An open session over arrays that answers calls whose arguments and results survive JSON."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from pipelines.evaluation.calls import Moved, answered
from pipelines.evaluation.memory import peak_bytes, reset_peak
from pipelines.evaluation.tokenizing import tokenize
from stages._inputs import first, load
from stages.base import Refused
from targets.base import Arrays, ArraySession

METHODS = frozenset({"predict", "tokenize", "time_batch", "peak_memory", "forget_peak_memory", "close"})


class LiveArrays:
    """The calls that evaluation makes of a model of arrays, wherever it lives. Every path is a file or a folder."""

    def __init__(self, session: ArraySession, load_s: float, moved: Moved) -> None:
        self._session, self._load_s, self._moved = session, load_s, moved

    def facts(self) -> dict[str, JsonValue]:
        """What is known on opening: names of the inputs and seconds to load."""
        return {"input_names": [*self._session.input_names], "load_s": self._load_s}

    def answer(self, method: str, arguments: dict[str, JsonValue]) -> JsonValue:
        """Call a method by name; numbers, strings and lists go in and out."""
        return answered(self, METHODS, method, arguments)

    def predict(self, examples: str, batch: int, out: str) -> None:
        """Run a folder of inputs in batches; first outputs go to a .npy file of float32 (examples, values)."""
        given = load(Path(examples))
        found: NDArray[np.float32] | None = None
        for start in range(0, len(given), batch):
            stop = min(start + batch, len(given))
            rows = self._rows(given.feed(np.arange(start, stop), self._session.input_names), stop - start)
            if found is None:
                shape = (len(given), rows.shape[1])
                found = np.lib.format.open_memmap(out, mode="w+", dtype=np.float32, shape=shape)
            _refuse_other_width(found, rows)
            found[start:stop] = rows
            self._moved(stop, len(given), given.what)

    def tokenize(self, request: str, out: str) -> dict[str, JsonValue]:
        """Tokenize the texts of a request file into a folder (`pipelines.evaluation.tokenizing`)."""
        return tokenize(self._session, Path(request), Path(out))

    def time_batch(self, examples: str, batch: int, runs: int) -> dict[str, JsonValue]:
        """Seconds of each of `runs` calls with the first `batch` examples, prepared beforehand; one warms up."""
        inputs = first(load(Path(examples)), batch, self._session.input_names)
        self._session.run(inputs)
        seconds: list[JsonValue] = []
        for _ in range(runs):
            begin = time.perf_counter()
            self._session.run(inputs)
            seconds.append(time.perf_counter() - begin)
        return {"seconds": seconds}

    def peak_memory(self) -> int:
        """Bytes resident at most since the start, or since `forget_peak_memory`."""
        return peak_bytes()

    def forget_peak_memory(self) -> bool:
        """Start a new peak from what is resident now; False where the system cannot."""
        return reset_peak()

    def close(self) -> None:
        """Close the session."""
        self._session.close()

    def _rows(self, inputs: Arrays, count: int) -> NDArray[np.float32]:
        """The first output, a row an example."""
        output = next(iter(self._session.run(inputs).values()))
        if output.ndim == 0 or len(output) != count:
            raise Refused(
                f"the model's first output has the shape {output.shape} for {count} examples",
                "its first axis must be the batch",
            )
        return output.reshape(count, -1).astype(np.float32, copy=False)


def _refuse_other_width(found: NDArray[np.float32], rows: NDArray[np.float32]) -> None:
    if rows.shape[1] != found.shape[1]:
        raise Refused(
            f"the model's first output has {found.shape[1]:,} values for one batch and {rows.shape[1]:,} for another",
            "one vector an example is what is measured: export an encoder with its pooling",
        )
