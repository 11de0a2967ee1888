import json
import os
import signal
import sqlite3
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from program import CONFIGS, REAL, Ended, Program

from bench._processes import TAPEOUT, free_port

pytestmark = [pytest.mark.download]
SHORT = ("evaluation.speed.max_pairs=5", "evaluation.generation.prompts=2")
SERVE_LIMIT_S = 120


@pytest.fixture(scope="module")
def passed(shared: Program, prefect: str) -> Ended:
    """`make run`'s config, with a shorter timing."""
    ended = shared("run", REAL, *SHORT, "--dist", shared.dist, "--json", PREFECT_API_URL=prefect)
    assert ended.code == 0, ended.err
    return ended


@pytest.fixture(scope="module")
def halted(shared: Program, prefect: str, passed: Ended) -> Ended:
    """The same without the importance matrix: its quantization breaks the budget."""
    config = CONFIGS / "gguf_q4_k_m.yaml"
    return shared("run", config, *SHORT, "--dist", shared.dist, "--json", PREFECT_API_URL=prefect)


def stages(ended: Ended) -> dict[str, Any]:
    return {stage["stage"]: stage for stage in ended.report["stages"]}


def rows(program: Program, query: str, *values: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(program.home / "mlflow/mlflow.db")) as database:
        return database.execute(query, values).fetchall()


def test_the_report_is_one_json_that_keeps_to_its_schema(shared: Program, passed: Ended) -> None:
    schema = json.loads(shared("schema", "report").out)

    Draft202012Validator.check_schema(schema)
    Draft202012Validator(schema).validate(passed.report)
    assert passed.report["status"] == "passed"


def test_every_stage_is_measured_against_the_reference(passed: Ended) -> None:
    found = stages(passed)

    assert list(found) == ["source", "import_gguf", "collect_imatrix", "gguf", "quantize_gguf"]
    assert [stage["role"] for stage in found.values()] == [
        "source", "reference", "intermediate", "candidate", "candidate",
    ]  # fmt: skip
    for name in ("gguf", "quantize_gguf"):
        metrics = found[name]["report"]["metrics"]
        assert {"perplexity", "top1_agreement", "kl_divergence", "exact_match", "ttft_p50_ms", "tbt_p50_ms"} <= set(
            metrics
        )
        assert {"tbt_p95_ms", "prefill_tokens_per_s", "decode_tokens_per_s", "peak_memory_bytes", "size_bytes"} <= set(
            metrics
        )
        for metric in metrics.values():
            assert metric["low"] <= metric["value"] <= metric["high"]
            assert metric["n"] >= 1
        assert all(verdict["passed"] for verdict in found[name]["verdicts"])
    f16, q4_k_m = (
        found[name]["report"]["metrics"]["perplexity"]["relative"]["value"] for name in ("gguf", "quantize_gguf")
    )
    assert abs(f16) < 0.0001
    assert 0.02 < q4_k_m < 0.05


def test_the_bundle_is_whole(shared: Program, passed: Ended) -> None:
    bundle = Path(passed.report["bundle"])
    digest = passed.report["stages"][-1]["artifact"]

    assert bundle == shared.dist / f"smollm2-135m-gguf-q4_k_m-imatrix-{digest[:12]}"
    names = {path.name for path in bundle.iterdir()}
    assert {"model.gguf", "manifest.json", "report.md", "config.yaml", "serve.sh"} <= names
    verified = shared("verify", bundle, "--files-only")
    assert (verified.code, verified.out) == (0, f"{bundle}: {len(names) - 1} files, all as packaged\n")


def test_mlflow_holds_the_run_its_stages_and_the_model(shared: Program, passed: Ended) -> None:
    run = passed.report["mlflow_run"]
    nested = rows(shared, "select run_uuid from tags where key = 'mlflow.parentRunId' and value = ?", run)
    versions = rows(shared, "select name, version from model_versions where run_id = ?", run)
    metrics = {key for (key,) in rows(shared, "select distinct key from metrics where run_uuid = ?", run)}

    assert rows(shared, "select status from runs where run_uuid = ?", run) == [("FINISHED",)]
    assert len(nested) == 5
    assert [f"{name}/{version}" for name, version in versions] == [passed.report["model_version"]]
    assert any("perplexity" in name for name in metrics)


def test_prefect_shows_the_run_its_tasks_and_the_table(passed: Ended, prefect: str) -> None:
    run = passed.report["prefect_run"]
    flow = asked(f"{prefect}/flow_runs/{run}")
    tasks = asked(f"{prefect}/task_runs/filter", {"flow_runs": {"id": {"any_": [run]}}})
    tables = asked(f"{prefect}/artifacts/filter", {"flow_runs": {"id": {"any_": [run]}}})

    assert (flow["state"]["type"], flow["state"]["name"]) == ("COMPLETED", "Completed")
    assert {
        "fetch",
        "import_gguf",
        "collect_imatrix",
        "gguf",
        "quantize_gguf",
        "measure-gguf",
        "measure-quantize_gguf",
    } <= {task["name"].rpartition("-")[0] or task["name"] for task in tasks} | {task["name"] for task in tasks}
    assert [table["key"] for table in tables] == ["stages"]
    assert "perplexity" in tables[0]["data"]


def test_serve_script_answers_a_completion(shared: Program, passed: Ended) -> None:
    with served(shared, Path(passed.report["serve"])) as url:
        answer = asked(f"{url}/completions", {"prompt": "Once upon a time", "max_tokens": 8, "temperature": 0})

    assert answer["usage"]["completion_tokens"] == 8
    assert answer["choices"][0]["text"].strip()


def test_second_run_computes_nothing_and_says_the_same(shared: Program, passed: Ended, prefect: str) -> None:
    again = shared("run", REAL, *SHORT, "--dist", shared.dist, "--json", PREFECT_API_URL=prefect)

    assert again.code == 0
    assert all(stage["cached"] for stage in again.report["stages"])
    assert [stage["report"] for stage in again.report["stages"]] == [
        stage["report"] for stage in passed.report["stages"]
    ]
    assert again.report["bundle"] == passed.report["bundle"]


def test_over_budget_the_run_halts_at_the_stage_that_broke_it(halted: Ended) -> None:
    report = halted.report
    perplexity = stages(halted)["quantize_gguf"]["report"]["metrics"]["perplexity"]
    before = perplexity["value"] - perplexity["change"]["value"]

    assert halted.code == 1
    assert report["status"] == "halted"
    assert [stage["status"] for stage in report["stages"]] == ["completed", "completed", "completed", "halted"]
    assert f"perplexity rose {before:#.4g} -> {perplexity['value']:#.4g} (" in report["message"]
    assert report["message"].endswith("allowed 5%) after quantize_gguf")
    assert report["message"] in halted.err
    assert report["last_passed"] == stages(halted)["gguf"]["artifact"]


def test_over_budget_nothing_is_packaged_or_registered(shared: Program, halted: Ended) -> None:
    assert halted.report["bundle"] is None
    assert halted.report["model_version"] is None
    assert all("q4_k_m-imatrix" in path.name for path in shared.dist.iterdir() if "q4_k_m" in path.name)
    assert rows(shared, "select name from registered_models where name like '%q4_k_m'") == []
    assert rows(shared, "select status from runs where run_uuid = ?", halted.report["mlflow_run"]) == [("FAILED",)]


def test_over_budget_prefect_says_which_stage_and_why(halted: Ended, prefect: str) -> None:
    state = asked(f"{prefect}/flow_runs/{halted.report['prefect_run']}")["state"]

    assert (state["type"], state["name"]) == ("FAILED", "BudgetExceeded")
    assert state["message"] == halted.report["message"]


def asked(url: str, body: dict[str, Any] | None = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


@contextmanager
def served(program: Program, script: Path) -> Iterator[str]:
    """The bundle's server on a free port; the URL of its API."""
    port = free_port()
    url, log = f"http://127.0.0.1:{port}/v1", program.home / "serve.log"
    own = program.variables(PORT=str(port), CONTEXT="512", TAPEOUT=TAPEOUT)
    with log.open("wb") as sink:
        server = subprocess.Popen([script], env=own, stdout=sink, stderr=sink, start_new_session=True)
    try:
        deadline = time.monotonic() + SERVE_LIMIT_S
        while not answers(f"{url}/models"):
            assert server.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.3)
        yield url
    finally:
        with suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGTERM)
        server.wait()


def answers(url: str) -> bool:
    try:
        asked(url)
    except urllib.error.URLError:
        return False
    return True
