"""What collecting an importance matrix adds to a plain forward pass over the same tokens, window by window in turn.

    python -m bench.imatrix HF_FOLDER [--text FILE]      (inside the `gguf` environment)

48 windows of 512 tokens: each is run plainly and with the hooks, the one that goes first changing every time. The
interval is a bootstrap over windows.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import JsonValue

from bench._results import Goal, finish, parser_of
from pipelines.data.python_docs import python_docs
from stages._activations import watched
from stages._calibration_text import CalibrationText, windows
from stages._language_model import LanguageModel

MOST = 1.5


def main() -> int:
    options = arguments()
    subject = LanguageModel.load(options.folder, options.threads)
    texts = (options.text.read_text(encoding="utf-8"),) if options.text else python_docs("calibration")
    text = CalibrationText(name="calibration", documents=texts)
    rows = windows(text, subject.tokenizer, options.windows, options.window, "bench.imatrix")
    plain, collecting = timed(subject, rows)
    ratio = collecting.sum() / plain.sum()
    drawn = np.random.default_rng(0).integers(0, len(rows), (2000, len(rows)))
    low, high = np.percentile(collecting[drawn].sum(1) / plain[drawn].sum(1), [2.5, 97.5])
    print(f"{rows.size:,} tokens, {len(rows)} windows of {options.window}, {options.threads} threads")
    print(f"plain forward pass  {rows.size / plain.sum():6.0f} tokens/s  {plain.sum():6.1f} s")
    print(f"collecting          {rows.size / collecting.sum():6.0f} tokens/s  {collecting.sum():6.1f} s")
    detail = f"{ratio:.3f}x, 95% interval {low:.3f}..{high:.3f}"
    goal = Goal(what="collecting / plain, upper end", value=float(high), at_most=MOST, unit="x", detail=detail)
    seconds: dict[str, JsonValue] = {"plain_s": plain.tolist(), "collecting_s": collecting.tolist()}
    details = {"tokens": int(rows.size), "threads": options.threads, "ratio": float(ratio), **seconds}
    return finish(options.results, "imatrix", "Collecting an importance matrix", [goal], details)


def arguments() -> argparse.Namespace:
    parser = parser_of(__doc__)
    parser.add_argument("folder", type=Path, help="a Hugging Face folder")
    parser.add_argument("--text", type=Path, help="calibration text; Python's own documentation without it")
    parser.add_argument("--windows", type=int, default=48)
    parser.add_argument("--window", type=int, default=512, help="tokens a window")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    return parser.parse_args()


def timed(subject: LanguageModel, rows: np.ndarray[Any, np.dtype[np.int64]]) -> tuple[Any, Any]:
    """Seconds of each window, plain and collecting; the first window is run once before, to warm up."""
    import torch

    tokens = torch.from_numpy(rows)
    seconds = np.zeros((2, len(rows)))
    with torch.inference_mode():
        subject.model(tokens[:1], use_cache=False)
        for number in range(len(rows)):
            for collect in (False, True) if number % 2 else (True, False):
                begin = time.perf_counter()
                forward(subject, tokens[number : number + 1], collect=collect)
                seconds[int(collect), number] = time.perf_counter() - begin
    return seconds[0], seconds[1]


def forward(subject: LanguageModel, tokens: Any, *, collect: bool) -> None:
    if not collect:
        subject.model(tokens, use_cache=False)
        return
    with watched(subject.linears) as seen:
        subject.model(tokens, use_cache=False)
        seen.arrays()


if __name__ == "__main__":
    sys.exit(main())
