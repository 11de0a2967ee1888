"""What this machine is: the facts that join a report and a cache key, and how fast its memory is read."""

from __future__ import annotations

import hashlib
import math
import os
import platform
import re
import shutil
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipelines.measures import DeviceFacts

# the instruction sets that the tools' kernels choose between
FEATURES = re.findall(
    r"\w+",
    "avx avx2 avx_vnni fma f16c avx512f avx512bw avx512vl avx512_vnni avx512_bf16 avx512_fp16 avx10 "
    "amx_tile amx_int8 amx_bf16 neon asimd asimddp asimdhp bf16 i8mm sve sve2",
)
CGROUP = Path("/sys/fs/cgroup")
NVIDIA_SMI_LIMIT_S = 10
LEAST_READ_BYTES, MOST_READ_BYTES = 64 << 20, 192 << 20
READS = 5


@cache
def device_facts() -> DeviceFacts:
    """The machine as this process may use it: its affinity and its container's limits count."""
    cpu, features, cores, gpus = cpu_model(), cpu_features(), usable_cores(), nvidia_gpus()
    identity = hashlib.sha256(repr((cpu, features, cores, gpus)).encode()).hexdigest()[:16]
    return DeviceFacts(
        identity=identity,
        cpu=cpu,
        cores=cores,
        features=features,
        memory_gb=round(memory_bytes() / 1e9, 1),
        gpus=gpus,
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
    )


def cpu_model() -> str:
    """The processor's name as the system tells it."""
    return _cpuinfo().get("model name") or _sysctl("machdep.cpu.brand_string") or platform.machine()


def cpu_features() -> tuple[str, ...]:
    """Those of FEATURES that the processor has, in that order."""
    flags = _cpuinfo().get("flags") or _cpuinfo().get("Features") or ("neon" if platform.machine() == "arm64" else "")
    return tuple(feature for feature in FEATURES if feature in flags.split())


def usable_cores() -> int:
    """Cores that this process may run on: its affinity, cut to the container's CPU quota."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota, _, period = _read(CGROUP / "cpu.max").partition(" ")
    return max(1, min(cores, math.ceil(int(quota) / int(period)))) if quota.isdigit() else cores


def memory_bytes() -> int:
    """Memory that this process may use: the machine's, cut to the container's limit."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = _read(CGROUP / "memory.max").strip()
    return min(memory, int(limit)) if limit.isdigit() else memory


def nvidia_gpus() -> tuple[str, ...]:
    """Names of the NVIDIA GPUs; none where the driver's nvidia-smi is missing or fails."""
    if not shutil.which("nvidia-smi"):
        return ()
    try:
        done = subprocess.run(
            ["nvidia-smi", "-L"], capture_output=True, text=True, timeout=NVIDIA_SMI_LIMIT_S, check=True
        )
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
        return ()
    return tuple(re.findall(r"^GPU \d+: (.+?)(?: \(UUID.*)?$", done.stdout, re.MULTILINE))


def memory_bandwidth_gb_s(threads: int) -> float:
    """GB/s at which that many threads read memory: the best of a few passes over more than the caches hold.

    Adding int64 is the cheapest work numpy does on every element: one core's float32 sum is bound by arithmetic
    (measured: 17 GB/s where the int64 sum reads 35).
    """
    size = min(MOST_READ_BYTES, max(LEAST_READ_BYTES, 4 * last_level_cache_bytes()))
    shares = np.array_split(np.ones(size // 8, dtype=np.int64), threads)
    with ThreadPoolExecutor(threads) as pool:
        return max(_timed_read(pool, shares) for _ in range(READS)) / 1e9


def last_level_cache_bytes() -> int:
    """Size of the largest cache of the first core, 0 where the system does not tell."""
    sizes = [_read(path) for path in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size")]
    return max((int(size.strip()[:-1]) << {"K": 10, "M": 20}[size.strip()[-1]] for size in sizes if size), default=0)


def _timed_read(pool: ThreadPoolExecutor, shares: list[NDArray[np.int64]]) -> float:
    started = time.perf_counter()
    list(pool.map(lambda share: share.sum(), shares))
    return sum(share.nbytes for share in shares) / (time.perf_counter() - started)


@cache
def _cpuinfo() -> dict[str, str]:
    """The first processor's entries of /proc/cpuinfo; empty where there is none."""
    first = _read(Path("/proc/cpuinfo")).split("\n\n", 1)[0]
    pairs = (line.partition(":") for line in first.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


def _sysctl(name: str) -> str:
    if not shutil.which("sysctl"):
        return ""
    return subprocess.run(["sysctl", "-n", name], capture_output=True, text=True, check=False).stdout.strip()


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""
