"""PLANNER.md's formulas that no golden value names, each by its own arithmetic; the worked tables of its scenarios."""

import pytest
from questions import CHAT, TTFT_200, adapters_8b, batch_70b, case, chat_8b, decoder, laptop_7b, question

from pipelines.planner import formulas
from pipelines.planner.calibrations import Calibrations
from pipelines.planner.case import Option
from pipelines.planner.costs import Costs
from pipelines.planner.efficiency import default
from pipelines.planner.formats import all_formats
from pipelines.planner.hardware import find
from pipelines.planner.left_alone import engine_reason
from pipelines.planner.options import weigh_all
from pipelines.planner.planning import answer
from pipelines.planner.prediction import Prediction, predict
from pipelines.planner.workload import Goals, Workload

FORMATS = all_formats()
A100, H100 = find("a100-80"), find("h100")
PL, PH, BW = decoder("llama-3-8b").linear, decoder("llama-3-8b").head, A100.bandwidth


def costs(form: str, work: Workload = CHAT, split: int = 1, machine: str = "a100-80") -> Costs:
    option = Option(format=FORMATS[form], split=split)
    reached = default(find(machine), "vllm", FORMATS[form])
    return Costs(case("llama-3-8b", machine, split, work), option, reached)


def found(plan_option: str) -> Prediction:
    weighed = weigh_all(case("llama-3-8b", "a100-80", 4, CHAT, TTFT_200), Calibrations())
    prediction = next(item.prediction for item in weighed if str(item.option) == plan_option)
    assert prediction is not None
    return prediction


def test_group_bytes_b_of_int4() -> None:
    assert FORMATS["int4"].bytes_each == (4 + 20 / 128) / 8
    assert formulas.group_bytes(3, 64) == (3 + 20 / 64) / 8


def test_kv_bytes_of_a_device_are_split_over_at_most_hkv() -> None:
    whole = decoder("llama-3-8b").kv_bytes()

    assert [costs("bf16", split=t).kv_bytes() for t in (1, 2, 8, 16)] == [whole, whole / 2, whole / 8, whole / 8]


def test_room_r_is_memory_less_weights_reserve_and_lora_slots() -> None:
    plain = predict(
        case("llama-3-8b", "a100-80", 1, CHAT), Option(format=FORMATS["bf16"]), default(A100, "vllm", FORMATS["bf16"])
    )
    work = CHAT.model_copy(update={"adapters": 20, "active_adapters": 16})
    with_adapters = predict(
        case("llama-3-8b", "a100-80", 1, work), Option(format=FORMATS["bf16"]), default(A100, "vllm", FORMATS["bf16"])
    )

    assert plain.room_bytes == pytest.approx(0.9 * 80e9 - plain.weight_bytes - 2e9)
    assert plain.room_bytes - with_adapters.room_bytes == 16 * decoder("llama-3-8b").lora_bytes(16)


def test_prefill_tp_is_matrices_and_attention_at_their_own_efficiencies() -> None:
    matrices = 2 * PL * 200 / (312e12 * 0.65)
    attention = 2 * 32 * 4096 * (500**2 - 300**2) / (312e12 * 0.65)

    assert costs("bf16").prefill(300) == pytest.approx(matrices + attention, rel=1e-6)
    int8 = 2 * PL * 200 / (624e12 * 0.55) + attention
    assert costs("int8").prefill(300) == pytest.approx(int8, rel=1e-6)
    int4 = 2 * PL * 200 / (312e12 * 0.65 * 0.8) + attention
    assert costs("int4").prefill(300) == pytest.approx(int4, rel=1e-6)


def test_prefill_tp_is_no_less_than_reading_the_weights_once() -> None:
    short = Workload(prompt=2, output=10)

    assert costs("bf16", short).prefill(0) == pytest.approx(2 * PL / (BW * 0.85), rel=1e-6)


def test_decode_td_at_batch_1_is_the_bytes_that_it_reads_and_t0() -> None:
    cache = (500 + 75) * decoder("llama-3-8b").kv_bytes()
    read = (2 * PL + 2 * PH + cache) / (BW * 0.85)

    assert costs("bf16").decode(1) == pytest.approx(read + 2e-3 + 5e-6, rel=1e-3)


def test_t0_grows_to_256_sequences() -> None:
    assert formulas.step_s(1) == pytest.approx(2.005e-3)
    assert formulas.step_s(256) == formulas.step_s(1000) == pytest.approx(3.28e-3)


def test_throughput_x() -> None:
    assert formulas.throughput(0.85, 10, 100, 0.02, 0.03) == pytest.approx(0.85 * 10 * 100 / (10 * 0.02 + 100 * 0.03))


def test_rho_is_the_share_of_time_that_prefills_take() -> None:
    assert formulas.utilisation(10, 0.02, 0.85) == pytest.approx(10 * 0.02 / 0.85)


def test_ttft_p95_is_12_ms_and_tp_and_td_and_the_queue() -> None:
    asked = costs("bf16")
    prefill, rho = asked.prefill(300), 20 * asked.prefill(300) / 0.85
    expected = 0.012 + prefill + asked.decode(8) + 1.5 * rho * prefill / (1 - rho)

    assert asked.ttft(8, 20, 300) == pytest.approx(expected)


def test_multi_lora_multiplies_tp_and_td_by_1_2() -> None:
    several = costs("bf16", CHAT.model_copy(update={"adapters": 2, "active_adapters": 2}))

    assert several.prefill(300) / costs("bf16").prefill(300) == pytest.approx(1.2)
    assert several.decode(8) / costs("bf16").decode(8) == pytest.approx(1.2)


def test_tensor_parallelism_pays_link_c_in_both_phases() -> None:
    two = costs("bf16", split=2)
    link = formulas.link_s(32, 4096, 8, 2, 20e-6, 300e9)

    assert two.link(8) == link
    assert two.decode(8) > costs("bf16").decode(8) / 2 + link / 2


def test_default_efficiencies_by_machine_engine_and_format() -> None:
    bf16, fp8 = default(H100, "vllm", FORMATS["bf16"]), default(H100, "tensorrt-llm", FORMATS["fp8"])
    metal = default(find("m2-pro-16"), "llama.cpp", FORMATS["q4_k_m"])

    assert (bf16.compute, bf16.bandwidth, bf16.kappa, bf16.server_s) == (0.65, 0.85, 0.85, 0.012)
    assert (fp8.compute, fp8.attention, fp8.kappa) == (0.55, 0.65, 1.0)
    assert (metal.bandwidth, metal.compute, metal.step_s, metal.server_s) == (0.9, 0.6, 8e-3, 0.0)


def test_links_are_of_nvlink_or_pcie() -> None:
    assert [find(name).link for name in ("a100-80", "h100", "l4", "rtx-5090")] == [300e9, 450e9, 32e9, 64e9]


def test_experts_are_all_held_and_the_active_ones_computed() -> None:
    model = decoder("mixtral-8x7b")
    held, computed = FORMATS["bf16"].weight_bytes(model), 2 * model.active

    assert held > 85e9
    assert computed < held / 3


@pytest.mark.parametrize(
    ("form", "rate", "ttft", "dollars"),
    [("bf16", 25, 66, 0.129), ("int4", 21, 73, 0.153), ("int8", 36, 55, 0.090)],
)
def test_a_worked_table(form: str, rate: float, ttft: float, dollars: float) -> None:
    row = found(f"{form} TP=1 DP=4 on sglang")

    assert row.requests_per_s / 4 == pytest.approx(rate, abs=0.6)
    assert row.ttft_p95_ms == pytest.approx(ttft, rel=0.05)
    assert row.tbt_ms == pytest.approx(50, rel=0.02)
    assert row.dollars_per_million == pytest.approx(dollars, rel=0.01)


def test_a_four_replicas_carry_100_requests_and_one_of_four_devices_fewer() -> None:
    assert found("bf16 TP=1 DP=4 on sglang").requests_per_s == pytest.approx(100, rel=0.02)
    assert found("bf16 TP=4 DP=1 on sglang").requests_per_s == pytest.approx(86, rel=0.15)  # 75 by the formulas


def test_a_about_eight_h100_with_fp8_carry_it() -> None:
    asked = chat_8b().model_copy(update={"hardware": H100})
    plan = answer(asked)

    assert plan.nearest is not None
    assert plan.nearest.devices == pytest.approx(8, rel=0.35)  # 7 by the formulas
    assert plan.chosen is not None
    assert plan.chosen.option.format.name == "fp8"


def test_a_500_streams_on_int8_take_25_ms_a_token() -> None:
    asked = case("llama-3-8b", "a100-80", 4, CHAT.model_copy(update={"rate": None, "users": 500}), TTFT_200)
    int8 = next(item for item in weigh_all(asked, Calibrations()) if str(item.option).startswith("int8 TP=1 DP=4"))

    assert int8.prediction is not None
    assert int8.prediction.tbt_ms == pytest.approx(25, rel=0.15)


def test_b_worked_figures() -> None:
    plan = answer(batch_70b())

    assert plan.chosen is not None
    assert plan.chosen.prediction is not None
    assert plan.chosen.prediction.tokens_per_s == pytest.approx(63, rel=0.02)
    assert plan.chosen.prediction.dollars_per_million == pytest.approx(6.1, rel=0.02)
    assert plan.chosen.prediction.weight_bytes == pytest.approx(39.8e9, rel=0.01)


def test_c_worked_figures() -> None:
    plan = answer(laptop_7b())

    assert plan.chosen is not None
    assert plan.chosen.prediction is not None
    assert plan.chosen.prediction.weight_bytes == pytest.approx(4.08e9, rel=0.01)
    assert 1000 / (plan.chosen.prediction.cold_ttft_ms / 1e3) == pytest.approx(315, rel=0.03)
    assert plan.warm_tokens == pytest.approx(28, abs=1)
    assert 30 <= plan.chosen.prediction.tbt_ms <= 42
    assert plan.chosen.prediction.dollars_per_million == 0


def test_d_worked_figures() -> None:
    plan = answer(adapters_8b())

    assert plan.chosen is not None
    assert (row := plan.chosen.prediction) is not None
    assert row.batch == 110
    assert row.requests_per_s == pytest.approx(88, rel=0.02)
    assert row.tokens_per_s * 8 == pytest.approx(17_700, rel=0.02)
    assert row.dollars_per_million == pytest.approx(0.219, rel=0.01)
    assert row.tbt_ms == pytest.approx(50, rel=0.02)


def test_q10_names_the_runner_up() -> None:
    asked = case("llama-3-8b", "a100-80", 1, Workload(prompt=2200, shared=2000))

    assert engine_reason(asked) == "s/P = 0.91 >= 0.6: SGLang's radix cache (runner-up: vLLM's prefix cache)"


def test_every_defaulted_input_is_echoed_and_varied() -> None:
    plan = answer(question("llama-3-8b", "h100", 1, Workload()))

    assert plan.assumptions[0] == "prompt 512, output 256, shared prefix 0 tokens; 1 req/s"
    assert [item.what for item in plan.variations] == [
        "prompt x 1/2", "prompt x 2", "output x 1/2", "output x 2", "load x 1/2", "load x 2",
    ]  # fmt: skip


def test_a_plan_says_how_full_cache_and_device_are() -> None:
    asked = case("llama-3-8b", "a100-80", 1, Workload())
    paged = predict(asked, Option(format=FORMATS["bf16"]), default(A100, "vllm", FORMATS["bf16"]))
    reserved = predict(asked, Option(format=FORMATS["bf16"], paged=False), default(A100, "vllm", FORMATS["bf16"]))

    assert paged.kv_utilisation >= 0.95
    assert 0.6 <= reserved.kv_utilisation <= 0.9
    assert 0 < paged.device_utilisation < 1


def test_a_deadline_that_nothing_meets_is_infeasible_with_the_hours_that_it_takes() -> None:
    asked = batch_70b()
    plan = answer(asked.model_copy(update={"goals": Goals(objective="batch", hours=0.5)}))

    assert plan.verdict == "INFEASIBLE"
    assert plan.nearest is not None
    assert plan.nearest.hours is not None
