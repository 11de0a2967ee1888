"""PLANNER.md's four worked scenarios, with its assertions."""

import re

import pytest
from questions import adapters_8b, batch_70b, chat_8b, laptop_7b, question

from pipelines.planner.answer import Plan
from pipelines.planner.planning import answer
from pipelines.planner.prediction import Prediction
from pipelines.planner.workload import Workload


def why(plan: Plan, what: str) -> str:
    return next(item.why for item in plan.rejected if item.what == what)


def chosen(plan: Plan) -> Prediction:
    assert plan.chosen is not None
    assert plan.chosen.prediction is not None
    return plan.chosen.prediction


def rate(plan: Plan, what: str) -> float:
    found = re.search(r"([0-9.]+) req/s x", why(plan, what))
    assert found is not None
    return float(found[1])


def test_a_500_requests_a_second_are_too_many_for_four_a100() -> None:
    plan = answer(chat_8b())

    assert plan.verdict == "INFEASIBLE"
    assert plan.nearest is not None
    assert plan.nearest.devices is not None
    assert 12 <= plan.nearest.devices <= 26
    assert plan.nearest.requests_per_s == pytest.approx(143 * 0.8, rel=0.02)
    assert plan.stop == "S4: nothing left attacks it: 144 req/s x 80% load = 115 < 500 req/s"


def test_a_int8_leads_bf16_and_bf16_leads_awq_on_single_devices() -> None:
    plan = answer(chat_8b())

    assert str(plan.chosen.option if plan.chosen else None) == "int8 TP=1 DP=4 on sglang"
    assert chosen(plan).requests_per_s > rate(plan, "bf16 TP=1 DP=4 on sglang") > rate(
        plan, "int4 TP=1 DP=4 on sglang"
    )  # fmt: skip
    assert 40 <= chosen(plan).ttft_p95_ms <= 150
    assert rate(plan, "bf16 TP=1 DP=4 on sglang") > rate(plan, "bf16 TP=4 DP=1 on sglang")


def test_a_awq_is_compute_bound_and_fp8_maths_is_missing() -> None:
    plan = answer(chat_8b())

    assert why(plan, "int4 TP=1 DP=4 on sglang").startswith("compute-bound: B = 158 >= B* = 40")
    assert why(plan, "fp8 TP=1 DP=4 on sglang") == "sm80 < sm89, which FP8 maths needs"


def test_a_500_concurrent_streams_are_feasible() -> None:
    plan = answer(chat_8b(users=500))

    assert plan.verdict == "FEASIBLE"
    assert plan.chosen is not None
    assert plan.chosen.option.split == 1
    assert chosen(plan).batch == 125


def test_a_the_levers_attack_what_binds_when_they_are_pulled() -> None:
    levers = [(lever.id, lever.label) for lever in answer(chat_8b()).levers]

    assert levers[0] == ("L4", "bandwidth")
    assert {name for name, _ in levers} == {"L3b", "L4", "L5", "L8"}
    assert levers[-1][0] == "L8"


def test_b_one_gpu_with_awq_meets_the_deadline() -> None:
    plan = answer(batch_70b())

    assert plan.verdict == "FEASIBLE"
    assert str(plan.chosen.option if plan.chosen else None) == "int4 on vllm"
    assert chosen(plan).concurrency == 21
    assert plan.hours is not None
    assert 8 <= plan.hours <= 18
    assert plan.dollars == pytest.approx(18.4, rel=0.02)
    assert plan.stop.startswith("deadline met: 13.3 <= 24 h")
    assert plan.serve["max_model_len"] == 4300
    assert plan.serve["max_num_seqs"] == 21


def test_b_bf16_does_not_fit_and_fp8_maths_is_missing() -> None:
    plan = answer(batch_70b())

    assert why(plan, "bf16 TP=2 DP=1 on vllm") == ("weights 70.6 GB + reserve 2.0 > 72.0 GB a device (room -0.6 GB)")
    assert why(plan, "fp8 on vllm") == "sm80 < sm89, which FP8 maths needs"


def test_b_int8_on_two_is_the_cheaper_challenger_behind_a_gate() -> None:
    plan = answer(batch_70b())

    assert plan.challenger is not None
    assert plan.challenger.option == "int8 TP=2 DP=1 on vllm"
    assert plan.challenger.gain == "3.8 h, $10.65"
    assert "INT8 breakage reported" in plan.challenger.gate
    assert plan.dollars is not None
    assert plan.dollars > 10.65


def test_b_three_bits_break_the_quality_budget() -> None:
    assert "perplexity +18.8% > 5% allowed" in why(answer(batch_70b()), "int3 on vllm")


def test_b_two_40_gb_gpus_have_to_share_the_weights() -> None:
    plan = answer(batch_70b("a100-40"))

    assert str(plan.chosen.option if plan.chosen else None) == "int4 TP=2 DP=1 on vllm"
    assert "weights 39.8 GB" in why(plan, "int4 on vllm")
    assert "> 36.0 GB" in why(plan, "int4 on vllm")


def test_c_a_laptop_meets_100_ms_only_behind_a_cached_prefix() -> None:
    plan = answer(laptop_7b())

    assert plan.verdict == "WARM_ONLY"
    assert str(plan.chosen.option if plan.chosen else None) == "q4_k_m on llama.cpp"
    assert 2000 <= chosen(plan).ttft_p95_ms <= 5000
    assert plan.warm_tokens is not None
    assert 18 <= plan.warm_tokens <= 40
    assert 25 <= chosen(plan).tbt_ms <= 55


def test_c_full_precision_does_not_fit_and_the_context_is_limited() -> None:
    plan = answer(laptop_7b())

    assert why(plan, "f16 on llama.cpp").startswith("weights 13.5 GB + reserve 1.0 > 10.7 GB")
    assert plan.context_limit is not None
    assert 9000 <= plan.context_limit <= 12_000
    assert plan.serve["max_model_len"] == 4096


def test_d_adapters_share_one_unquantized_base_on_every_gpu() -> None:
    plan = answer(adapters_8b())

    assert plan.verdict == "FEASIBLE"
    assert str(plan.chosen.option if plan.chosen else None) == "bf16 TP=1 DP=8 on vllm"
    assert plan.stop == "no pressure; adapters validated on BF16"
    assert chosen(plan).concurrency == 570
    assert 57 <= chosen(plan).requests_per_s <= 120
    assert chosen(plan).adapter_bytes <= 1.5e9
    assert plan.serve["max_loras"] == 16
    assert plan.serve["max_cpu_loras"] == 1000


def test_d_merged_copies_do_not_fit() -> None:
    question = adapters_8b()
    work = question.work.model_copy(update={"adapters": 50, "active_adapters": 16})

    plan = answer(question.model_copy(update={"work": work}))

    assert why(plan, "merging adapters") == "50 x 16.06 = 803 GB > 576 GB"


def test_a_lever_that_attacks_nothing_that_binds_says_what_it_is_pulled_for() -> None:
    plan = answer(question("llama-3-8b", "a100-80", 2, Workload(rate=20, shared=300)))

    free = next(lever for lever in plan.levers if lever.id == "L5")

    assert free.label is None
    assert free.reason == "skips prefill; free at s/P = 0.59 >= 0.2"
