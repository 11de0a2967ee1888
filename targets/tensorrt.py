"""TensorRT: for RTX an engine for each compute capability, built ahead of time with no GPU present; the full one, where
it is installed and there is a GPU, for that GPU.

For RTX there is no timing cache to keep: since TensorRT for RTX 1.2 it is a no-op, and what 1.7 serializes holds no
entry. Kernels are chosen on the device, when an engine is opened there.

The same graph does not always give the same bytes: in an INT8 engine of 2.4 MB, 156 differ, in the names that the
compiler gives its temporaries. They follow from memory addresses: with address randomization off (`setarch -R`), three
processes made the same file.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field, JsonValue, field_validator, model_validator

from stages._cuda import without_cuda
from stages._onnx_file import find, graph_facts, opset, read
from stages.base import Artifact, Context, Frozen, Produced, Refused
from targets._tensorrt_build import Built, built
from targets._tensorrt_device import Driver, device_capability
from targets._tensorrt_inspect import Inspected
from targets._tensorrt_library import FULL, LIBRARIES, Flavour, Library
from targets._tensorrt_manifest import RTX_CAPABILITIES, TIMINGS, Engine, Manifest, file_name
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
_EVERY: tuple[Capability, ...] = ("7.5", "8.0", "8.6", "8.9", "12.0")


class Tensorrt(Target):
    """Build engines that keep every type of the graph; open the one that is for this machine's GPU."""

    consumes: ClassVar[frozenset[str]] = frozenset({"onnx"})
    produces: ClassVar[str] = "tensorrt"
    env: ClassVar[str] = "tensorrt"

    flavour: Flavour = Field(
        "rtx", description="`rtx` builds with no GPU; `full` is the data centre's and builds for the GPU that is there"
    )
    compute_capabilities: tuple[Capability, ...] = Field(
        _EVERY, min_length=1, description="an engine for each; `rtx` only"
    )
    profile: Profile = Field(Profile(), description="batch sizes, where the graph's batch is dynamic")

    @field_validator("compute_capabilities")
    @classmethod
    def _once_each(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(value)) < len(value):
            raise ValueError("a compute capability stands there twice")
        return value

    @model_validator(mode="after")
    def _builds_for_what_is_there(self) -> Tensorrt:
        if self.flavour == "full" and self.compute_capabilities != _EVERY:
            raise ValueError("`compute_capabilities` is of `flavour: rtx`; `full` builds for the GPU that is there")
        return self

    @property
    def bound(self) -> bool:
        """The full TensorRT times kernels on the GPU that is there, and builds for it alone."""
        return self.flavour == "full"

    @property
    def environment(self) -> str:
        """Each flavour has its own."""
        return self._library.environment

    def unavailable(self) -> str | None:
        """Why this machine cannot build; the libraries of either flavour come with its environment."""
        if self.flavour == "full" and (reason := without_cuda()):
            return f"`flavour: full` builds for the GPU that is there, and {reason}; `flavour: rtx` builds without one"
        return None

    def cannot_measure(self) -> str | None:
        """Why engines can be built on this machine, but not run. Loads the NVIDIA driver where there is a device."""
        capability = device_capability()
        if capability is None:
            return "there is no NVIDIA GPU on this machine"
        if self.flavour == "rtx" and capability not in RTX_CAPABILITIES:
            return f"TensorRT for RTX builds nothing for this machine's GPU, compute capability {capability}"
        return None

    def run(self, model: Artifact, context: Context) -> Produced:
        """Write an engine for each compute capability, and engines.json; of the full TensorRT timing.cache, too.

        Raises:
            Refused: a damaged graph, an operator or a type that TensorRT lacks, or a TensorRT that is not installed.
        """
        graph, file, library = read(model.path), find(model.path), self._library
        made: dict[str, Built] = {}
        for done, capability in enumerate(wanted := self._capabilities()):
            context.progress(done, len(wanted), f"building for {capability}")
            made[capability] = built(file, opset(graph), capability, self._batches, context.threads, library)
            (context.out / file_name(capability)).write_bytes(made[capability].engine)
            if timings := made[capability].timings:
                (context.out / TIMINGS).write_bytes(timings)
        manifest = _manifest(made, library)
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
        manifest.refuse_other_version(self._library.version(), self._library.title)
        if device_capability() is None:
            reason, hint = self.cannot_measure(), "open the engines on a machine that has one; here they can be built"
            raise Refused(f"the engines cannot be opened: {reason}", hint)
        driver = Driver()
        engine = manifest.engine_for(driver.capability())
        return TensorrtSession(artifact.path / engine.file, manifest, driver, self._library)

    @property
    def _batches(self) -> tuple[int, int, int]:
        return self.profile.min_batch, self.profile.opt_batch, self.profile.max_batch

    @property
    def _library(self) -> Library:
        return LIBRARIES[self.flavour]

    def _capabilities(self) -> tuple[str, ...]:
        if self._library is not FULL:
            return self.compute_capabilities
        if (here := device_capability()) is None:
            raise Refused("`flavour: full` builds for the GPU that is there, and none is", "`flavour: rtx` needs none")
        return (here,)


def _inherited(model: Artifact) -> dict[str, JsonValue]:
    return {key: model.facts[key] for key in _INHERITED if key in model.facts}


def _manifest(made: Mapping[str, Built], library: Library) -> Manifest:
    """What all engines have in common is asked of the first."""
    inside = next(iter(made.values())).inside
    engines = tuple(
        Engine(compute_capability=name, file=file_name(name), bytes=len(each.engine)) for name, each in made.items()
    )
    return Manifest(
        library=library.title,
        version=library.version(),
        engines=engines,
        inputs=inside.inputs,
        outputs=inside.outputs,
    )


def _refuse_other_tensors(facts: dict[str, JsonValue], manifest: Manifest) -> None:
    """An engine that takes or gives something else than the graph is broken, whatever the builder says."""
    for side, tensors in (("inputs", manifest.inputs), ("outputs", manifest.outputs)):
        asked, got = facts[side], [tensor.name for tensor in tensors]
        if not isinstance(asked, dict) or list(asked) != got:
            raise RuntimeError(f"the graph's {side} are {asked}, the engine's {got}")


def _told(manifest: Manifest, made: Mapping[str, Built], weighted: list[str]) -> dict[str, JsonValue]:
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
