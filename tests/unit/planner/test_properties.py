"""What holds of every question, whatever the numbers."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from questions import decoder

from pipelines.planner import hardware
from pipelines.planner.calibrations import Calibrations
from pipelines.planner.case import Case, Option
from pipelines.planner.costs import Costs
from pipelines.planner.efficiency import default
from pipelines.planner.formats import all_formats
from pipelines.planner.hardware import Hardware
from pipelines.planner.levers import EDGE, SERVER
from pipelines.planner.options import weigh_all
from pipelines.planner.planning import Question, answer
from pipelines.planner.prediction import predict
from pipelines.planner.workload import Goals, Limits, Workload

FORMATS = all_formats()
MACHINES = [hardware.find(name) for name in hardware.names() if hardware.find(name).kind != "npu"]
machines = st.sampled_from(MACHINES)
models = st.sampled_from([decoder(name) for name in ("llama-3-8b", "codellama-7b", "smollm2-135m", "mixtral-8x7b")])
lengths = st.integers(1, 8000)


@st.composite
def workloads(draw: st.DrawFn) -> Workload:
    prompt = draw(lengths)
    load = draw(st.sampled_from(["rate", "users"]))
    return Workload(
        prompt=prompt,
        output=draw(st.integers(1, 2000)),
        shared=draw(st.integers(0, prompt - 1)),
        rate=draw(st.floats(0.01, 1000)) if load == "rate" else None,
        users=draw(st.integers(1, 500)) if load == "users" else None,
    )


@st.composite
def cases(draw: st.DrawFn) -> tuple[Case, Option]:
    machine = draw(machines)
    form = draw(st.sampled_from([item for item in FORMATS.values() if not item.unsupported(machine)]))
    option = Option(format=form, engine="vllm" if machine.kind == "gpu" else "llama.cpp")
    goals = Goals(ttft_ms=draw(st.floats(10, 5000)), tbt_ms=draw(st.floats(5, 200)))
    return Case(draw(models), machine, draw(st.integers(1, 8)), draw(workloads()), goals, Limits()), option


def with_machine(case: Case, machine: Hardware) -> Case:
    return replace(case, hardware=machine)


@given(cases(), st.integers(1, 500), st.floats(1.0, 10.0))
def test_more_bandwidth_never_raises_the_time_between_tokens(
    drawn: tuple[Case, Option], batch: int, factor: float
) -> None:
    case, option = drawn
    reached = default(case.hardware, option.engine, option.format)
    faster = case.hardware.model_copy(update={"bandwidth": case.hardware.bandwidth * factor})

    before, after = (
        batch / Costs(with_machine(case, machine), option, reached).throughput(batch)
        for machine in (case.hardware, faster)
    )

    assert after <= before * (1 + 1e-12)


@given(cases(), st.floats(1.0, 10.0))
def test_more_memory_never_lowers_concurrency(drawn: tuple[Case, Option], factor: float) -> None:
    case, option = drawn
    reached = default(case.hardware, option.engine, option.format)
    roomier = case.hardware.model_copy(update={"memory_bytes": case.hardware.memory_bytes * factor})

    before = predict(case, option, reached)
    after = predict(with_machine(case, roomier), option, reached)

    assert after.concurrency >= before.concurrency


@given(cases(), st.integers(1, 4000), st.integers(1, 200), st.floats(0.0, 50.0))
def test_a_longer_prompt_never_lowers_the_time_to_the_first_token(
    drawn: tuple[Case, Option], more: int, batch: int, rate: float
) -> None:
    case, option = drawn
    reached = default(case.hardware, option.engine, option.format)
    longer = replace(case, work=case.work.model_copy(update={"prompt": case.work.prompt + more}))

    before = Costs(case, option, reached).ttft(batch, rate, case.work.shared)
    after = Costs(longer, option, reached).ttft(batch, rate, case.work.shared)

    assert after >= before


@pytest.mark.slow
@given(models, machines, st.integers(1, 8), workloads(), st.floats(1, 2000), st.floats(1, 200))
@settings(max_examples=25, deadline=None)
def test_an_infeasible_plan_names_a_violated_inequality_of_every_option(
    model: object, machine: Hardware, count: int, work: Workload, ttft: float, tbt: float
) -> None:
    goals = Goals(ttft_ms=ttft, tbt_ms=tbt)

    plan = answer(
        Question.model_validate({"model": model, "hardware": machine, "count": count, "work": work, "goals": goals})
    )

    if plan.verdict == "INFEASIBLE":
        assert plan.chosen is None or plan.chosen.violated
        assert plan.stop.startswith("S4: ")
        assert all(item.why for item in plan.rejected)
    else:
        assert plan.chosen is not None
        assert plan.chosen.prediction is not None
        assert plan.chosen.prediction.concurrency > 0
    options = weigh_all(Case(plan_model(model), machine, count, work, goals, Limits()), Calibrations())
    accepted = [item for item in options if item.accepted]
    assert bool(accepted) <= (plan.verdict != "INFEASIBLE")
    assert all(any(sign in text for sign in "<>%:") or "no kernels" in text or "neither" in text
               for item in options for text in item.violated)  # fmt: skip


def plan_model(model: object):  # type: ignore[no-untyped-def]  # noqa: ANN201
    return model


@pytest.mark.parametrize("scale", [2, 4])
def test_more_devices_never_serve_fewer_requests(scale: int) -> None:
    model, machine = decoder("llama-3-8b"), hardware.find("a100-80")
    work = Workload(prompt=500, output=150, rate=5)
    few, many = (answer(Question(model=model, hardware=machine, count=count, work=work)).chosen for count in (1, scale))

    assert few is not None
    assert many is not None
    assert few.prediction is not None
    assert many.prediction is not None
    assert many.prediction.requests_per_s >= few.prediction.requests_per_s


@pytest.mark.slow
@given(models, machines, st.integers(1, 8), workloads())
@settings(max_examples=25, deadline=None)
def test_a_lever_is_pulled_at_a_label_that_it_attacks_or_says_what_it_is_pulled_for(
    model: object, machine: Hardware, count: int, work: Workload
) -> None:
    levers = {lever.name: lever for lever in (*SERVER, *EDGE)}

    plan = answer(Question.model_validate({"model": model, "hardware": machine, "count": count, "work": work}))

    for item in plan.levers:
        attacks = levers[item.name.partition(":")[0]].attacks
        assert item.label in attacks if item.label else item.reason != levers[item.name.partition(":")[0]].reason
