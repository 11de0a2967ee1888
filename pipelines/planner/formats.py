"""Weight formats, their bytes, and what each is expected to cost in quality."""

from __future__ import annotations

from functools import cache
from typing import Any

from pydantic import Field

from pipelines.planner import gguf_types
from pipelines.planner.formulas import group_bytes
from pipelines.planner.hardware import Hardware, Kind
from pipelines.planner.shapes import Decoder
from stages.base import ROOT, Frozen

FILE = ROOT / "targets" / "formats.yaml"
WHOLE = ("bf16", "fp16", "f16")


class Format(Frozen):
    """How weights are stored, and in which arithmetic they are multiplied."""

    name: str
    bits: int = 16
    group: int | None = Field(None, description="weights that share a scale")
    scale_bits: int = Field(20, description="of a group: 16 for its scale and 4 for a zero point, if it has one")
    head_bits: float = Field(16, description="a weight of the output head and the embedding; GGUF has its own rule")
    gguf: str | None = Field(None, description="llama.cpp's type, for its files")
    maths: str = "fp16"
    kinds: tuple[Kind, ...] = ("gpu",)
    least: float | None = Field(None, description="compute capability")
    most: float | None = Field(None, description="compute capability")
    method: str | None = None
    calibration: bool = False
    weighed_by: str | None = Field(None, description="what decides which weights or channels are kept closest")

    @property
    def whole(self) -> bool:
        """Whether nothing is quantized."""
        return self.name in WHOLE

    @property
    def weight_only(self) -> bool:
        """Whether weights are stored in fewer bits than they are multiplied in."""
        return not self.whole and self.maths == "fp16"

    def linear_bytes(self, model: Decoder) -> float:
        """Pl·b."""
        if self.gguf:
            return gguf_types.linear_bytes(model, self.gguf)
        return model.linear * self.bytes_each

    @property
    def bytes_each(self) -> float:
        """b: bytes a parameter; of a GGUF mixture, those of its most frequent type."""
        if self.gguf:
            return gguf_types.bits_of(gguf_types.BASE[self.gguf]) / 8
        return group_bytes(self.bits, self.group, self.scale_bits) if self.group else self.bits / 8

    def head_bytes(self, model: Decoder) -> float:
        """Of the output head: 16 bits a weight unless told otherwise, but for GGUF."""
        return gguf_types.head_bytes(model, self.gguf) if self.gguf else self.head_bits / 8 * model.head

    def embedding_bytes(self, model: Decoder) -> float:
        """Of the embedding; a tied one is the head."""
        if self.gguf:
            return gguf_types.embedding_bytes(model, self.gguf)
        return 0.0 if model.tied else self.head_bits / 8 * model.head

    def weight_bytes(self, model: Decoder) -> float:
        """W = Pl·b + 2(Ph+embedding)."""
        return self.linear_bytes(model) + self.head_bytes(model) + self.embedding_bytes(model)

    def unsupported(self, hardware: Hardware) -> str:
        """Why that machine cannot multiply in this format, or nothing."""
        capability = hardware.compute_capability
        if hardware.kind not in self.kinds:
            return f"no kernels for {self.name} on {hardware.kind}"
        if capability is not None and self.least is not None and capability < self.least:
            needs = self.name.upper() if self.whole else f"{self.maths.upper()} maths"
            return f"sm{capability * 10:.0f} < sm{self.least * 10:.0f}, which {needs} needs"
        if capability is not None and self.most is not None and capability > self.most:
            return f"sm{capability * 10:.0f} > sm{self.most * 10:.0f}: FP8 W8A8 takes its place"
        if self.maths not in hardware.peaks and self.maths != "fp16":
            return f"{hardware.name} has no {self.maths} peak"
        return ""


class Prior(Frozen):
    """The loss of quality that is expected before anything was measured."""

    perplexity: float = Field(description="relative rise")
    task: float = Field(description="points lost")
    source: str


def all_formats() -> dict[str, Format]:
    """Every format by name, full precision first."""
    return {name: Format(name=name, **item) for name, item in _file()["formats"].items()}


def whole_format(hardware: Hardware) -> Format:
    """Full precision on that machine: BF16, FP16 on a GPU that has none, GGUF's F16 elsewhere."""
    return next(form for form in all_formats().values() if form.whole and not form.unsupported(hardware))


def prior(format_name: str, parameters: float) -> Prior:
    """What is expected of the format on a model of that size."""
    table = [item for item in _file()["priors"] if parameters >= item["over"]][-1]
    perplexity, task = table["formats"][format_name]
    return Prior(perplexity=perplexity, task=task, source=table["source"])


@cache
def _file() -> dict[str, Any]:
    from pipelines.planner.yaml_files import load

    return load(FILE)
