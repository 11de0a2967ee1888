"""TensorRT for RTX: an engine for each compute capability, built ahead of time with no GPU present.

There is no timing cache to keep: since TensorRT for RTX 1.2 it is a no-op, and what 1.7 serializes holds no entry.
Kernels are chosen on the device, when an engine is opened there.

The same graph does not always give the same bytes: in an INT8 engine of 2.4 MB, 156 differ, in the names that the
compiler gives its temporaries. They follow from memory addresses: with address randomization off (`setarch -R`), three
processes made the same file.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field, JsonValue, field_validator, model_validator

from stages._onnx_file import find, graph_facts, opset, read
from stages.base import Artifact, Context, Frozen, Produced, Refused
from targets._tensorrt_build import Built, built, version
from targets._tensorrt_device import Driver, device_capability
from targets._tensorrt_inspect import Inspected
from targets._tensorrt_manifest import RTX_CAPABILITIES, Engine, Manifest, file_name
from targets._tensorrt_session import TensorrtSession
from targets.base import Target

_MULTIPLIED = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
_INHERITED = ("licence", "float_type")
_NOT_SAME_BYTES = "the compiler's names of temporaries in an engine follow from memory addresses"


class Profile(Frozen):
    """Batch sizes of an engine: it takes any from the least to the greatest, and is tuned for `opt_batch`."""

    min_batch: int = Field(1, ge=1, description="least")
    opt_batch: int = Field(8, ge=1, description="what the engine is tuned for")
    max_batch: int = Field(32, ge=1, description="greatest")

    @model_validator(mode="after")
    def _ascending(self) -> Profile:
        if not self.min_batch <= self.opt_batch <= self.max_batch:
            raise ValueError("`min_batch`, `opt_batch` and `max_batch` must ascend")
        return self


def _known(value: object) -> object:
    """8.9 without quotes is a number in YAML."""
    text = str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value
    if isinstance(text, str) and text not in RTX_CAPABILITIES:
        known = ", ".join(RTX_CAPABILITIES)
        raise ValueError(f"TensorRT for RTX builds nothing for compute capability {text}, only for {known}")
    return text


Capability = Annotated[Literal["7.5", "8.0", "8.6", "8.9", "12.0", "12.1"], BeforeValidator(_known)]


class Tensorrt(Target):
    """Build engines that keep every type of the graph; open the one that is for this machine's GPU."""

    consumes: ClassVar[frozenset[str]] = frozenset({"onnx"})
    produces: ClassVar[str] = "tensorrt"
    env: ClassVar[str] = "tensorrt"

    flavour: Literal["rtx", "full"] = Field("rtx", description="`rtx` builds with no GPU; `full` is the data centre's")
    compute_capabilities: tuple[Capability, ...] = Field(
        ("7.5", "8.0", "8.6", "8.9", "12.0"), min_length=1, description="an engine for each"
    )
    profile: Profile = Field(Profile(), description="batch sizes, where the graph's batch is dynamic")

    @field_validator("compute_capabilities")
    @classmethod
    def _once_each(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(value)) < len(value):
            raise ValueError("a compute capability stands there twice")
        return value

    @classmethod
    def cannot_measure(cls) -> str | None:
        """Why engines can be built on this machine, but not run. Loads the NVIDIA driver where there is a device."""
        capability = device_capability()
        if capability is None:
            return "there is no NVIDIA GPU on this machine"
        if capability not in RTX_CAPABILITIES:
            return f"TensorRT for RTX builds nothing for this machine's GPU, compute capability {capability}"
        return None

    def run(self, model: Artifact, context: Context) -> Produced:
        """Write an engine for each compute capability, and engines.json.

        Raises:
            Refused: a damaged graph, an operator or a type that TensorRT lacks, or `flavour: full`.
        """
        self._refuse_full()
        graph, file = read(model.path), find(model.path)
        made: dict[str, Built] = {}
        for done, capability in enumerate(self.compute_capabilities):
            context.progress(done, len(self.compute_capabilities), f"building for {capability}")
            made[capability] = built(file, opset(graph), capability, self._batches, context.threads)
            (context.out / file_name(capability)).write_bytes(made[capability].engine)
        manifest = _manifest(made)
        manifest.write(context.out)
        facts = graph_facts(graph, str(model.facts.get("precision", "float32")))
        _refuse_other_tensors(facts, manifest)
        weighted = [node.name for node in graph.graph.node if node.op_type in _MULTIPLIED]
        context.progress(1, 1, "built")
        return Produced(facts={**_inherited(model), **facts, **_told(manifest, made, weighted)})

    def open(self, artifact: Artifact, threads: int, context_length: int) -> TensorrtSession:
        """Open the engine of this machine's GPU; the CPU's threads play no part.

        Raises:
            Refused: no GPU, no engine for it, an engine of another version, or a damaged one.
        """
        manifest = Manifest.read(artifact.path)
        manifest.refuse_other_version(version())
        if device_capability() is None:
            reason, hint = self.cannot_measure(), "open the engines on a machine that has one; here they can be built"
            raise Refused(f"the engines cannot be opened: {reason}", hint)
        driver = Driver()
        engine = manifest.engine_for(driver.capability())
        return TensorrtSession(artifact.path / engine.file, manifest, driver)

    @property
    def _batches(self) -> tuple[int, int, int]:
        return self.profile.min_batch, self.profile.opt_batch, self.profile.max_batch

    def _refuse_full(self) -> None:
        if self.flavour == "full":
            raise Refused(
                "`flavour: full` needs the libraries of the full TensorRT, which this environment does not hold",
                "`flavour: rtx` builds with what there is, and with no GPU; it has no engines for data centre Hopper",
            )


def _inherited(model: Artifact) -> dict[str, JsonValue]:
    return {key: model.facts[key] for key in _INHERITED if key in model.facts}


def _manifest(made: dict[str, Built]) -> Manifest:
    """What all engines have in common is asked of the first."""
    inside = next(iter(made.values())).inside
    engines = tuple(
        Engine(compute_capability=name, file=file_name(name), bytes=len(each.engine)) for name, each in made.items()
    )
    return Manifest(version=version(), engines=engines, inputs=inside.inputs, outputs=inside.outputs)


def _refuse_other_tensors(facts: dict[str, JsonValue], manifest: Manifest) -> None:
    """An engine that takes or gives something else than the graph is broken, whatever the builder says."""
    for side, tensors in (("inputs", manifest.inputs), ("outputs", manifest.outputs)):
        asked, got = facts[side], [tensor.name for tensor in tensors]
        if not isinstance(asked, dict) or list(asked) != got:
            raise RuntimeError(f"the graph's {side} are {asked}, the engine's {got}")


def _told(manifest: Manifest, made: dict[str, Built], weighted: list[str]) -> dict[str, JsonValue]:
    engines: dict[str, JsonValue] = {
        engine.compute_capability: {
            "file": engine.file,
            "bytes": engine.bytes,
            "build_s": round(made[engine.compute_capability].seconds, 3),
            **_layers(made[engine.compute_capability].inside, weighted),
        }
        for engine in manifest.engines
    }
    profile: list[JsonValue] = [list(shape) for shape in manifest.inputs[0].profile]
    return {
        "tensorrt": f"{manifest.library} {manifest.version}",
        "engines": engines,
        "profile": profile,
        "not_reproducible": _NOT_SAME_BYTES,
    }


def _layers(inside: Inspected, weighted: list[str]) -> dict[str, JsonValue]:
    return {
        "layers": len(inside.layers),
        "layer_types": {**inside.layer_types()},
        "computed_in": {**inside.computed_in(weighted)},
    }
