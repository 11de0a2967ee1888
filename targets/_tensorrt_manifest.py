"""engines.json: which engine file is for which GPU, and what a loader has to know before it opens one."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from stages.base import Frozen, Refused
from targets._tensorrt_inspect import Tensor
from targets._tensorrt_library import RTX

FILE, TIMINGS = "engines.json", "timing.cache"
RTX_CAPABILITIES = {
    "7.5": "Turing", "8.0": "A100", "8.6": "Ampere", "8.9": "Ada", "12.0": "Blackwell", "12.1": "GB10",
}  # fmt: skip


class Engine(Frozen):
    """One file for one compute capability."""

    compute_capability: str
    file: str
    bytes: int


class Manifest(Frozen):
    """All engines of an artifact; every one takes and gives the same tensors."""

    library: str = RTX.title
    version: str
    engines: tuple[Engine, ...]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]

    @property
    def max_batch(self) -> int | None:
        """The most examples a call, None where the graph fixes the shape of its input."""
        profile = self.inputs[0].profile
        return profile[-1][0] if profile else None

    def write(self, folder: Path) -> None:
        """Write engines.json."""
        (folder / FILE).write_text(self.model_dump_json(indent=1) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """Read engines.json.

        Raises:
            Refused: it is missing or damaged, or an engine file is missing or of another size.
        """
        file = folder / FILE
        if not file.is_file():
            raise Refused(f"there is no {FILE} in the artifact", "make it with the target `tensorrt`")
        try:
            manifest = cls.model_validate_json(file.read_text(encoding="utf-8"))
        except (ValidationError, UnicodeDecodeError) as error:
            raise Refused(f"{FILE} is damaged: {' '.join(str(error).split())}", "build the engines again") from error
        for engine in manifest.engines:
            found = folder / engine.file
            if not found.is_file() or found.stat().st_size != engine.bytes:
                raise Refused(f"{engine.file} is missing or truncated", "build the engines again")
        return manifest

    def refuse_other_version(self, installed: str, library: str = RTX.title) -> None:
        """Engines open in the library and the version that built them."""
        if self.library != library:
            raise Refused(
                f"the engines were built by {self.library}, and {library} was asked to open them",
                "the config's `flavour` is not the one that built them",
            )
        if self.version != installed:
            raise Refused(
                f"the engines were built by {self.library} {self.version}, and {installed} is installed here",
                f"install {self.version}, or build them again",
            )

    def engine_for(self, capability: str) -> Engine:
        """The engine of a device's compute capability.

        Raises:
            Refused: there is none.
        """
        for engine in self.engines:
            if engine.compute_capability == capability:
                return engine
        known = ", ".join(engine.compute_capability for engine in self.engines)
        raise Refused(
            f"the device has compute capability {capability}, and the engines are for {known}",
            _way_out(capability) if self.library == RTX.title else "build it again on this machine",
        )


def file_name(capability: str) -> str:
    """engine_sm89.engine for 8.9."""
    return f"engine_sm{capability.replace('.', '')}.engine"


def _way_out(capability: str) -> str:
    if capability in RTX_CAPABILITIES:
        return f"add {capability} to `compute_capabilities`"
    return f"TensorRT for RTX builds none for {capability}; measure `onnxruntime` there"
