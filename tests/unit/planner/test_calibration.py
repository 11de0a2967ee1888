"""Efficiencies fitted to runs whose truth is known, and the audit that says whether to trust them."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "pipelines"))
from commanding import Command, home, tapeout
from questions import decoder
from samples import run_record

from pipelines.planner import audit, fitting
from pipelines.planner.calibrations import Calibrations, load, major, save
from pipelines.planner.efficiency import Efficiency
from pipelines.planner.formats import Format
from pipelines.planner.hardware import Hardware
from pipelines.planner.sightings import Predicted, Sighting, compared, format_of, predictions, size_bytes
from pipelines.planner.watching import tables_bytes
from pipelines.tracking.metrics import stage_metrics
from pipelines.tracking.params import stage_params

__all__ = ["home", "tapeout"]
MACHINE = Hardware(name="two cores", kind="cpu", memory_bytes=16e9, bandwidth=20e9, peaks={"fp32": 3e11, "int8": 1e12})
TRUTH = {
    "q8_0": Efficiency(compute=0.30, attention=0.5, bandwidth=0.55, step_s=4e-3, server_s=1e-3, working_bytes=2e8),
    "q6_k": Efficiency(compute=0.20, attention=0.5, bandwidth=0.60, step_s=4e-3, server_s=1e-3, working_bytes=2e8),
    "q4_k_m": Efficiency(compute=0.25, attention=0.5, bandwidth=0.50, step_s=4e-3, server_s=1e-3, working_bytes=2e8),
}
NOISE = (1.0, 1.02, 0.98)


def seen(name: str, prompt: int, noise: float = 1.0) -> Sighting:
    """A run as it would be measured on a machine of the true efficiency, predicted by the defaults."""
    bare = Sighting(
        hardware=MACHINE,
        engine="llama.cpp",
        format=Format(name=name, gguf=name, kinds=("cpu",)),
        model=decoder("smollm2-135m"),
        prompts=(prompt,),
        tokens=32,
        context=520,
    )
    true = {key: value * noise for key, value in predictions(bare, TRUTH[name], Calibrations()).items()}
    reached = Calibrations().efficiency(MACHINE, "llama.cpp", bare.format)
    return bare.model_copy(update={"values": tuple(compared(bare, reached, Calibrations(), true))})


RUNS = [seen(name, prompt, noise) for name in TRUTH for prompt, noise in zip((64, 128, 512), NOISE, strict=True)]
UNSEEN = [seen(name, prompt) for name in TRUTH for prompt in (96, 256)]


def medians(rows: list[audit.Row]) -> dict[str, float]:
    return {row.metric: row.median for row in rows}


def test_a_fit_predicts_runs_that_it_has_not_seen() -> None:
    before = medians(audit.with_calibrations(UNSEEN, Calibrations()))
    after = medians(audit.with_calibrations(UNSEEN, fitting.fit(RUNS)))

    assert before["tbt_p50_ms"] > 0.15
    assert after["tbt_p50_ms"] < 0.08
    assert after["ttft_p50_ms"] < 0.15
    assert after["peak_memory_bytes"] < 0.05


def test_fewer_than_three_runs_calibrate_nothing() -> None:
    assert fitting.fit(RUNS[:2]).fitted == ()


def test_a_format_without_runs_takes_its_engine_s_fit() -> None:
    fitted = fitting.fit([run for run in RUNS if run.format.name != "q6_k"])
    form = Format(name="q6_k", gguf="q6_k", kinds=("cpu",))

    reached = fitted.efficiency(MACHINE, "llama.cpp", form)

    assert reached.calibrated == 6
    assert reached == fitted.fitted[0].efficiency


def test_a_fit_is_of_the_engine_s_major_version() -> None:
    """TBT of another major version says nothing; where none is asked for, the newest one's fit counts."""
    old = [run.model_copy(update={"engine_version": "0.9.1"}) for run in RUNS]
    new = [seen(run.format.name, run.prompts[0], 2.0).model_copy(update={"engine_version": "0.10.0"}) for run in RUNS]
    form = RUNS[0].format

    fitted = fitting.fit([*old, *new])
    by_version = {
        version: fitted.efficiency(MACHINE, "llama.cpp", form, version) for version in ("0.9.7", "0.10.2", "1.0", "")
    }

    assert by_version["0.9.7"].bandwidth > 1.5 * by_version["0.10.2"].bandwidth
    assert by_version[""] == by_version["0.10.2"]
    assert by_version["1.0"] == Calibrations().efficiency(MACHINE, "llama.cpp", form)


@pytest.mark.parametrize(("version", "expected"), [("2026.2.1", "2026"), ("0.3.16", "0.3"), ("1", "1"), ("", "")])
def test_below_1_a_minor_version_is_a_major_one(version: str, expected: str) -> None:
    assert major(version) == expected


def test_perplexity_is_audited_in_points() -> None:
    """PLANNER.md, section 7: ppl delta within 0.1. A prior of 1% where 2% were measured errs by 0.2 of 20."""
    bare = RUNS[0].model_copy(update={"values": ()})
    gates = fitting.fit([
        run.model_copy(update={"values": (Predicted(name="perplexity_change", predicted=0, measured=0.01, error=0),)})
        for run in RUNS
    ])  # fmt: skip
    true = {"perplexity": 20.4, "perplexity_change": 0.02}

    found = {item.name: item for item in compared(bare, gates.efficiency(MACHINE, "x", bare.format), gates, true)}
    rows = audit.as_logged([bare.model_copy(update={"values": tuple(found.values())})] * 6)
    row = next(row for row in rows if row.metric == "perplexity")

    assert found["perplexity"].error == pytest.approx(-0.2)
    assert (row.median, row.met, row.untrusted) == (pytest.approx(0.2), False, False)
    assert audit.margins(rows) == {}


def test_an_outlier_moves_the_fit_little() -> None:
    slow = seen("q8_0", 200, noise=3.0)

    rows = audit.with_calibrations(UNSEEN, fitting.fit([*RUNS, slow]))

    assert medians(rows)["tbt_p50_ms"] < 0.08


def test_a_fifth_of_the_runs_is_held_out_whatever_their_order() -> None:
    fitted, held = fitting.split(RUNS)

    assert (len(fitted), len(held)) == (7, 2)
    assert fitting.split(RUNS[::-1]) == (fitted, held)


def test_three_gates_outrank_a_prior_of_quality() -> None:
    gates = [run.model_copy(update={"values": (*run.values, run.values[0].model_copy(
        update={"name": "perplexity_change", "measured": 0.02}))}) for run in RUNS]  # fmt: skip

    fitted = fitting.fit(gates)
    prior = fitted.prior(decoder("smollm2-135m"), Format(name="q4_k_m", gguf="q4_k_m"))

    assert (prior.perplexity, prior.source) == (0.02, "median of 3 gates")


def test_far_off_predictions_are_not_trusted_and_widen_the_margins() -> None:
    rows = audit.as_logged([seen(name, 128, noise=5.0) for name in TRUTH] * 2)
    found = {row.metric: row for row in rows}

    assert found["tbt_p50_ms"].untrusted
    assert audit.margins(rows)["tbt"] == found["tbt_p50_ms"].p90
    assert not audit.as_logged(RUNS[:3])[-1].untrusted  # too few runs to say so


@pytest.mark.parametrize(
    ("file_type", "megabytes"),
    [("f16", 270.885728), ("q8_0", 144.810848), ("q6_k", 138.382688), ("q5_k_m", 112.103264), ("q4_k_m", 105.45392),
     ("q3_k_m", 93.509984), ("q2_k", 88.201568)],
)  # fmt: skip
def test_the_size_of_a_gguf_is_predicted_within_a_thousandth(file_type: str, megabytes: float) -> None:
    run = seen("q8_0", 64).model_copy(update={"format": Format(name=file_type, gguf=file_type)})

    assert size_bytes(run) / 1e6 == pytest.approx(megabytes, rel=1e-3)  # measured, bench/results/ladder.json


def test_the_format_of_an_artifact_is_told_from_its_facts() -> None:
    four = format_of("openvino", {"precision": "int4", "group_size": 64}, {})
    gguf = format_of("gguf", {"precision": "q4_k_m"}, {})
    weighed = format_of("gguf", {"precision": "q4_k_m", "imatrix_tokens": 24576}, {})

    assert gguf is not None
    assert gguf.gguf == "q4_k_m"
    assert weighed is not None
    assert (weighed.name, weighed.gguf) == ("q4_k_m-imatrix", "q4_k_m")
    assert four is not None
    assert (four.bits, four.group, four.head_bits) == (4, 64, 8)
    assert format_of("tensorrt", {}, {}) is None


def test_the_format_of_an_onnx_genai_model_has_float32_scales_and_shares_them_with_its_head() -> None:
    plain = format_of(
        "onnx_llm", {"precision": "int4", "block_size": 32}, {"symmetric": True, "keep_8_bits": "nothing"}
    )
    kept = format_of("onnx_llm", {"precision": "int4", "block_size": 64}, {"symmetric": True, "keep_8_bits": "head"})

    assert plain is not None
    assert (plain.bytes_each * 8, plain.head_bits) == (5.0, 5.0)
    assert kept is not None
    assert (kept.bytes_each * 8, kept.head_bits) == (4.5, 8.5)


@pytest.mark.parametrize(("precision", "measured"), [("int8", 270.526e6), ("int4", 90.039e6)])
def test_the_size_of_an_onnx_genai_folder_is_predicted_within_half_a_percent(precision: str, measured: float) -> None:
    form = format_of("onnx_llm", {"precision": precision, "block_size": 32}, {"symmetric": True})
    model = decoder("smollm2-135m").model_copy(update={"max_context": 8192})
    assert form is not None
    beside = 3_527_000 + tables_bytes("onnx_llm", model, form.bits)  # tokenizer and settings
    run = seen("q8_0", 64).model_copy(update={"format": form, "model": model, "companions": beside})

    assert size_bytes(run) == pytest.approx(measured, rel=0.005)


def test_the_format_of_an_openvino_model_is_told_from_the_type_of_most_of_its_weights() -> None:
    eight = format_of("openvino_llm", {"precision": "u8"}, {"mode": "int8_asym", "group_size": 64})
    four = format_of("openvino_llm", {"precision": "i4"}, {"mode": "int4_sym", "group_size": 64, "all_layers": False})

    assert eight is not None
    assert (eight.bytes_each, eight.head_bits) == (1.0, 8)
    assert four is not None
    assert (four.bytes_each * 8, four.head_bits) == (4.25, 8)


def test_mlflow_gets_what_was_predicted_measured_and_the_error() -> None:
    sighting = RUNS[0].model_copy(update={"engine_version": "0.3.16", "plan": "0123456789abcdef"})
    record = run_record().stages[-1].model_copy(update={"sighting": sighting})

    metrics, params = stage_metrics(record), stage_params(record)

    assert metrics["pred_tbt_p50_ms"] / metrics["meas_tbt_p50_ms"] - 1 == pytest.approx(metrics["err_tbt_p50_ms"])
    assert metrics["pred_ttft_p95_ms"] == metrics["pred_ttft_p50_ms"]  # one user never queues
    assert (params["plan.engine"], params["plan.engine_version"]) == ("llama.cpp", "0.3.16")
    assert (params["plan.hash"], params["plan.prompt_tokens"], params["plan.users"]) == (
        "0123456789abcdef",
        "[64]",
        "1",
    )


@pytest.mark.slow
def test_calibrate_and_audit_read_the_runs_of_the_home(tapeout: Command, home: Path) -> None:
    for number, run in enumerate(RUNS):
        record = run_record()
        last = record.stages[-1].model_copy(update={"sighting": run, "artifact": f"{number:064d}"})
        folder = home / "runs" / f"run-{number}"
        folder.mkdir(parents=True)
        (folder / "run.json").write_text(
            record.model_copy(update={"stages": (*record.stages[:-1], last)}).model_dump_json()
        )

    fitted = tapeout("plan", "--calibrate", "--json").json
    audited = tapeout("plan", "--audit")

    assert {row["metric"] for row in fitted} >= {"size_bytes", "tbt_p50_ms", "ttft_p50_ms"}
    assert all(row["n"] == 2 for row in fitted)
    assert audited.out.startswith("9 runs, as predicted at the time ")
    assert load(home / "planner").fitted


def test_an_audit_that_trusts_nothing_widens_the_bands_of_the_next_plan(tapeout: Command, home: Path) -> None:
    record = run_record()
    for number, run in enumerate([seen(name, 128, noise=5.0) for name in TRUTH] * 2):
        last = record.stages[-1].model_copy(update={"sighting": run, "artifact": f"{number:064d}"})
        folder = home / "runs" / f"run-{number}"
        folder.mkdir(parents=True)
        stages = (*record.stages[:-1], last)
        (folder / "run.json").write_text(record.model_copy(update={"stages": stages}).model_dump_json())
    asked = ("plan", "smollm2-135m", "--hardware", "avx2-8c", "--users", "1", "--json")
    before = {band["name"]: band for band in tapeout(*asked).json["predictions"]}

    assert "UNTRUSTED" in tapeout("plan", "--audit").out

    plan = tapeout(*asked).json
    after = {band["name"]: band for band in plan["predictions"]}
    assert after["TBT"]["high"] > before["TBT"]["high"]
    assert plan["assumptions"][-1].startswith("UNTRUSTED by measured runs, bands widened: ")


def test_an_audit_without_runs_says_how_to_get_some(tapeout: Command) -> None:
    ended = tapeout("plan", "--audit")

    assert ended.code == 2
    assert "was predicted\n\nhint: `tapeout run` a config with `evaluation.speed` first" in ended.err


def test_kept_calibrations_are_read_back(tmp_path: Path) -> None:
    fitted = fitting.fit(RUNS)

    save(tmp_path, fitted)

    assert load(tmp_path) == fitted
    assert load(tmp_path / "nowhere") == Calibrations()
