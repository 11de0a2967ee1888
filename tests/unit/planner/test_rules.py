"""PLANNER.md's decision rules and outputs, one by one: section 2's table, its stops, and what a plan says of itself."""

import pytest
from questions import adapters_8b, batch_70b, case, laptop_7b, question

from pipelines.planner import engine_files, reading
from pipelines.planner.answer import Plan
from pipelines.planner.bands import rating
from pipelines.planner.calibrations import Calibrations
from pipelines.planner.case import Option
from pipelines.planner.efficiency import default
from pipelines.planner.formats import all_formats, whole_format
from pipelines.planner.hardware import Hardware, find
from pipelines.planner.options import options, weigh_all
from pipelines.planner.planning import answer
from pipelines.planner.prediction import predict
from pipelines.planner.workload import Goals, Limits, Workload

FORMATS = all_formats()
SHORT_OF_CACHE = Workload(prompt=4000, output=1000, rate=4)


def levers(plan: Plan) -> list[str]:
    return [lever.id for lever in plan.levers]


def left(plan: Plan, what: str) -> str:
    return next(item.why for item in plan.rejected if item.what == what)


def test_l3b_fp8_from_sm89_on_and_int8_up_to_sm86() -> None:
    said = {name: [FORMATS[form].unsupported(find(name)) == "" for form in ("fp8", "int8")]
            for name in ("t4", "a100-80", "l4", "rtx-4090", "h100")}  # fmt: skip

    assert said == {"t4": [False, True], "a100-80": [False, True], "l4": [True, False], "rtx-4090": [True, False],
                    "h100": [True, False]}  # fmt: skip
    assert FORMATS["int8"].unsupported(find("l4")) == "sm89 > sm86: FP8 W8A8 takes its place"


def test_l4_is_for_more_than_one_user() -> None:
    alone, two = (answer(question("llama-3-8b", "h100", 1, Workload(users=users))) for users in (1, 2))

    assert "L4" not in levers(alone)
    assert left(alone, "L4 batching").startswith("1 user: ")
    assert "L4" in levers(two)


def test_l5_is_from_a_fifth_of_the_prompt_on() -> None:
    less, more = (
        answer(question("llama-3-8b", "h100", 1, Workload(prompt=1000, shared=shared))) for shared in (199, 200)
    )

    assert "L5" not in levers(less)
    assert left(less, "L5 prefix cache") == "s/P = 0.20 < 0.2"
    assert less.serve["enable_prefix_caching"] is False
    assert "L5" in levers(more)
    assert more.serve["enable_prefix_caching"] is True


def test_l6_relieves_a_rate_that_only_the_cache_holds_back() -> None:
    asked = case("codellama-7b", "a100-40", 1, SHORT_OF_CACHE, Goals(ttft_ms=20_000, tbt_ms=1000))
    weighed = {str(item.option): item for item in weigh_all(asked, Calibrations())}
    plain = weighed["bf16 on vllm"].prediction

    assert plain is not None
    assert (plain.batch, plain.label) == (plain.concurrency, "capacity")
    relieved = weighed["bf16 on vllm, 8-bit KV"].prediction
    assert relieved is not None
    assert relieved.concurrency >= 2 * plain.concurrency


def test_an_8_bit_cache_is_gated_like_any_lever_that_changes_quality() -> None:
    work = Workload(prompt=3000, output=500, users=40)
    plan = answer(question("codellama-7b", "a100-80", 1, work, Goals(ttft_ms=20_000, tbt_ms=1000)))

    assert str(plan.chosen.option if plan.chosen else "") == "bf16 on vllm, 8-bit KV"
    assert plan.pipeline["stages"] == ["evaluate", "benchmark", "serve_config"]
    assert "an 8-bit KV cache costs quality that no prior tells: the gate decides" in plan.assumptions


def test_l7_is_stopped_by_a_verification_that_costs_more_than_one_and_a_half_steps() -> None:
    def asked(verify_cost: float) -> list[str]:
        limits = Limits(acceptance=0.8, verify_cost=verify_cost)
        weighed = weigh_all(
            case("llama-3-70b", "a100-80", 1, Workload(users=1), Goals(tbt_ms=20), limits), Calibrations()
        )
        return [str(item.option) for item in weighed if item.option.speculative]

    assert asked(1.5) == ["int4 on vllm, speculative"]
    assert asked(1.6) == []


def test_l10_one_base_for_all_adapters_comes_first_and_says_what_merging_costs() -> None:
    plan = answer(adapters_8b())
    first = plan.levers[0]

    assert first.id == "L10"
    assert first.name == "multi-LoRA on one BF16 base, 16 slots of rank 16, affinity routing"
    assert first.reason == "merging costs 1000 copies; on the host 1000 x 84 MB = 84 GB"


def test_l11_says_what_is_paid_for() -> None:
    batch = answer(batch_70b()).levers[-1]
    cost = answer(question("llama-3-8b", "h100", 2, Workload(), Goals(objective="cost")))

    assert (batch.id, batch.name) == ("L11", "cost: 1 of 2 devices, spot instances: a batch can be interrupted")
    assert cost.levers[-1].name == "cost: 1 of 2 devices, autoscaling, or spot"
    assert "L11" not in levers(answer(question("llama-3-8b", "h100", 1, Workload())))


def test_s2_stops_a_plan_for_cost_within_the_planners_error() -> None:
    plan = answer(question("llama-3-8b", "h100", 1, Workload(), Goals(objective="cost")))

    assert plan.stop == "S2: nothing else that is accepted is cheaper by more than the planner's error of 15%"


@pytest.mark.parametrize(
    ("goals", "said"),
    [
        (Goals(ttft_ms=1, tbt_ms=1), ["TTFT p95 ", "TBT "]),
        (Goals(dollars_per_million=1e-4), ["$0.08"]),
    ],
)
def test_s4_says_how_near_the_closest_option_comes(goals: Goals, said: list[str]) -> None:
    plan = answer(question("llama-3-8b", "h100", 1, Workload(), goals))

    assert plan.verdict == "INFEASIBLE"
    assert [text in str(plan.nearest) for text in said] == [True] * len(said)
    assert "devices" not in str(plan.nearest)


def test_v3_takes_int8_only_where_integers_have_units_of_their_own() -> None:
    model = reading.read("weights=25600000,flops=8.2e9,kernels=120")
    asked = question("llama-3-8b", "avx2-8c", 1, Workload(), Goals(ttft_ms=5)).model_copy(update={"model": model})
    vnni = asked.model_copy(update={"hardware": find("avx512-vnni-40c"), "goals": Goals(ttft_ms=1)})

    assert left(answer(asked), "V3 int8") == "no VNNI, AMX or NPU: INT8 is hardly faster than float32 here"
    assert "V3" not in levers(answer(asked))
    assert "V3" in levers(answer(vnni))


def test_a_gpu_without_bf16_runs_fp16_and_tells_the_engine() -> None:
    plan = answer(question("smollm2-135m", "t4", 1, Workload()))

    assert whole_format(find("t4")).name == "fp16"
    assert str(plan.chosen.option if plan.chosen else "") == "fp16 on vllm"
    assert not [item for item in plan.rejected if item.what.startswith("bf16")]
    assert engine_files.settings(plan, "m", "vllm")["dtype"] == "float16"
    assert "dtype" not in engine_files.settings(answer(question("smollm2-135m", "l4", 1, Workload())), "m", "vllm")


def test_c_memory_holds_the_whole_context_that_is_served() -> None:
    plan = answer(laptop_7b())
    memory = next(band.value for band in plan.predictions if band.name == "memory a device")

    assert memory == pytest.approx(7.2e9, rel=0.01)


@pytest.mark.parametrize(
    ("goals", "ttft", "tbt"),
    [
        (Goals(tbt_ms=30), "good", "good"),
        (Goals(tbt_ms=100), "good", "poor"),
    ],
)
def test_times_are_good_ok_or_poor(goals: Goals, ttft: str, tbt: str) -> None:
    plan = answer(question("llama-3-8b", "h100", 1, Workload(), goals))

    assert {band.name: band.rating for band in plan.predictions if band.rating} == {"TTFT p95": ttft, "TBT": tbt}


def test_a_second_to_the_first_token_is_poor_and_more_is_beyond_that() -> None:
    assert [rating("ttft", value) for value in (200, 500, 1000, 1001)] == ["good", "ok", "poor", "beyond poor"]


def test_every_goal_is_echoed() -> None:
    said = answer(question("llama-3-8b", "h100", 1, Workload())).assumptions[1]

    assert said == "goals: TTFT p95 500 ms, TBT 50 ms; objective slo; perplexity +5%, task -1 points"


def dollars(machine: Hardware, model: str, form: str, split: int, work: Workload) -> float:
    """$ for 10^6 tokens of a saturated server that keeps a token in 100 ms."""
    asked = case(model, "a100-80", split, work, Goals(ttft_ms=60_000, tbt_ms=100), Limits(load=1.0))
    option = Option(format=FORMATS[form], split=split)
    found = predict(asked, option, default(machine, "vllm", FORMATS[form])).dollars_per_million
    assert found is not None
    return found


def test_pitfall_1_int4_loses_to_bf16_where_the_server_is_saturated() -> None:
    work, machine = Workload(prompt=500, output=500), find("a100-80")

    assert dollars(machine, "llama-3-8b", "int4", 1, work) > dollars(machine, "llama-3-8b", "bf16", 1, work)


def test_pitfall_4_the_cache_of_codellama_q4_exceeds_its_weights_from_7800_tokens_on() -> None:
    model = case("codellama-7b", "m2-pro-16", 1, Workload()).model

    assert FORMATS["q4_k_m"].weight_bytes(model) / model.kv_bytes() == pytest.approx(7800, rel=0.01)


def test_pitfall_7_a_token_s_price_depends_on_prompt_and_output() -> None:
    short, long = (
        dollars(find("a100-80"), "llama-3-70b", "bf16", 4, Workload(prompt=prompt, output=output))
        for prompt, output in ((128, 1024), (2000, 200))
    )

    assert short == pytest.approx(0.46, rel=0.35)
    assert long == pytest.approx(3.94, rel=0.35)


def test_pitfall_7_saturated_int4_costs_more_than_bf16() -> None:
    work, machine = Workload(prompt=500, output=500), find("a100-80")
    bf16, int4 = dollars(machine, "llama-3-70b", "bf16", 4, work), dollars(machine, "llama-3-70b", "int4", 1, work)

    assert bf16 == pytest.approx(0.76, rel=0.1)
    assert int4 == pytest.approx(0.85, rel=0.1)
    assert int4 > bf16


def test_pitfall_7_a_processor_s_token_costs_ten_times_a_gpu_s() -> None:
    asked = question("codellama-7b", "avx2-8c", 1, Workload(prompt=500, output=500, users=1), limits=Limits(load=1.0))
    chosen = answer(asked).chosen

    assert chosen is not None
    assert chosen.prediction is not None
    assert chosen.prediction.dollars_per_million == pytest.approx(10, rel=0.35)


CATALOGUE = """
a100-40          40  1555 fp16=312 int8=624 1.10
a100-80          80  2039 fp16=312 int8=624 1.39
h100             80  3350 fp16=989 int8=1979 fp8=1979 2.69
h200            141  4800 fp16=989 int8=1979 fp8=1979 3.59
l4               24   300 fp16=121 int8=242 fp8=242 0.44
l40s             48   864 fp16=362 int8=733 fp8=733 0.79
t4               16   320 fp16=65 int8=130 0.35
rtx-4090         24  1008 fp16=165 int8=661 fp8=330 0.34
rtx-5090         32  1792 fp16=209 int8=838 fp8=419 0.69
m2-pro-16     10.72   200 fp16=6.8 0
m3-max-40c       48   400 fp16=16.4 0
avx2-8c          32    51 fp32=0.9 int8=1.8 0.34
avx512-vnni-40c 256   205 fp32=5.9 int8=23.6 1.6
amx-56c         512   307 fp16=115 int8=229 2.4
phone-npu-8g3   4.8    77 int8=45 0
"""


@pytest.mark.parametrize("line", CATALOGUE.strip().splitlines(), ids=lambda line: line.split()[0])
def test_the_catalogue_is_section_5s(line: str) -> None:
    name, memory, bandwidth, *peaks, price = line.split()
    found = find(name)

    assert found.memory_bytes * found.usable == pytest.approx(float(memory) * 1e9)
    assert found.bandwidth == float(bandwidth) * 1e9
    assert {f"{key}={value / 1e12:g}" for key, value in found.peaks.items()} == set(peaks)
    assert found.price_per_hour == float(price)


def test_options_are_enumerated_for_what_a_machine_has() -> None:
    names = [item.format.name for item in options(case("llama-3-8b", "h100", 1, Workload()))]

    assert names == ["bf16", "fp8", "int8", "int4", "int3"]
