"""Every measured run is a test of the planner: what it predicted for an artifact, and what was measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from pydantic import Field, JsonValue

from pipelines.planner.calibrations import Calibrations
from pipelines.planner.case import Case, Option
from pipelines.planner.costs import Costs
from pipelines.planner.efficiency import Efficiency
from pipelines.planner.formats import Format
from pipelines.planner.gguf_types import BASE, VOCABULARY_BYTES
from pipelines.planner.hardware import Hardware
from pipelines.planner.shapes import Decoder
from pipelines.planner.workload import Goals, Limits, Workload
from stages.base import Frozen

if TYPE_CHECKING:
    from pipelines.measures import Metric

WIDTHS = {"float32": 32, "fp32": 32, "f32": 32, "float16": 16, "fp16": 16, "f16": 16, "bfloat16": 16, "bf16": 16,
          "int8": 8, "i8": 8, "u8": 8, "int4": 4, "i4": 4, "u4": 4}  # fmt: skip
GENAI = "onnx_llm"
PACKAGES = {"llama.cpp": "llama-cpp-python", "openvino_llm": "openvino", "onnxruntime_genai": "onnxruntime-genai",
            "transformers": "torch"}  # fmt: skip
"""What an engine's version is that of."""
SCALE_BITS = {GENAI: 32}
"""A block's scale is float32 there, and float16 elsewhere."""
USUAL_WORKING_BYTES = 0.25e9
"""An interpreter and a runtime beside weights and cache; a guess until it is calibrated."""


class Predicted(Frozen):
    """One figure, before and after it was measured; `error` is predicted/measured-1, of perplexity the difference."""

    name: str
    predicted: float
    measured: float
    error: float


class Sighting(Frozen):
    """One artifact as it was predicted and measured: enough to predict it again with other efficiencies."""

    hardware: Hardware
    engine: str
    engine_version: str = Field("", description="of the engine's package")
    format: Format
    model: Decoder
    prompts: tuple[int, ...] = Field(description="tokens; the first is the one that metrics without a length are of")
    tokens: int = Field(description="generated")
    context: int = Field(description="tokens that the session's cache holds")
    companions: int = Field(0, description="bytes of the files beside the weights")
    calibrated: int = Field(0, description="observations behind the efficiency; 0 for defaults")
    catalogue: str = ""
    plan: str = Field("", description="sha256 of all that the predictions come from, its first 16 digits")
    values: tuple[Predicted, ...] = ()

    @property
    def option(self) -> Option:
        """What was run."""
        return Option(format=self.format, engine=self.engine, paged=False)

    def case(self, prompt: int) -> Case:
        """A user alone with prompts of that length."""
        work = Workload(prompt=prompt, output=self.tokens, users=1)
        return Case(self.model, self.hardware, 1, work, Goals(), Limits())

    def measured(self) -> dict[str, float]:
        """By name."""
        return {item.name: item.measured for item in self.values}


def engine_of(target: str) -> str:
    """The planner's name of a target's runtime."""
    return "llama.cpp" if target == "gguf" else target


def version_of(engine: str, versions: Mapping[str, str]) -> str:
    """The engine's version out of those of its environment's packages; nothing where none is known."""
    return versions.get(PACKAGES.get(engine, engine), "")


def format_of(kind: str, facts: Mapping[str, JsonValue], fields: Mapping[str, JsonValue]) -> Format | None:
    """The format of an artifact by what is known of it; None where that is not enough."""
    known = {**fields, **facts}
    precision = str(known.get("precision") or "").lower()
    if kind == "gguf":
        imatrix = "-imatrix" if known.get("imatrix_tokens") else ""
        return Format(name=precision + imatrix, gguf=precision, kinds=("cpu",)) if precision in BASE else None
    width = next((bits for name, bits in WIDTHS.items() if precision.startswith(name)), None)
    if width is None:
        return None
    if width >= 16:
        return Format(name=precision, bits=width, head_bits=width, kinds=("cpu",))
    group = known.get("group_size") or known.get("block_size")
    grouped = isinstance(group, int) and group > 0 and (width == 4 or kind == GENAI)
    symmetric = "asym" not in str(known.get("mode", "")) and known.get("symmetric") is not False
    scale = SCALE_BITS.get(kind, 16) + (0 if symmetric else width)
    each = width + scale / int(str(group)) if grouped else width
    return Format(
        name=precision,
        bits=width,
        head_bits=_head_bits(kind, known, each, scale / int(str(group)) if grouped else 0.0),
        group=int(str(group)) if grouped else None,
        scale_bits=scale,
        kinds=("cpu",),
    )


def _head_bits(kind: str, known: Mapping[str, JsonValue], each: float, scale: float) -> float:
    """Of embedding and head: ONNX Runtime GenAI's share their blocks with the rest unless told to keep 8 bits."""
    if kind != GENAI:
        return each if known.get("all_layers") else 8
    return each if known.get("keep_8_bits") in {None, "nothing"} else 8 + scale


def predictions(seen: Sighting, reached: Efficiency, calibrations: Calibrations) -> dict[str, float]:
    """What is expected of the artifact, by metric."""
    found = {"size_bytes": size_bytes(seen), "peak_memory_bytes": memory_bytes(seen, reached)}
    first = Costs(seen.case(seen.prompts[0]), seen.option, reached)
    found["tbt_p50_ms"] = first.decode(1) * 1e3
    found["decode_tokens_per_s"] = 1 / first.decode(1)
    for number, prompt in enumerate(seen.prompts):
        name = "ttft_p50_ms" if number == 0 else f"ttft_p50_ms_{prompt}"
        costs = Costs(seen.case(prompt), seen.option, reached)
        found[name] = costs.ttft(1, 0.0, 0) * 1e3
    found["ttft_p95_ms"] = found["ttft_p50_ms"]  # one user never queues
    expected = expected_rise(seen, calibrations)
    return found if expected is None else {**found, "perplexity_change": expected}


def size_bytes(seen: Sighting) -> float:
    """The artifact's folder."""
    vocabulary = VOCABULARY_BYTES * seen.model.vocabulary if seen.format.gguf else seen.companions
    return seen.format.weight_bytes(seen.model) + vocabulary


def memory_bytes(seen: Sighting, reached: Efficiency) -> float:
    """Weights, the whole context's cache, and what the runtime takes."""
    cache = seen.model.kv_bytes() * seen.context
    return seen.format.weight_bytes(seen.model) + cache + (reached.working_bytes or USUAL_WORKING_BYTES)


def expected_rise(seen: Sighting, calibrations: Calibrations) -> float | None:
    """Relative rise of perplexity, where anything is known of the format."""
    from pipelines.planner.formats import all_formats

    if not seen.format.name.endswith("-imatrix") and seen.format.name not in all_formats():
        return None
    try:
        return calibrations.prior(seen.model, seen.format).perplexity
    except KeyError:
        return None


def compared(
    seen: Sighting, reached: Efficiency, calibrations: Calibrations, measured: Mapping[str, float]
) -> Iterator[Predicted]:
    """Each figure that was both predicted and measured."""
    for name, value in predictions(seen, reached, calibrations).items():
        if name in measured:
            true = measured[name]
            error = value - true if name == "perplexity_change" else value / true - 1 if true else 0.0
            yield Predicted(name=name, predicted=value, measured=true, error=error)
            if name == "perplexity_change" and "perplexity" in measured:
                points = measured["perplexity"]
                expected = points / (1 + true) * (1 + value)
                yield Predicted(name="perplexity", predicted=expected, measured=points, error=expected - points)


def figures(metrics: Mapping[str, Metric], size: int) -> dict[str, float]:
    """What a report says, under the names that are predicted."""
    found = {name: metric.value for name, metric in metrics.items()} | {"size_bytes": float(size)}
    change = metrics["perplexity"].relative if "perplexity" in metrics else None
    return found if change is None else {**found, "perplexity_change": change.value}
