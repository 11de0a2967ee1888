from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from pipelines.environments import Environments
from stages.base import ROOT

both = pytest.mark.parametrize("name", ["Dockerfile.cpu", "Dockerfile.cuda"])


@both
def test_hadolint_passes(name: str) -> None:
    hadolint = Path(sys.executable).parent / "hadolint"

    done = subprocess.run([hadolint, ROOT / name], capture_output=True, text=True)

    assert (done.returncode, done.stdout) == (0, "")


@both
def test_every_environment_is_a_layer_of_its_own(name: str, tmp_path: Path) -> None:
    text = (ROOT / name).read_text()
    known = set(Environments(tmp_path).known()) - {"browser"}  # of a test alone

    assert set(re.findall(r"^FROM \w+ AS env-(\w+)$", text, re.MULTILINE)) == known
    assert set(re.findall(r"^COPY --from=env-(\w+) --chown=tapeout:tapeout ", text, re.MULTILINE)) == known
    assert set(re.findall(r"tapeout envs build (\w+); fi", text)) == known


@both
def test_the_base_is_pinned_by_digest_and_the_process_is_not_root(name: str) -> None:
    last_stage = (ROOT / name).read_text().rpartition("\nFROM ")[2]

    assert re.search(r"^ARG BASE=\S+@sha256:[0-9a-f]{64}$", (ROOT / name).read_text(), re.MULTILINE)
    assert "\nUSER 10001\n" in last_stage
    assert "\nHEALTHCHECK " in last_stage
    assert '\nENTRYPOINT ["tapeout"]\n' in last_stage


@both
def test_llama_cpp_is_built_for_no_cpu_in_particular(name: str) -> None:
    text = (ROOT / name).read_text()

    assert "-DGGML_NATIVE=OFF -DGGML_BACKEND_DL=ON -DGGML_CPU_ALL_VARIANTS=ON" in text
    assert "march" not in text


def test_the_stack_publishes_to_this_machine_alone() -> None:
    services = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]

    assert set(services) == {"postgres", "s3", "tapeout"}
    ports = [port for service in services.values() for port in service.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_what_the_stack_pulls_is_pinned_by_digest() -> None:
    services = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]

    pulled = [service["image"] for name, service in services.items() if name != "tapeout"]
    assert all(re.fullmatch(r"\$\{\w+:-\S+:\S+@sha256:[0-9a-f]{64}\}", image) for image in pulled)
