"""llama.cpp: converts a Hugging Face folder to GGUF, and runs any GGUF on the CPU."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from stages._gguf_checks import checked
from stages._gguf_header import find
from stages._quantized import refuse_quantized
from stages._vocabulary import refuse_lost, vocabulary_of_folder, vocabulary_of_gguf
from stages.base import Artifact, Context, Produced, Refused
from targets._hf_folder import architecture, checked_config
from targets._llama import LlamaSession
from targets.base import Target

_NAME = "model"  # general.name: the converter would take the name of the artifact's folder


class Gguf(Target):
    """Convert with llama.cpp's own converter; open with llama.cpp."""

    consumes: ClassVar[frozenset[str]] = frozenset({"hf"})
    produces: ClassVar[str] = "gguf"
    env: ClassVar[str] = "gguf"
    drafts: ClassVar[frozenset[str]] = frozenset({"gguf"})

    outtype: Literal["f32", "f16", "bf16"] = Field("f16", description="what the weight matrices are stored in")

    def run(self, model: Artifact, context: Context) -> Produced:
        """Write model.gguf.

        Raises:
            Refused: no Hugging Face folder with safetensors, quantized already, an architecture or tokenizer that
            llama.cpp does not know, or a token, special token or chat template lost on the way.
        """
        config = checked_config(model.path)
        refuse_quantized(model.path)
        folder = context.scratch / _NAME
        folder.symlink_to(model.path.resolve(), target_is_directory=True)
        out = context.out / "model.gguf"
        converter = _converter(architecture(config))
        with _watched(out, _expected_size(model.path, self.outtype), context):
            _convert(converter, folder, out, self.outtype)
        refuse_lost(vocabulary_of_folder(model.path), vocabulary_of_gguf(out))
        inherited = {key: model.facts[key] for key in ("tokenizer_sha256", "licence") if key in model.facts}
        return Produced(facts={**inherited, **checked(out).facts(), "precision": self.outtype})

    def open(self, artifact: Artifact, threads: int, context_length: int) -> LlamaSession:
        """Memory-map the GGUF.

        Raises:
            Refused: the file is damaged, llama.cpp cannot load it, or it was trained on shorter sequences.
        """
        file = find(artifact.path)
        checked(file)
        return LlamaSession(file, threads, context_length)


def _converter(name: str) -> Any:
    from conversion import TEXT_MODEL_MAP, get_model_class

    if name not in TEXT_MODEL_MAP:
        raise Refused(
            f"architecture {name} cannot be converted to GGUF",
            "the converter knows " + ", ".join(sorted(known for known in TEXT_MODEL_MAP if known.endswith("CausalLM"))),
        )
    return get_model_class(name)


def _convert(converter: Any, folder: Path, out: Path, outtype: str) -> None:
    import gguf
    import torch

    types = {
        "f32": gguf.LlamaFileType.ALL_F32,
        "f16": gguf.LlamaFileType.MOSTLY_F16,
        "bf16": gguf.LlamaFileType.MOSTLY_BF16,
    }
    try:
        with torch.inference_mode():
            converter(folder, types[outtype], out, model_name=_NAME).write()
    except (NotImplementedError, ValueError, KeyError, FileNotFoundError, TypeError) as error:
        what = " ".join(str(error).split()) or type(error).__name__
        raise Refused(
            f"llama.cpp's converter refused the model: {what}", "the log says what it was doing; try another model"
        ) from error


def _expected_size(folder: Path, outtype: str) -> int:
    """Roughly the size of the result: the float32 weights of an import shrink to the outtype's."""
    return sum(file.stat().st_size for file in folder.glob("*.safetensors")) // (1 if outtype == "f32" else 2)


@contextmanager
def _watched(out: Path, expected: int, context: Context) -> Iterator[None]:
    """Progress by the growth of the file: the converter draws its own bar and tells nobody."""
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.5):
            written = out.stat().st_size if out.exists() else 0
            context.progress(min(written, expected), expected, "converting")

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
    context.progress(expected, expected, "converted")
