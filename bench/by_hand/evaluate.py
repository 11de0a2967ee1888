"""Perplexity, agreement, greedy continuations and speed of GGUF files against a Hugging Face folder, in one process.

    evaluate.py FOLDER TEXT.txt F16.gguf Q6_K.gguf

The settings are those of a Tapeout config, in variables: WINDOWS, WINDOW, TOP_K, PROMPTS, PROMPT_TOKENS, TOKENS,
SPEED_PROMPT_TOKENS, SPEED_TOKENS, PAIRS.
"""

import os
import sys
import time
from collections.abc import Callable
from itertools import islice, pairwise
from pathlib import Path

import torch
from llama_cpp import Llama
from transformers import AutoModelForCausalLM, AutoTokenizer

THREADS = len(os.sched_getaffinity(0))
WINDOWS, WINDOW = int(os.environ.get("WINDOWS", "16")), int(os.environ.get("WINDOW", "512"))
TOP_K = int(os.environ.get("TOP_K", "64"))
PROMPTS, TOKENS = int(os.environ.get("PROMPTS", "8")), int(os.environ.get("TOKENS", "32"))
PROMPT_TOKENS = int(os.environ.get("PROMPT_TOKENS", "64"))
SPEED_PROMPT_TOKENS = int(os.environ.get("SPEED_PROMPT_TOKENS", "128"))
SPEED_TOKENS, PAIRS = int(os.environ.get("SPEED_TOKENS", "32")), int(os.environ.get("PAIRS", "10"))

Logits = Callable[[list[int]], torch.Tensor]  # of every token, shape (tokens, vocabulary)
Generate = Callable[[list[int], int], tuple[list[int], list[float]]]  # tokens, and the seconds of each
Scores = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]


def main() -> None:
    folder, text = Path(sys.argv[1]), Path(sys.argv[2]).read_text(encoding="utf-8")
    torch.set_num_threads(THREADS)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokens = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    windows = [tokens[i * WINDOW : (i + 1) * WINDOW] for i in range(WINDOWS)]
    stride = (len(tokens) - PROMPT_TOKENS) // PROMPTS
    prompts = [tokens[i * stride : i * stride + PROMPT_TOKENS] for i in range(PROMPTS)]
    speed_prompt = tokens[:SPEED_PROMPT_TOKENS]

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.inference_mode():
        base = score(lambda window: reference_logits(model, window), windows)
        continuations = [reference_generate(model, prompt, TOKENS)[0] for prompt in prompts]
        print(f"reference: perplexity {perplexity(base):.4f}, {size_mb(folder):.0f} MB")
        for file in map(Path, sys.argv[3:]):
            scoring = opened(file, logits_all=True)
            scores = score(lambda window, llama=scoring: llama_logits(llama, window), windows, base[2])
            scoring.close()
            llama = opened(file)
            print(f"{file.name}: perplexity {perplexity(scores):.4f}, {size_mb(file):.0f} MB")
            print(f"  top-1 agreement {(scores[1] == base[1]).double().mean():.4f}, KL {divergence(scores, base):.5f}")
            same = [llama_generate(llama, prompt, TOKENS)[0] for prompt in prompts]
            print(f"  exact match {sum(map(list.__eq__, same, continuations)) / PROMPTS:.2f}")
            show_speed(
                lambda prompt, n: reference_generate(model, prompt, n),
                lambda prompt, n, llama=llama: llama_generate(llama, prompt, n),
                speed_prompt,
            )
            llama.close()


def opened(file: Path, logits_all: bool = False) -> Llama:
    return Llama(
        str(file), n_ctx=WINDOW + 8, logits_all=logits_all, flash_attn=True, verbose=False,
        n_threads=THREADS, n_threads_batch=THREADS,
    )  # fmt: skip


def reference_logits(model: torch.nn.Module, window: list[int]) -> torch.Tensor:
    return model(torch.tensor([window]), use_cache=False).logits[0]


def llama_logits(llama: Llama, window: list[int]) -> torch.Tensor:
    llama.reset()
    llama.eval(window)
    return torch.from_numpy(llama.scores[: len(window)])


def score(logits: Logits, windows: list[list[int]], ids: torch.Tensor | None = None) -> Scores:
    """Log-probability of the true token, most likely token, the reference's top k ids and their log-probabilities."""
    parts = []
    for number, window in enumerate(windows):
        logp = logits(window)[:-1].log_softmax(-1)
        true = logp.gather(1, torch.tensor(window[1:])[:, None])[:, 0]
        top = logp.topk(TOP_K).indices if ids is None else ids[number]
        parts.append((true, logp.argmax(-1), top, logp.gather(1, top)))
    return tuple(map(torch.stack, zip(*parts, strict=True)))


def perplexity(scores: Scores) -> float:
    return float(torch.exp(-scores[0].double().mean()))


def divergence(scores: Scores, base: Scores) -> float:
    """KL(reference || candidate) over the reference's top k tokens and all others as one more."""
    p, q = base[3].double(), scores[3].double()
    rest_p, rest_q = (1 - p.exp().sum(-1)).clamp(1e-9, 1), (1 - q.exp().sum(-1)).clamp(1e-9, 1)
    return float(((p.exp() * (p - q)).sum(-1) + rest_p * (rest_p / rest_q).log()).mean())


def reference_generate(model: torch.nn.Module, prompt: list[int], n: int) -> tuple[list[int], list[float]]:
    tokens, times, step, cache = [], [time.perf_counter()], torch.tensor([prompt]), None
    for _ in range(n):
        output = model(step, past_key_values=cache, use_cache=True, logits_to_keep=1)
        step, cache = output.logits[:, -1].argmax(-1, keepdim=True), output.past_key_values
        tokens.append(int(step))
        times.append(time.perf_counter())
    return tokens, [after - before for before, after in pairwise(times)]


def llama_generate(llama: Llama, prompt: list[int], n: int) -> tuple[list[int], list[float]]:
    llama.reset()  # else the prompt of the call before would not be computed again
    tokens, times = [], [time.perf_counter()]
    for token in islice(llama.generate(prompt, temp=0.0), n):
        tokens.append(token)
        times.append(time.perf_counter())
    return tokens, [after - before for before, after in pairwise(times)]


def show_speed(reference: Generate, candidate: Generate, prompt: list[int]) -> None:
    """Alternate; the first pair warms up."""
    runs = [(reference(prompt, SPEED_TOKENS)[1], candidate(prompt, SPEED_TOKENS)[1]) for _ in range(PAIRS + 1)][1:]
    for name, seconds in zip(("reference", "candidate"), zip(*runs, strict=True), strict=True):
        first = torch.tensor([run[0] for run in seconds]) * 1000
        gaps = torch.tensor([run[1:] for run in seconds]) * 1000
        p50, p95, p99 = gaps.quantile(torch.tensor([0.5, 0.95, 0.99])).tolist()
        print(
            f"  {name}: TTFT {first.median():.1f} ms, between tokens p50 {p50:.2f}, p95 {p95:.2f}, p99 {p99:.2f} ms, "
            f"prefill {SPEED_PROMPT_TOKENS / first.median() * 1000:.0f}, decode {1000 / gaps.mean():.1f} tokens/s"
        )
    ratios = torch.tensor([torch.tensor(a[1:]).median() / torch.tensor(b[1:]).median() for a, b in runs])
    print(f"  speed ratio {ratios.median():.3f}x")


def size_mb(path: Path) -> float:
    return sum(file.stat().st_size for file in ([path] if path.is_file() else path.iterdir())) / 1e6


if __name__ == "__main__":
    main()
