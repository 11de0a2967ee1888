"""Bad input: refused with the way out, or planned with a word of doubt."""

import sys
from pathlib import Path

import pytest
import yaml

sys.path.insert(0, str(Path(__file__).parent.parent / "pipelines"))
from commanding import Command, home, tapeout
from questions import question

from pipelines.errors import UserError
from pipelines.planner import hardware, reading
from pipelines.planner.planning import answer
from pipelines.planner.workload import Goals, Limits, Workload
from stages.base import ROOT

__all__ = ["home", "tapeout"]
GPU = {"kind": "gpu", "memory_gb": 80, "bandwidth_gb_s": 2000, "tflops": {"fp16": 312}}


def machine(folder: Path, **changes: object) -> str:
    file = folder / "mine.yaml"
    file.write_text(yaml.safe_dump({**GPU, **changes}))
    return str(file)


@pytest.mark.parametrize(
    ("changes", "message", "hint"),
    [
        ({"tflops": 312}, "`tflops` is of no format", "write `tflops: {fp16: 312, int8: 624}`"),
        ({"bandwidth_gb_s": "fast"}, "`bandwidth_gb_s` is no number: fast", "a bare number, or [number, where"),
        ({"memory_gb": -80}, "`memory_gb` is no number: -80", "a bare number"),
        ({"tflops": {"fp16": None}}, "`tflops.fp16` is no number: None", "a bare number"),
        ({"bandwith_gb_s": 3}, "no field `bandwith_gb_s`", "did you mean `bandwidth_gb_s`?"),
    ],
)
def test_a_machine_of_one_s_own_that_is_wrong_says_where(
    tmp_path: Path, changes: dict[str, object], message: str, hint: str
) -> None:
    file = machine(tmp_path, **changes)

    with pytest.raises(UserError) as caught:
        hardware.find(file)

    assert caught.value.message == f"{file}: `mine`: {message}"
    assert caught.value.hint.startswith(hint)


def test_an_entry_copied_out_of_the_catalogue_is_a_machine_of_one_s_own(tmp_path: Path) -> None:
    catalogue = yaml.safe_load((ROOT / "targets" / "hardware.yaml").read_text())["machines"]
    file = tmp_path / "copied.yaml"
    file.write_text(yaml.safe_dump(catalogue["h100"]))

    found, known = hardware.find(str(file)), hardware.find("h100")

    assert found.peaks == known.peaks
    assert (found.bandwidth, found.link, found.price_per_hour) == (known.bandwidth, known.link, known.price_per_hour)
    assert found.sources["memory_gb"] == "vendor"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"memory_gb": 80_000}, "memory_gb 80000 is absurdly large for mine: MB or bytes given for GB?"),
        ({"bandwidth_gb_s": 2.0}, "bandwidth_gb_s 2 is absurdly small for mine: TB/s or bytes given for GB/s?"),
        ({"tflops": {"fp16": 312e12}}, "tflops 3.12e+14 is absurdly large for mine: GFLOP/s or PFLOP/s given for"),
        ({"price_per_hour": 2000}, "price_per_hour 2000 is absurdly large for mine: a month's price?"),
    ],
)
def test_mistaken_units_of_a_machine_are_warned_of(tmp_path: Path, changes: dict[str, object], said: str) -> None:
    found = hardware.absurd(hardware.find(machine(tmp_path, **changes)))

    assert [text.startswith(said) for text in found] == [True]


def test_no_machine_of_the_catalogue_is_absurd() -> None:
    assert [said for name in hardware.names() for said in hardware.absurd(hardware.find(name))] == []


@pytest.mark.parametrize(
    ("goals", "limits", "work", "said"),
    [
        (Goals(perplexity=5), Limits(), Workload(), "perplexity may rise by 500%: percent given for a share?"),
        (Goals(hours=86_400), Limits(), Workload(), "a deadline of 86400 hours is absurdly long: seconds given"),
        (Goals(), Limits(reserve_bytes=2000e9), Workload(), "a reserve of 2000 GB is more than the device has: MB"),
        (Goals(), Limits(), Workload(prompt=20_000), "20,256 tokens of prompt and output > 8,192 positions"),
    ],
)
def test_what_looks_mistaken_is_warned_of(goals: Goals, limits: Limits, work: Workload, said: str) -> None:
    plan = answer(question("llama-3-8b", "h100", 1, work, goals, limits))

    assert [text.startswith(said) for text in plan.warnings] == [True]


@pytest.mark.parametrize(
    ("goals", "said"),
    [
        (Goals(dollars_per_million=0.01), "the ceiling of $0.01 was not judged: no price is known (--price)"),
        (Goals(objective="cost"), "cost was not ranked: no price is known (--price)"),
    ],
)
def test_a_goal_of_cost_without_a_price_is_told(tmp_path: Path, goals: Goals, said: str) -> None:
    asked = question("llama-3-8b", machine(tmp_path), 1, Workload(), goals)

    assert answer(asked).warnings == (said,)


def test_seconds_given_for_the_milliseconds_of_a_classifier_are_warned_of() -> None:
    model = reading.read("weights=25600000,flops=8.2e9")
    asked = question("llama-3-8b", "h100", 1, Workload(), Goals(ttft_ms=0.05))

    plan = answer(asked.model_copy(update={"model": model}))

    assert plan.warnings == ("a latency of 0.05 ms is absurdly short: seconds given for milliseconds?",)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--rate", "inf"), "`rate`"),
        (("--users", "5", "--documents", "100"), "they are different questions"),
        (("--documents", "100", "--objective", "slo"), "--documents with --objective slo"),
        (("--price", "-3"), "-3"),
        (("--sweep", "prompt_length=0.1:5"), "prompt_length is counted: from 1 on"),
        (("--sweep", "rate=1:inf"), "needs 0 < from < to"),
        (("--sweep", "rate=1:5:nan"), "2 to 40 points"),
        (("--sweep", "rate=1:5,users=1:5"), "different questions"),
        (("--sweep", "rate=1:5", "--documents", "100"), "the load is 100 documents"),
    ],
)
def test_a_question_that_is_none_is_the_user_s_mistake(tapeout: Command, arguments: tuple[str, ...], said: str) -> None:
    ended = tapeout("plan", "llama-3-8b", "--hardware", "h100", *arguments)

    assert (ended.code, said in ended.err) == (2, True), ended.err


def test_an_encoder_cannot_be_swept(tapeout: Command) -> None:
    ended = tapeout("plan", "weights=1000000,flops=1e9", "--hardware", "h100", "--sweep", "rate=1:5")

    assert (ended.code, "an encoder has no prompt" in ended.err) == (2, True)


def test_a_shape_given_twice_is_refused() -> None:
    with pytest.raises(UserError, match="--model: `L` is given twice"):
        reading.read("layers=32,L=3,d=64,H=4,F=100,V=100")


@pytest.mark.parametrize("option", ["--write", "--serving", "--plot"])
def test_a_path_that_cannot_be_written_is_the_user_s_mistake(tapeout: Command, tmp_path: Path, option: str) -> None:
    (tmp_path / "file").write_text("")
    swept = ("--sweep", "prompt_length=64:128:2") if option == "--plot" else ()
    machine = ("--hardware", "avx512-vnni-40c", "--users", "1")

    ended = tapeout("plan", "smollm2-135m", *machine, *swept, option, tmp_path / "file" / "x")

    assert (ended.code, f"{tmp_path / 'file' / 'x'}: cannot be written: " in ended.err) == (2, True), ended.err


def test_the_folder_of_a_plot_is_made(tapeout: Command, tmp_path: Path) -> None:
    plot = tmp_path / "new" / "sweep.png"

    ended = tapeout("plan", "llama-3-8b", "--hardware", "h100", "--sweep", "rate=1:5:2", "--plot", plot)

    assert ended.code == 0
    assert plot.read_bytes().startswith(b"\x89PNG")
