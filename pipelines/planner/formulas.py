"""PLANNER.md's formulas, one function each; bytes, seconds, FLOP/s and tokens throughout.

The names are the specification's: Pl decoder-linear parameters, Ph the head's, b bytes a parameter, t the tensor
parallelism, Q a peak, BW a bandwidth, eta_c and eta_b the shares of them that are reached, kappa the scheduler's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

BLOCK_TOKENS = 16
MOST_SEQUENCES = 1024
STEP_S, STEP_PER_SEQUENCE_S, STEP_SEQUENCES = 2e-3, 5e-6, 256
KERNEL_S = 5e-6
QUEUE_TAIL = 1.5  # p95 as three times the mean wait of an M/D/1 queue, which is rho·T/(2(1-rho))


def group_bytes(bits: int, group: int, scale_bits: int = 20) -> float:
    """Bytes a parameter of weights in groups, b=(bits+20/g)/8: a 16-bit scale and a 4-bit zero point each."""
    return (bits + scale_bits / group) / 8


def contiguous_concurrency(room: float, kv_bytes: float, max_length: int) -> int:
    """Sequences when each reserves its longest length: floor(R/(k·max_len))."""
    return max(0, min(MOST_SEQUENCES, math.floor(room / (kv_bytes * max_length))))


def paged_concurrency(room: float, kv_bytes: float, prompt: int, output: int, shared: int) -> int:
    """Sequences with a paged cache: (floor(R/16k)-ceil(s/16)) / ceil((P-s+O)/16), at most 1024."""
    blocks = math.floor(room / (BLOCK_TOKENS * kv_bytes)) - math.ceil(shared / BLOCK_TOKENS)
    return max(0, min(MOST_SEQUENCES, blocks // max(1, math.ceil((prompt - shared + output) / BLOCK_TOKENS))))


def tail_waste(tokens: int) -> int:
    """Slots of a sequence's last block that stay empty; at most 15."""
    return -tokens % BLOCK_TOKENS


def link_s(layers: int, hidden: int, tokens: float, split: int, latency: float, link: float) -> float:
    """C(n)=2L[a+2(t-1)/t·2·n·d/link]: two all-reduces a layer over 16-bit activations; 0 if t=1."""
    if split == 1:
        return 0.0
    return 2 * layers * (latency + 2 * (split - 1) / split * 2 * tokens * hidden / link)


def prefill_flops(parameters: float, layers: int, wide: int, prompt: int, shared: int) -> tuple[float, float]:
    """FLOP of the matrices, 2·Pl·p, and of attention, 2·L·H·dh·(P²-s²); `wide` is H·dh."""
    return 2 * parameters * (prompt - shared), 2.0 * layers * wide * (prompt**2 - shared**2)


def step_s(batch: float) -> float:
    """t0: what a decode step costs besides its arithmetic, 2 ms + 5 µs·min(B,256)."""
    return STEP_S + STEP_PER_SEQUENCE_S * min(batch, STEP_SEQUENCES)


def compute_crossover(peak: float, bytes_each: float, bandwidth: float) -> float:
    """B*=Q·b/(2·BW): the batch beyond which a decode step is bound by arithmetic."""
    return peak * bytes_each / (2 * bandwidth)


def throughput(kappa: float, batch: float, output: int, prefill: float, decode: float) -> float:
    """X=κ·B·O/(B·Tp+O·Td): tokens a second of one replica."""
    return kappa * batch * output / (batch * prefill + output * decode)


def utilisation(rate: float, prefill: float, kappa: float) -> float:
    """rho=λTp/κ: the share of time that prefills take."""
    return rate * prefill / kappa


def queue_p95_s(rho: float, prefill: float) -> float:
    """1.5·ρ·Tp/(1-ρ); infinite at ρ >= 1."""
    return QUEUE_TAIL * rho * prefill / (1 - rho) if rho < 1 else math.inf


def end_to_end_s(ttft: float, tbt: float, output: int) -> float:
    """E2E=TTFT+(O-1)·TBT."""
    return ttft + (output - 1) * tbt


def dollars_per_million(price_per_hour: float, devices: int, tokens_per_s: float, load: float = 1.0) -> float:
    """$/1M=10⁶·price·GPUs/(3600·X·load)."""
    return 1e6 * price_per_hour * devices / (3600 * tokens_per_s * load)


def tokens_per_verification(acceptance: float, drafted: int) -> float:
    """(1-α^(γ+1))/(1-α): tokens that one verification of γ drafted ones yields."""
    if acceptance == 1:
        return drafted + 1.0
    return float((1 - acceptance ** (drafted + 1)) / (1 - acceptance))


def acceptance_probability(target: float, draft: float) -> float:
    """min(1,p/q): how often a token that the draft gives probability q is kept; p's distribution results."""
    return min(1.0, target / draft)


def speculation_speedup(acceptance: float, drafted: int, draft_cost: float, verify_cost: float) -> float:
    """Tokens a verification over (γc+v), in decode steps."""
    return tokens_per_verification(acceptance, drafted) / (drafted * draft_cost + verify_cost)


def encoder_s(flops: float, moved: float, peak: float, bandwidth: float, kernels: int) -> float:
    """max(FLOP/(Q·ηc), bytes/(BW·ηb)) + kernels·5 µs; peak and bandwidth as reached."""
    return max(flops / peak, moved / bandwidth) + kernels * KERNEL_S


def arithmetic_intensity_share(flop_per_byte: float, peak: float, bandwidth: float) -> float:
    """Of the peak, what arithmetic of that intensity reaches on a roofline."""
    return min(1.0, flop_per_byte * bandwidth / peak)


def symmetric_step(largest: float, bits: int = 8) -> float:
    """Width of one step of symmetric quantization by the largest magnitude; values under half of it become 0."""
    return float(largest / (2 ** (bits - 1) - 1))


def activation_magnitude(inputs: Sequence[Sequence[float]]) -> list[float]:
    """AWQ's importance of each input channel: mean |x| over calibration rows, whatever the weights' size.

    Source: Lin et al., AWQ, arXiv 2306.00978, section 3.1.
    """
    return [sum(abs(value) for value in channel) / len(inputs) for channel in zip(*inputs, strict=True)]


def inverse_hessian(inputs: Sequence[Sequence[float]], damping: float = 0.01) -> list[list[float]]:
    """GPTQ's H^-1 = (2·X^T·X + λI)^-1 of a layer's inputs, shape (channels, channels), by its Cholesky factor.

    λ is that share of the mean diagonal. Source: Frantar et al., GPTQ, arXiv 2210.17323, sections 3.2 and 3.3.
    """
    import numpy as np

    rows = np.asarray(inputs, dtype=np.float64)
    hessian = 2 * rows.T @ rows
    hessian += damping * float(hessian.diagonal().mean()) * np.eye(len(hessian))
    factor = np.linalg.inv(np.linalg.cholesky(hessian))
    inverse: list[list[float]] = (factor.T @ factor).tolist()
    return inverse


def gptq_correction(error: float, inverse: Sequence[Sequence[float]], quantized: int) -> list[float]:
    """What the error of one quantized weight adds to every weight of its row: -e/[H^-1]qq · [H^-1]q."""
    row = inverse[quantized]
    return [-error / row[quantized] * value for value in row]
