"""GGUF -> Hugging Face folder: de-quantizes to float32, for a model that exists as GGUF only."""

from __future__ import annotations

import errno
import functools
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

from pydantic import JsonValue

from stages._gguf_checks import checked
from stages._gguf_header import Header, find
from stages.base import Artifact, Context, Produced, Refused, Stage

_MACHINE_KEYS = ("name_or_path", "is_local", "local_files_only")  # of a tokenizer: where it was loaded from
_SLACK = 2  # what the metadata may ask for beyond the file: missing tensors are named later, memory is bounded here


class ImportGguf(Stage):
    """De-quantize a GGUF into a Hugging Face folder with float32 safetensors and the tokenizer."""

    consumes: ClassVar[frozenset[str]] = frozenset({"gguf"})
    produces: ClassVar[str] = "hf"
    env: ClassVar[str] = "torch"

    def run(self, model: Artifact, context: Context) -> Produced:
        """Write config.json, model.safetensors and the tokenizer; every weight is finite and comes from the file.

        Raises:
            Refused: the file is damaged, its header lies, or transformers knows no such architecture.
        """
        source = find(model.path)
        context.progress(0, 4, "reading the header")
        header = checked(source)
        _refuse_unsupported(source, header)
        with _parsed_once():
            context.progress(1, 4, "de-quantizing")
            loaded = _load(source, header, context.threads)
            context.progress(2, 4, "converting the tokenizer")
            tokenizer = _tokenizer(source)
        context.progress(3, 4, "writing")
        _save(loaded, tokenizer, context.out)
        context.progress(4, 4, "written")
        return Produced(facts=_facts(header, loaded, context.out))


def _refuse_unsupported(source: Path, header: Header) -> None:
    from transformers.integrations.gguf import GGUF_ARCHS
    from transformers.modeling_gguf_pytorch_utils import GGUF_SUPPORTED_ARCHITECTURES

    known = {*GGUF_SUPPORTED_ARCHITECTURES, *GGUF_ARCHS} - {"general", "tokenizer"}
    if header.architecture.replace("-", "_") not in {name.replace("-", "_") for name in known}:
        raise Refused(
            f"{source.name}: architecture `{header.architecture}` cannot be imported",
            f"transformers imports {', '.join(sorted(known))}",
        )


@contextmanager
def _parsed_once() -> Iterator[None]:
    """Remember what transformers asks of gguf-py.

    It parses the header three times (1.5 s each for a vocabulary of 49,152) and builds the same name map once a
    module (397 times, 3 s, for 30 layers).
    """
    import gguf

    originals = gguf.GGUFReader, gguf.get_tensor_name_map
    gguf.GGUFReader, gguf.get_tensor_name_map = map(functools.cache, originals)
    try:
        yield
    finally:
        gguf.GGUFReader, gguf.get_tensor_name_map = originals


def _load(source: Path, header: Header, threads: int) -> Any:
    import torch
    from huggingface_hub.errors import StrictDataclassError
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.set_num_threads(threads)
    try:
        config = AutoConfig.from_pretrained(source.parent, gguf_file=source.name)
        _refuse_larger(source, header, config)
        loaded, info = AutoModelForCausalLM.from_pretrained(
            source.parent, gguf_file=source.name, config=config, dtype=torch.float32, output_loading_info=True
        )
    except (ValueError, LookupError, TypeError, ArithmeticError, NotImplementedError, StrictDataclassError) as error:
        raise _not_loaded(source, header, error) from error
    except RuntimeError as error:
        if "mismatch" not in str(error):
            raise
        raise _not_loaded(source, header, error) from error
    for name in sorted(info["missing_keys"]):
        raise Refused(f"{source.name}: the weights of `{name}` are missing", "convert the model again")
    _refuse_not_finite(source, loaded)
    return loaded


def _not_loaded(source: Path, header: Header, error: Exception) -> Refused:
    what = " ".join(str(error).split()) or type(error).__name__
    return Refused(
        f"{source.name}: transformers cannot build a {header.architecture} model from it: {what}",
        "its metadata and its tensors contradict each other; convert the model again",
    )


def _refuse_larger(source: Path, header: Header, config: Any) -> None:
    """Weights that the metadata asks for and the file lacks would be made up at random, in any amount of memory."""
    import torch
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        wanted = sum(p.numel() for p in AutoModelForCausalLM.from_config(config).parameters())
    held = sum(tensor.elements for tensor in header.tensors)
    if wanted > held * _SLACK:
        raise Refused(
            f"{source.name}: its metadata describes a model of {wanted:,} weights, its tensors hold {held:,}",
            "its metadata and its tensors contradict each other; convert the model again",
        )


def _refuse_not_finite(source: Path, loaded: Any) -> None:
    import torch

    for name, weights in loaded.named_parameters():
        # one pass with no copy: 17 ms for 28M weights, isfinite().all() took 280; NaN propagates
        if not torch.stack(torch.aminmax(weights.detach())).isfinite().all():
            raise Refused(f"{source.name}: tensor `{name}` holds NaN or infinity", "convert the model again")


def _tokenizer(source: Path) -> Any:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name)
    for key in _MACHINE_KEYS:
        tokenizer.init_kwargs.pop(key, None)
    return tokenizer


def _save(loaded: Any, tokenizer: Any, out: Path) -> None:
    from safetensors import SafetensorError

    # A de-quantized model is an ordinary one; transformers would refuse to save it as a GGUF.
    if hasattr(loaded.config, "quantization_config"):
        del loaded.config.quantization_config
    loaded.hf_quantizer, loaded.is_quantized = None, False
    try:
        loaded.save_pretrained(out)
    except SafetensorError as error:
        if "os error 28" in str(error):
            raise OSError(errno.ENOSPC, "no space left for the weights", str(out)) from error
        raise
    tokenizer.save_pretrained(out)
    for file in out.iterdir():
        file.chmod(0o644)  # safetensors writes 0600


def _facts(header: Header, loaded: Any, out: Path) -> dict[str, JsonValue]:
    tokenizer = out / "tokenizer.json"
    return {
        "architecture": header.architecture,
        "parameters": loaded.num_parameters(),
        "layers": loaded.config.num_hidden_layers,
        "vocabulary": loaded.config.vocab_size,
        "context_length": loaded.config.max_position_embeddings,
        "precision": "float32",
        "source_types": dict(header.types()),
        "source_bits_per_weight": round(header.bits_per_weight(), 3),
        "chat_template": (out / "chat_template.jinja").is_file(),
        "tokenizer_sha256": hashlib.sha256(tokenizer.read_bytes()).hexdigest() if tokenizer.is_file() else None,
        "licence": header.metadata.get("general.license"),
    }
