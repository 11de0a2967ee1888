"""OpenVINO: converts ONNX to its own format, and runs either on CPU, GPU or NPU."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field, JsonValue

from stages._carried import carried
from stages._openvino_model import KIND, model_facts, read, write
from stages._openvino_runtime import Settings, compiled, device_property, property_of, refuse_missing, toolkit
from stages.base import Artifact, Context, Produced
from targets._openvino_session import OpenvinoSession
from targets.base import Target

BLOB, PRECISION = "openvino.blob", "INFERENCE_PRECISION_HINT"


class Openvino(Target):
    """Convert to OpenVINO's format; open that, or an ONNX model as it is."""

    consumes: ClassVar[frozenset[str]] = frozenset({"onnx", "openvino"})
    produces: ClassVar[str] = KIND
    env: ClassVar[str] = "openvino"
    opens: ClassVar[frozenset[str]] = frozenset({"onnx", "openvino"})

    precision: Literal["float32", "float16"] = Field("float32", description="what float weights are stored in")
    device: Literal["CPU", "GPU", "NPU", "AUTO"] = Field("CPU", description="where it runs; AUTO lets OpenVINO choose")
    hint: Literal["latency", "throughput"] = Field(
        "latency", description="what it is tuned for; `throughput` cuts a batch into parts that run at the same time"
    )
    inference_precision: Literal["f32", "bf16", "f16", "dynamic"] = Field(
        "f32", description="what float operators compute in; left to itself a CPU that can would take bf16"
    )
    cache: bool = Field(
        False, description="keep the compiled model too: it opens faster, on this kind of CPU and this version alone"
    )

    @property
    def bound(self) -> bool:
        """What is compiled for one kind of CPU is in the artifact with `cache` alone."""
        return self.cache

    def run(self, model: Artifact, context: Context) -> Produced:
        """Write openvino.xml and openvino.bin, and compile them where the device is here.

        Raises:
            Refused: damaged, or with an operator that OpenVINO or the device lacks.
        """
        context.progress(0, 2, "converting")
        file = write(read(model), context.out, half=self.precision == "float16")
        made = Artifact(kind=KIND, path=context.out, digest=model.digest)
        context.progress(1, 2, "compiling")
        converted = read(made)
        facts = model_facts(converted) | self._compiling(converted, made, context.threads)
        carried(model, context.out)
        context.progress(2, 2, file.name)
        return Produced(facts={**model.facts, **facts})

    def open(self, artifact: Artifact, threads: int, context_length: int) -> OpenvinoSession:
        """Compile the model for the device, or load what was compiled before where that fits this machine.

        Raises:
            Refused: no such device here, a damaged model, or an operator that the device lacks.
        """
        loaded = self._cached(artifact, threads) or compiled(read(artifact), self.device, self._settings(threads))
        requests = int(property_of(loaded, "OPTIMAL_NUMBER_OF_INFER_REQUESTS") or 1)
        return OpenvinoSession(loaded, requests if self.hint == "throughput" else 1)

    def _compiling(self, model: Any, made: Artifact, threads: int) -> dict[str, JsonValue]:
        """What compiling shows; nothing where the device is on another machine."""
        core = toolkit().Core()
        asked: dict[str, JsonValue] = {
            "device": self.device,
            "hint": self.hint,
            "inference_precision": self.inference_precision,
        }
        here = {each.partition(".")[0] for each in core.available_devices}
        if self.device not in here | {"AUTO"}:
            return {**asked, "compiled": False}
        loaded = compiled(model, self.device, self._settings(threads))
        if self.cache:
            (made.path / BLOB).write_bytes(loaded.export_model().getvalue())
        got = property_of(loaded, PRECISION) or self.inference_precision
        default = device_property(core, self.device, PRECISION)
        return {**asked, "compiled": True, "inference_precision": got, "default_inference_precision": default}

    def _cached(self, artifact: Artifact, threads: int) -> Any:
        """The compiled model out of the artifact, or None: not kept, or made for another CPU or version."""
        blob = artifact.path / BLOB
        if not self.cache or not blob.is_file():
            return None
        core = toolkit().Core()
        refuse_missing(self.device, tuple(core.available_devices))
        try:
            return core.import_model(blob.read_bytes(), self.device, dict(self._settings(threads)))
        except RuntimeError:  # says that the processor or the version is another one
            return None

    def _settings(self, threads: int) -> Settings:
        """Properties of the compiled model; the threads are the CPU's."""
        settings: dict[str, str | int | bool] = {
            "PERFORMANCE_HINT": self.hint.upper(),
            PRECISION: self.inference_precision,
        }
        if self.device == "CPU":
            # not pinned to cores, like ONNX Runtime: models measured in alternation would share the same ones
            settings |= {"INFERENCE_NUM_THREADS": threads, "ENABLE_CPU_PINNING": False}
        return settings
