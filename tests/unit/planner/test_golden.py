"""PLANNER.md's golden values; each test names the formula."""

import numpy as np
import pytest
from questions import case, decoder

from pipelines.planner import formulas, gguf_types
from pipelines.planner.calibrations import Calibrations
from pipelines.planner.case import Option
from pipelines.planner.encoders import target_of
from pipelines.planner.formats import all_formats, prior
from pipelines.planner.hardware import Hardware, find
from pipelines.planner.options import Weighed, engine_of, weigh_all
from pipelines.planner.workload import Goals, Workload

A100, H100 = find("a100-80"), find("h100")
FORMATS = all_formats()
GIB = 2**30
ONE_PERCENT = 0.01
GOALS = Goals()


def options(model: str, machine: str, count: int, work: Workload, goals: Goals = GOALS) -> dict[str, Weighed]:
    return {str(item.option): item for item in weigh_all(case(model, machine, count, work, goals), Calibrations())}


def test_q1_weights_of_13b_in_16_bits() -> None:
    assert 13e9 * FORMATS["bf16"].bytes_each == 26e9
    assert round(26e9 / GIB, 1) == 24.2


def test_q2_decode_is_bound_by_bandwidth_on_the_roofline() -> None:
    ridge = A100.base_peak / A100.bandwidth

    assert ridge == pytest.approx(153, rel=ONE_PERCENT)
    assert formulas.arithmetic_intensity_share(1, A100.base_peak, A100.bandwidth) == pytest.approx(0.0065, rel=0.01)
    alone = options("llama-3-8b", "a100-80", 1, Workload(users=1))["bf16 on vllm"]
    assert alone.prediction is not None
    assert alone.prediction.label == "bandwidth"


def test_q3_kv_cache_shrinks_by_the_ratio_of_heads_to_kv_heads() -> None:
    grouped = decoder("llama-3-8b")
    full = grouped.model_copy(update={"kv_heads": grouped.heads})

    assert full.kv_bytes() / grouped.kv_bytes() == 4


def test_q4_a_paged_block_wastes_at_most_15_slots_of_its_tail() -> None:
    assert formulas.BLOCK_TOKENS == 16
    assert max(formulas.tail_waste(tokens) for tokens in range(1, 200)) == 15
    assert formulas.tail_waste(32) == 0


def test_q5_speculation_keeps_a_token_with_probability_min_1_p_over_q() -> None:
    assert formulas.acceptance_probability(target=0.3, draft=0.6) == 0.5
    assert formulas.acceptance_probability(target=0.6, draft=0.3) == 1.0


def test_q6_one_outlier_of_100_costs_int8_every_activation_below_0_394() -> None:
    step = formulas.symmetric_step(100)

    assert FORMATS["int8"].weighed_by == "activation_outliers"
    assert step == pytest.approx(0.787, abs=5e-4)
    assert round(0.393 / step) == 0
    assert round(0.395 / step) == 1


def test_q7_gptq_corrects_the_other_weights_by_the_inverse_hessian_of_the_layers_inputs() -> None:
    inputs = np.random.default_rng(0).normal(size=(64, 1)) @ [[1.0, 0.9]] + 0.1 * np.eye(64, 2)
    weights, rounded = np.array([0.4, 0.3]), np.array([0.0, 0.3])
    inverse = formulas.inverse_hessian(inputs.tolist(), damping=0.0)

    correction = formulas.gptq_correction(0.4, inverse, quantized=0)
    corrected = weights + correction
    left, without = (np.square(inputs @ (row - weights)).sum() for row in (corrected, rounded))

    assert FORMATS["int3"].weighed_by == "inverse_hessian"
    assert inverse == pytest.approx(np.linalg.inv(2 * inputs.T @ inputs), rel=1e-9)
    assert corrected[0] == pytest.approx(0.0)
    assert left == pytest.approx(0.4**2 / (2 * inverse[0][0]), rel=1e-6)  # the least that any correction leaves
    assert left < without / 20


def test_q8_awq_goes_by_the_activation_magnitude_of_a_channel_not_by_its_weights() -> None:
    inputs = [[0.1, -8.0, 1.0], [-0.1, 6.0, 1.0]]
    weights = [9.0, 0.01, 1.0]

    importance = formulas.activation_magnitude(inputs)

    assert FORMATS["int4"].weighed_by == "activation_magnitude"
    assert importance == pytest.approx([0.1, 7.0, 1.0])
    assert importance.index(max(importance)) != weights.index(max(weights))


def test_q9_q4_k_m_gives_six_bits_to_the_head_and_half_of_attn_v_and_ffn_down() -> None:
    assert sum(gguf_types.more_bits(layer, 32) for layer in range(32)) == 16
    assert sum(gguf_types.more_bits(layer, 80) for layer in range(80)) == 40
    assert gguf_types.head_bytes(decoder("llama-3-8b"), "q4_k_m") * 8 / decoder("llama-3-8b").head == 6.5625


def test_q10_a_long_shared_prefix_is_served_by_sglang_at_10_6_times_fewer_flops() -> None:
    model, asked = decoder("llama-3-8b"), Workload(prompt=2200, shared=2000)
    cold = sum(formulas.prefill_flops(model.active, model.layers, 4096, 2200, 0))
    warm = sum(formulas.prefill_flops(model.active, model.layers, 4096, 2200, 2000))

    assert engine_of(case("llama-3-8b", "a100-80", 1, asked)) == "sglang"
    assert cold / warm == pytest.approx(10.6, rel=ONE_PERCENT)


@pytest.mark.parametrize(
    ("model", "gib"), [("llama-3-8b", 4.575), ("llama-3-70b", 39.59)], ids=["published 4.58", "published 39.60"]
)
def test_weights_of_q4_k_m(model: str, gib: float) -> None:
    assert gguf_types.tensor_bytes(decoder(model), "q4_k_m") / GIB == pytest.approx(gib, rel=ONE_PERCENT)


@pytest.mark.parametrize(("model", "gigabytes"), [("llama-3-8b", 5.73), ("llama-3-70b", 39.77)])
def test_weights_w_of_awq_in_groups_of_128(model: str, gigabytes: float) -> None:
    assert FORMATS["int4"].weight_bytes(decoder(model)) / 1e9 == pytest.approx(gigabytes, rel=ONE_PERCENT)


@pytest.mark.parametrize(("model", "kib"), [("llama-3-8b", 128), ("llama-3-70b", 320), ("codellama-7b", 512)])
def test_kv_bytes_a_token_k(model: str, kib: int) -> None:
    assert decoder(model).kv_bytes() == kib * 1024


def test_compute_crossover_b_star() -> None:
    assert formulas.compute_crossover(312e12, 2, 2039e9) == pytest.approx(153, rel=ONE_PERCENT)
    assert formulas.compute_crossover(312e12, FORMATS["int4"].bytes_each, 2039e9) == pytest.approx(39.7, rel=0.01)
    assert formulas.compute_crossover(H100.peaks["fp8"], 1, H100.bandwidth) == pytest.approx(295, rel=ONE_PERCENT)


def test_speculation_tokens_a_verification_and_speedup() -> None:
    assert formulas.tokens_per_verification(0.8, 4) == pytest.approx(3.36, rel=ONE_PERCENT)
    assert formulas.speculation_speedup(0.8, 4, 0.1, 1) == pytest.approx(2.40, rel=ONE_PERCENT)
    assert formulas.speculation_speedup(0.8, 4, 0.1, 5) == pytest.approx(0.62, rel=ONE_PERCENT)
    assert formulas.tokens_per_verification(1.0, 4) == 5


def test_dollars_for_a_million_tokens() -> None:
    assert formulas.dollars_per_million(1.39, 1, 1000) == pytest.approx(0.386, rel=ONE_PERCENT)


def test_legal_tensor_parallelism_of_int4_groups() -> None:
    model = decoder("codellama-7b")

    assert model.illegal_split(2, group=128) == ""
    assert model.illegal_split(4, group=128) == "11008/128 = 86 groups % 4 != 0"
    assert model.model_copy(update={"ffn": 29568}).illegal_split(2, group=128) == "29568/128 = 231 groups % 2 != 0"
    assert model.illegal_split(4) == ""


def test_legal_tensor_parallelism_of_heads_and_kv_heads() -> None:
    model = decoder("smollm2-135m")

    assert model.illegal_split(2) == "9 heads % 2 = 1, not 0"
    assert decoder("llama-3-8b").model_copy(update={"kv_heads": 3}).illegal_split(2) == (
        "3 KV heads and 2 devices: neither divides the other"
    )


def test_mixture_of_experts_touched_experts() -> None:
    model = decoder("mixtral-8x7b")

    assert model.experts_touched(1) == pytest.approx(2.0)
    assert model.experts_touched(8) == pytest.approx(7.2, rel=ONE_PERCENT)
    assert model.active < model.streamed(8) < model.linear


def test_contiguous_and_paged_concurrency_n() -> None:
    room = 0.9 * 80e9 - FORMATS["bf16"].weight_bytes(decoder("llama-3-8b")) - 2e9
    each = decoder("llama-3-8b").kv_bytes()

    assert formulas.contiguous_concurrency(room, each, 4096) == 100
    assert formulas.paged_concurrency(room, each, 500, 150, 0) == 627


def test_link_c_is_nothing_on_one_device_and_grows_with_tokens() -> None:
    assert formulas.link_s(32, 4096, 100, 1, 20e-6, 300e9) == 0
    assert formulas.link_s(32, 4096, 100, 2, 20e-6, 300e9) == pytest.approx(64 * (20e-6 + 2 * 100 * 4096 / 300e9))


def test_lora_bytes() -> None:
    assert 80e6 <= decoder("llama-3-8b").lora_bytes(16) <= 88e6


def test_queue_p95_is_three_mean_waits_and_endless_when_full() -> None:
    assert formulas.queue_p95_s(0.5, 0.1) == pytest.approx(3 * 0.5 * 0.1 / (2 * 0.5))
    assert formulas.queue_p95_s(1.0, 0.1) == float("inf")


def test_end_to_end() -> None:
    assert formulas.end_to_end_s(0.2, 0.05, 101) == pytest.approx(5.2)


def test_encoder_latency_is_the_greater_of_maths_and_traffic_plus_kernels() -> None:
    assert formulas.encoder_s(1e9, 1e6, 1e12, 1e9, 10) == pytest.approx(1e-3 + 5e-5)
    assert formulas.encoder_s(1e9, 1e6, 1e12, 1e8, 10) == pytest.approx(1e-2 + 5e-5)


@pytest.mark.parametrize(
    ("machine", "target"),
    [
        ("h100", "tensorrt"),
        ("avx512-vnni-40c", "openvino"),
        ("phone-npu-8g3", "litert"),
        ("m2-pro-16", "coreml"),
        ("avx2-8c", "onnxruntime"),
    ],
)
def test_v1_maps_a_machine_to_its_native_runtime(machine: str, target: str) -> None:
    assert target_of(find(machine)) == target


@pytest.mark.parametrize("machine", ["a100-80", "t4"])
def test_fp8_maths_needs_sm89(machine: str) -> None:
    hardware: Hardware = find(machine)

    assert "< sm89, which FP8 maths needs" in FORMATS["fp8"].unsupported(hardware)


def test_throughput_x_of_the_worked_table() -> None:
    asked = Workload(prompt=500, output=150, shared=300, rate=500)
    found = options("llama-3-8b", "a100-80", 4, asked, Goals(ttft_ms=200))
    rates = {name: item.prediction.tokens_per_s for name, item in found.items() if item.prediction}

    assert rates["bf16 TP=1 DP=4 on sglang"] == pytest.approx(3755, rel=ONE_PERCENT)
    assert rates["int4 TP=1 DP=4 on sglang"] == pytest.approx(3150, rel=ONE_PERCENT)
    assert rates["int8 TP=1 DP=4 on sglang"] == pytest.approx(5375, rel=ONE_PERCENT)


def test_an_absolute_perplexity_budget_is_no_relative_one() -> None:
    assert pytest.approx(0.106, rel=ONE_PERCENT) == 0.3 / 2.83
    assert prior("q3_k_m", 70e9).perplexity == 0.188
    assert Option(format=FORMATS["bf16"]).devices == 1
