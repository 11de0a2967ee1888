"""Perplexity tokens/s: Tapeout's GGUF session against llama-cpp-python's plain evaluation loop, in alternation.

    python -m bench.evaluation MODEL.gguf [--text FILE]      (inside the `gguf` environment)

Both score the same windows with the same threads, log-softmax included. Tapeout's side also finds the most likely
token and the log-probabilities of the 64 likeliest, which its report needs.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipelines.evaluation.scores import score
from targets._llama import LlamaSession
from targets.base import Tokens

TOP_K = 64
Losses = NDArray[np.float64]


def main() -> None:
    options = arguments()
    session = LlamaSession(options.model, options.threads, options.window)
    windows = windows_of(session, text_of(options.text), options.windows, options.window)
    runs = {"tapeout": tapeout(session, windows, options.threads), "llama-cpp-python": plain(options, windows)}
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    perplexities = {}
    for number in range(options.rounds + 1):
        for name, run in runs.items():
            begin = time.perf_counter()
            losses = run()
            if number:  # the first round warms up
                seconds[name].append(time.perf_counter() - begin)
            perplexities[name] = float(np.exp(losses.mean()))
    show(seconds, perplexities, windows.size)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="a GGUF file")
    parser.add_argument("--text", type=Path, help="evaluation text; Python's own documentation without it")
    parser.add_argument("--windows", type=int, default=8)
    parser.add_argument("--window", type=int, default=512, help="tokens a window")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    return parser.parse_args()


def text_of(file: Path | None) -> str:
    if file is not None:
        return file.read_text(encoding="utf-8")
    from pydoc_data.topics import topics

    return "\n\n".join(topics[name] for name in sorted(topics))


def windows_of(session: LlamaSession, text: str, count: int, length: int) -> Tokens:
    tokens = session.encode(text)[: count * length]
    if len(tokens) < count * length:
        raise SystemExit(f"the text has {len(tokens)} tokens, {count} windows of {length} need {count * length}")
    return tokens.reshape(count, length)


def tapeout(session: LlamaSession, windows: Tokens, threads: int) -> Callable[[], Losses]:
    reference = score(session, windows, TOP_K, threads)
    return lambda: -score(session, windows, TOP_K, threads, reference.top_ids).logp.astype(np.float64)


def plain(options: argparse.Namespace, windows: Tokens) -> Callable[[], Losses]:
    from llama_cpp import Llama

    llama = Llama(
        str(options.model), n_ctx=options.window, logits_all=True, verbose=False,
        n_threads=options.threads, n_threads_batch=options.threads,
    )  # fmt: skip

    def run() -> Losses:
        losses = []
        for window in windows:
            llama.reset()
            llama.eval(window.tolist())
            logprobs = llama.logits_to_logprobs(llama.scores[: len(window) - 1])
            losses.append(-logprobs[np.arange(len(window) - 1), window[1:]])
        return np.array(losses, dtype=np.float64)

    return run


def show(seconds: dict[str, list[float]], perplexities: dict[str, float], tokens: int) -> None:
    print(f"{'':18} {'tokens/s':>9} {'perplexity':>11}   median of {len(seconds['tapeout'])} alternating rounds")
    for name, taken in seconds.items():
        print(f"{name:18} {tokens / np.median(taken):9.0f} {perplexities[name]:11.4f}")
    ratios = np.array(seconds["llama-cpp-python"]) / np.array(seconds["tapeout"])
    drawn = np.random.default_rng(0).choice(ratios, (2000, len(ratios)))
    low, high = np.percentile(np.median(drawn, axis=1), [2.5, 97.5])
    interval = f"95% interval {low:.2f}..{high:.2f}"
    print(f"tapeout / llama-cpp-python = {np.median(ratios):.2f}x   {interval}   (goal: at least 1.0x)")


if __name__ == "__main__":
    main()
