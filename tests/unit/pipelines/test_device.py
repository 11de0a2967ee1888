import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipelines import device


def test_the_facts_are_those_of_this_machine() -> None:
    facts = device.device_facts()
    assert facts.cores == device.usable_cores() <= (os.cpu_count() or 1)
    assert 0 < facts.memory_gb <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9 + 0.1
    assert facts.cpu
    assert set(facts.features) <= set(device.FEATURES)


def test_the_identity_is_the_same_in_every_process() -> None:
    code = "from pipelines.device import device_facts; print(device_facts().identity)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == device.device_facts().identity


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no affinity")
def test_a_process_tied_to_one_core_has_one_core_and_another_identity() -> None:
    code = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))});"
        "from pipelines.device import device_facts; print(device_facts().cores, device_facts().identity)"
    )
    cores, identity = subprocess.check_output([sys.executable, "-c", code], text=True).split()
    assert cores == "1"
    assert (identity == device.device_facts().identity) == (device.usable_cores() == 1)


def test_a_containers_limits_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "CGROUP", tmp_path)
    (tmp_path / "cpu.max").write_text("50000 100000\n")
    (tmp_path / "memory.max").write_text("1000000000\n")
    assert (device.usable_cores(), device.memory_bytes()) == (1, 1_000_000_000)


def test_a_container_without_limits_has_the_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unlimited = (device.usable_cores(), device.memory_bytes())
    monkeypatch.setattr(device, "CGROUP", tmp_path)
    (tmp_path / "cpu.max").write_text("max 100000\n")
    (tmp_path / "memory.max").write_text("max\n")
    assert device.usable_cores() >= unlimited[0]
    assert device.memory_bytes() >= unlimited[1]


def test_gpus_are_named_without_their_serial_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    smi = tmp_path / "nvidia-smi"
    smi.write_text(
        "#!/bin/sh\necho 'GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-1)'\necho 'GPU 1: NVIDIA L4 (UUID: GPU-2)'\n"
    )
    smi.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert device.nvidia_gpus() == ("NVIDIA H100 80GB HBM3", "NVIDIA L4")


def test_a_driver_that_fails_is_no_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    smi = tmp_path / "nvidia-smi"
    smi.write_text("#!/bin/sh\necho 'Failed to initialize NVML'\nexit 9\n")
    smi.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert device.nvidia_gpus() == ()


def test_memory_is_read_at_a_believable_rate_in_half_a_second() -> None:
    started = time.process_time()
    rate = device.memory_bandwidth_gb_s(1)
    assert 0.5 < rate < 2000
    assert time.process_time() - started < 2
