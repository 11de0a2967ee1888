"""Machines: the catalogue of targets/hardware.yaml, this machine, or a YAML of the user's own."""

from __future__ import annotations

import os
from collections.abc import Mapping
from difflib import get_close_matches
from functools import cache
from math import isfinite
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from pipelines.errors import UserError
from pipelines.mistakes import did_you_mean, from_pydantic
from stages.base import ROOT, Frozen

CATALOGUE = ROOT / "targets" / "hardware.yaml"
CYCLES_PER_S = 2.3e9  # of a server core under vector load; recalled
OPERATIONS = {"avx2": (32, 64), "avx512f": (64, 128), "avx512_vnni": (64, 256), "amx_int8": (1024, 2048)}
"""FP32 (AMX: BF16) and INT8 operations a cycle and core, multiplies and adds counted apart."""
PLAUSIBLE = {
    "memory_gb": (0.25, 20_000.0), "bandwidth_gb_s": (4.0, 100_000.0), "tflops": (0.005, 100_000.0),
    "price_per_hour": (0.0, 500.0),
}  # fmt: skip
UNITS = {
    "memory_gb": "MB or bytes given for GB", "bandwidth_gb_s": "TB/s or bytes given for GB/s",
    "tflops": "GFLOP/s or PFLOP/s given for TFLOP/s", "price_per_hour": "a month's price",
}  # fmt: skip
Kind = Literal["gpu", "apple", "cpu", "npu"]


class Figure(Frozen):
    """A number, where it is from, and of when it is."""

    value: float
    source: str
    date: str


class Hardware(Frozen):
    """One device. Peaks are dense."""

    name: str
    kind: Kind
    memory_bytes: float = Field(gt=0)
    usable: float = Field(1.0, gt=0, le=1, description="share of the memory that a model may use")
    bandwidth: float = Field(gt=0, description="bytes a second")
    peaks: dict[str, float] = Field(description="FLOP/s by format: fp32, fp16, int8, fp8")
    link: float = Field(32e9, gt=0, description="bytes a second, one way, to another such device")
    nvlink: bool = False
    compute_capability: float | None = None
    price_per_hour: float | None = Field(None, ge=0)
    sources: dict[str, str] = {}

    @property
    def base_peak(self) -> float:
        """Q16: FLOP/s in 16 bits, or in the 32 that a processor without them uses."""
        return self.peaks.get("fp16") or self.peaks.get("fp32") or max(self.peaks.values())

    @property
    def key(self) -> str:
        """What calibrations are kept under."""
        return self.name


def find(name: str, price: float | None = None, kept: Path | None = None) -> Hardware:
    """The machine of a catalogue name, of `detect` (measured once, then `kept` in that folder), or of a YAML file.

    Raises:
        UserError: nothing of that name, or an entry that lacks a figure which no plan can do without.
    """
    found = (
        detected(kept) if name == "detect" else _own(Path(name)) if name.endswith((".yaml", ".yml")) else _named(name)
    )
    if price is None:
        return found
    sources = {**found.sources, "price_per_hour": "given by hand"}
    return found.model_copy(update={"price_per_hour": price, "sources": sources})


def names() -> list[str]:
    """Every name of the catalogue."""
    return list(_catalogue()["machines"])


def catalogue_version() -> str:
    """The first digits of the catalogue's sha256."""
    import hashlib

    return hashlib.sha256(CATALOGUE.read_bytes()).hexdigest()[:12]


def entry(name: str, item: Mapping[str, Any], sources: Mapping[str, Mapping[str, Any]], origin: str) -> Hardware:
    """A machine out of its catalogue entry.

    Raises:
        UserError: a figure is missing, or of an unknown source.
    """
    for key in item:
        if key not in _KEYS:
            raise UserError(f"{origin}: `{name}`: no field `{key}`", did_you_mean(key, _KEYS))
    for needed in ("memory_gb", "bandwidth_gb_s", "tflops"):
        if not item.get(needed):
            raise UserError(
                f"{origin}: `{name}`: `{needed}` is missing: no plan can be made without it",
                f"write `{needed}: {_EXAMPLES[needed]}`",
            )
    if not isinstance(item["tflops"], dict):
        raise UserError(f"{origin}: `{name}`: `tflops` is of no format", f"write `tflops: {_EXAMPLES['tflops']}`")
    scalars = {key: item[key] for key in _SCALARS if key in item}
    named = scalars | {f"tflops.{key}": value for key, value in item["tflops"].items()}
    figures = {key: figure(value, sources, f"{origin}: `{name}`: `{key}`") for key, value in named.items()}
    linked = figures.get("link_gb_s") or figures.get("pcie_gb_s")
    try:
        return Hardware(
            name=name,
            kind=item.get("kind", "gpu"),
            memory_bytes=figures["memory_gb"].value * 1e9,
            usable=figures["usable"].value if "usable" in figures else 1.0,
            bandwidth=figures["bandwidth_gb_s"].value * 1e9,
            peaks={key: figures[f"tflops.{key}"].value * 1e12 for key in item["tflops"]},
            link=linked.value * 1e9 if linked else 32e9,
            nvlink="link_gb_s" in figures,
            compute_capability=item.get("compute_capability"),
            price_per_hour=figures["price_per_hour"].value if "price_per_hour" in figures else None,
            sources={key: f"{found.source}, {found.date}".strip(", ") for key, found in figures.items()},
        )
    except ValidationError as error:
        raise UserError("\n\n".join(from_pydantic(origin, f"`{name}`", Hardware, error.errors()))) from error


_SCALARS = ("memory_gb", "usable", "bandwidth_gb_s", "link_gb_s", "pcie_gb_s", "price_per_hour")
_KEYS = (*_SCALARS, "name", "kind", "compute_capability", "tflops")
_EXAMPLES = {"memory_gb": "80", "bandwidth_gb_s": "2039", "tflops": "{fp16: 312, int8: 624}"}


def figure(item: Any, sources: Mapping[str, Mapping[str, Any]], place: str) -> Figure:
    """`[value, source]`; in a user's own file a bare value, or any words for its source.

    Raises:
        UserError: the value is no number.
    """
    value, source = (*item, "given by hand")[:2] if isinstance(item, list) and item else (item, "given by hand")
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value) or value < 0:
        raise UserError(f"{place} is no number: {value}", "a bare number, or [number, where it is from]")
    told = sources.get(str(source), {"what": str(source), "date": ""})
    return Figure(value=value, source=told["what"], date=str(told["date"]))


def absurd(machine: Hardware) -> list[str]:
    """What of a machine's figures looks like a mistaken unit."""
    said = []
    listed = {
        "memory_gb": machine.memory_bytes / 1e9,
        "bandwidth_gb_s": machine.bandwidth / 1e9,
        "tflops": max(machine.peaks.values(), default=0.0) / 1e12,
        "price_per_hour": machine.price_per_hour,
    }
    for name, value in listed.items():
        low, high = PLAUSIBLE[name]
        if value is not None and not low <= value <= high:
            extreme = "small" if value < low else "large"
            said.append(f"{name} {value:g} is absurdly {extreme} for {machine.name}: {UNITS[name]}?")
    return said


@cache
def _catalogue() -> dict[str, Any]:
    from pipelines.planner.yaml_files import load

    return load(CATALOGUE)


def _named(name: str) -> Hardware:
    catalogue = _catalogue()
    if name not in catalogue["machines"]:
        known = [*catalogue["machines"], "detect"]
        near = [item for item in known if item.startswith(name)] or get_close_matches(name, known, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(f'`{item}`' for item in near)}?" if near else f"known: {', '.join(known)}"
        raise UserError(f"no hardware called `{name}`", hint)
    return entry(name, catalogue["machines"][name], catalogue["sources"], str(CATALOGUE.relative_to(ROOT)))


def _own(path: Path) -> Hardware:
    from pipelines.planner.yaml_files import load

    if not path.is_file():
        raise UserError(f"{path}: cannot be read", "one machine as in targets/hardware.yaml, figures as bare numbers")
    item = load(path)
    return entry(str(item.get("name", path.stem)), item, {}, str(path))


def detect() -> Hardware:
    """The machine at hand: an NVIDIA GPU by its catalogue entry with the bytes it really has, else its processor."""
    from pipelines import device

    gpus = device.nvidia_gpus()
    if gpus:
        known = next((name for name in names() if _same(name, gpus[0])), None)
        if known is None:
            raise UserError(f"the catalogue has no {gpus[0]}", "describe it in a YAML: --hardware my-gpu.yaml")
        return _named(known).model_copy(update={"memory_bytes": _gpu_bytes()})
    cores, features = device.usable_cores(), device.cpu_features()
    known = next((name for name in reversed(OPERATIONS) if name in features), "")
    best, width = OPERATIONS.get(known, (16, 32)), "fp16" if known == "amx_int8" else "fp32"
    peaks = {width: best[0] * cores * CYCLES_PER_S, "int8": best[1] * cores * CYCLES_PER_S}
    return Hardware(
        name=f"{device.cpu_model()}, {cores} cores",
        kind="cpu",
        memory_bytes=float(device.memory_bytes()),
        bandwidth=device.memory_bandwidth_gb_s(cores) * 1e9,
        peaks=peaks,
        price_per_hour=0.0,
        sources={"bandwidth_gb_s": "measured now", "tflops.fp32": "cores x instruction set x 2.3 GHz, recalled"},
    )


def detected(kept: Path | None) -> Hardware:
    """The machine at hand, as it was measured the first time: what calibrations are relative to may not wander."""
    if kept is None:
        return detect()
    from pipelines.device import device_facts

    file = kept / f"hardware-{device_facts().identity}.json"
    if file.is_file():
        return Hardware.model_validate_json(file.read_text(encoding="utf-8"))
    found = detect()
    kept.mkdir(parents=True, exist_ok=True)
    beside = file.with_suffix(f".{os.getpid()}")
    beside.write_text(found.model_dump_json(), encoding="utf-8")
    beside.replace(file)
    return found


def _same(name: str, told: str) -> bool:
    """Whether the driver's name of a GPU holds every word of the catalogue's: `h100` and `NVIDIA H100 80GB HBM3`."""
    words = told.lower().replace("gb", "").replace("-", " ").split()
    return all(word in words for word in name.split("-"))


def _gpu_bytes() -> float:
    import subprocess

    query = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    told = subprocess.run(query, capture_output=True, text=True, timeout=10, check=True).stdout
    return min(float(line) for line in told.split()) * 2**20
