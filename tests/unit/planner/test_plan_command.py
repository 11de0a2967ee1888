"""`tapeout plan` as it is typed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "pipelines"))
from commanding import Command, home, tapeout

from stages.base import ROOT

__all__ = ["home", "tapeout"]
CHAT = ("llama-3-8b", "--hardware", "a100-80", "--count", "4", "--prompt", "500", "--shared", "300", "--output", "150")
SMALL = ("smollm2-135m", "--hardware", "avx512-vnni-40c", "--prompt", "128", "--output", "32", "--users", "1")


def test_it_prints_verdict_levers_rejections_and_stop(tapeout: Command) -> None:
    ended = tapeout("plan", *CHAT, "--rate", "500", "--ttft", "200")

    assert ended.code == 0
    assert ended.out.startswith("INFEASIBLE  llama-3-8b on 4 x a100-80: int8 TP=1 DP=4 on sglang\n")
    for part in ("stop   S4", "nearest feasible: 18 devices", "L8", "rejected", "assumed  "):
        assert part in ended.out
    assert len(ended.out.splitlines()) <= 65


def test_json_is_the_plan_and_nothing_else(tapeout: Command) -> None:
    plan = tapeout("plan", *CHAT, "--users", "500", "--json").json

    assert plan["verdict"] == "FEASIBLE"
    assert plan["serve"]["engine"] == "sglang"
    assert plan["pipeline"]["stages"][-2:] == ["benchmark", "serve_config"]
    assert {item["what"] for item in plan["rejected"]} >= {"fp8 TP=1 DP=4 on sglang"}


def test_the_written_config_validates(tapeout: Command, tmp_path: Path) -> None:
    config = tmp_path / "configs" / "planned.yaml"

    assert tapeout("plan", *SMALL, "--write", config).code == 0
    ended = tapeout("validate", config)

    assert ended.code == 0, ended.err
    assert config.read_text().splitlines()[1] == f"# tapeout run {config}"
    assert "quantize_gguf" in ended.out


def test_shapes_alone_cannot_be_written_as_a_config(tapeout: Command, tmp_path: Path) -> None:
    shapes = "L=30,d=576,H=9,Hkv=3,dh=64,F=1536,V=49152,tied=true"

    ended = tapeout("plan", shapes, *SMALL[1:], "--write", tmp_path / "a.yaml")

    assert ended.code == 2
    assert f"a plan by shapes alone has no model to run: {shapes}" in ended.err


def test_a_classifier_has_no_config_and_is_told_why(tapeout: Command, tmp_path: Path) -> None:
    shapes = "weights=25600000,flops=8.2e9,kernels=120"

    ended = tapeout("plan", shapes, "--hardware", "avx512-vnni-40c", "--ttft", "50", "--write", tmp_path / "a.yaml")

    assert ended.code == 2
    assert "a plan for an encoder or a CNN has no config yet" in ended.err


def test_a_lever_is_explained_in_general_and_here(tapeout: Command) -> None:
    alone, here = tapeout("plan", "--explain", "L3b"), tapeout("plan", *CHAT, "--rate", "500", "--explain", "l3b")

    assert alone.out.startswith("L3B  8-bit weights and activations\n")
    assert "here      pulled at prefill: " in here.out


def test_an_unknown_lever_is_a_mistake(tapeout: Command) -> None:
    assert "no lever `L99`" in tapeout("plan", "--explain", "L99").err


def test_a_sweep_shows_where_the_plan_changes(tapeout: Command, tmp_path: Path) -> None:
    plot = tmp_path / "sweep.png"

    ended = tapeout("plan", *CHAT, "--sweep", "prompt_length=400:4000:3,rate=1:1000:3", "--plot", plot, "--json")

    cells = ended.json
    assert [cell["at"] for cell in cells[:2]] == [[400.0, 1.0], [400.0, pytest.approx(31.6, rel=0.01)]]
    assert {cell["verdict"] for cell in cells} == {"FEASIBLE", "INFEASIBLE"}
    assert plot.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--rate", "1", "--users", "2"), "give a rate or a number of users or of documents"),
        (("--shared", "600"), "a shared prefix of 600 tokens leaves nothing of a prompt of 512"),
        (("--sweep", "length=1:2"), "--sweep: no input `length`"),
        (("--sweep", "rate=5:1"), "needs 0 < from < to"),
        (("--perplexity", "five"), "'five' is no share"),
        (("--hardware", "h10"), "no hardware called `h10`"),
    ],
)
def test_bad_input_is_the_user_s_mistake(tapeout: Command, arguments: tuple[str, ...], said: str) -> None:
    ended = tapeout("plan", "llama-3-8b", *(() if "--hardware" in arguments else ("--hardware", "h100")), *arguments)

    assert ended.code == 2
    assert said in ended.err


def test_missing_prices_are_told_and_a_flag_gives_one(tapeout: Command, tmp_path: Path) -> None:
    own = tmp_path / "mine.yaml"
    own.write_text("{kind: gpu, compute_capability: 9.0, memory_gb: 80, bandwidth_gb_s: 2000, tflops: {fp16: 300}}")

    without = tapeout("plan", "llama-3-8b", "--hardware", own, "--json").json
    given = tapeout("plan", "llama-3-8b", "--hardware", own, "--price", "2", "--json").json

    assert "no price is known, so nothing is ranked by cost: --price" in without["assumptions"]
    assert without["chosen"]["prediction"]["dollars_per_million"] is None
    assert given["chosen"]["prediction"]["dollars_per_million"] > 0


def test_a_classifier_is_planned_by_its_operations(tapeout: Command) -> None:
    shapes = "weights=25600000,flops=8.2e9,kernels=120"

    plan = tapeout("plan", shapes, "--hardware", "avx512-vnni-40c", "--ttft", "3", "--json").json

    assert plan["pipeline"]["target"] == "openvino"
    assert [lever["id"] for lever in plan["levers"]][:2] == ["V1", "V2"]


def test_a_plan_imports_no_toolchain_and_no_orchestration() -> None:
    heavy = (
        "torch",
        "transformers",
        "onnx",
        "llama_cpp",
        "openvino",
        "mlflow",
        "prefect",
        "numpy",
        "matplotlib",
        "scipy",
    )
    code = (
        "import sys; from pipelines.cli import cli\n"
        "cli(['plan', 'llama-3-8b', '--hardware', 'h100', '--json'], standalone_mode=False)\n"
        f"print(sorted(set({heavy!r}) & set(sys.modules)), file=sys.stderr)"
    )

    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)

    assert done.stderr.strip() == "[]"
    assert json.loads(done.stdout)["verdict"] == "FEASIBLE"
