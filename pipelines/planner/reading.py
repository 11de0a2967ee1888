"""The model of a plan: a Hugging Face folder or id, a GGUF or ONNX file, a well-known name, or shapes by hand."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pipelines.errors import UserError
from pipelines.mistakes import did_you_mean, from_pydantic
from pipelines.planner.shapes import Decoder, Encoder, Model
from stages.base import ROOT, Refused

KNOWN = ROOT / "targets" / "models.yaml"
SHORT = {
    "L": "layers", "d": "hidden", "H": "heads", "Hkv": "kv_heads", "dh": "head_dim", "F": "ffn", "V": "vocabulary",
    "E": "experts", "topk": "experts_per_token",
}  # fmt: skip
LARGEST_HEADER = 100 << 20
BY_HAND = "L=32,d=4096,H=32,Hkv=8,dh=128,F=14336,V=128256"


def read(given: str) -> Model:
    """The model that a command line names.

    Raises:
        UserError: there is no such model, or its shapes cannot be told.
    """
    path = Path(given).expanduser()
    if "=" in given:
        return by_hand(given)
    if path.is_dir() or path.name == "config.json":
        return from_folder(path if path.is_dir() else path.parent)
    if path.suffix == ".gguf":
        return from_gguf(path)
    if path.suffix == ".onnx":
        return _from_onnx(path)
    return _named(given) or _from_hub(given)


def by_hand(given: str) -> Model:
    """`L=32,d=4096,...`, short or long names; `weights=...,flops=...` for a CNN or an encoder.

    Raises:
        UserError: a name is unknown, or a number is none.
    """
    fields: dict[str, Any] = {"name": "by hand"}
    for part in given.split(","):
        key, _, value = part.strip().partition("=")
        name = SHORT.get(key, key)
        if name in fields and name != "name":
            raise UserError(f"--model: `{key}` is given twice")
        fields[name] = value
    fields |= {} if "head_dim" in fields or "flops" in fields else _head_dim(fields)
    fields |= {} if "kv_heads" in fields or "flops" in fields else {"kv_heads": fields.get("heads")}
    return _checked(Encoder if "flops" in fields else Decoder, fields, "--model")


def _head_dim(fields: dict[str, Any]) -> dict[str, Any]:
    hidden, heads = str(fields.get("hidden", "")), str(fields.get("heads", ""))
    return {"head_dim": int(hidden) // int(heads)} if hidden.isdigit() and heads.isdigit() and int(heads) else {}


def _checked(kind: type[Decoder] | type[Encoder], fields: dict[str, Any], origin: str) -> Model:
    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        raise UserError("\n\n".join(from_pydantic(origin, "", kind, error.errors())), f"as in {BY_HAND}") from error


def from_folder(folder: Path) -> Decoder:
    """A Hugging Face folder: config.json, and the parameters of its safetensors where they lie beside it.

    Raises:
        UserError: config.json is missing, or describes no decoder of this form.
    """
    file = folder / "config.json"
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{file}: cannot be read: {error.strerror}", "name a Hugging Face folder") from error
    except ValueError as error:
        raise UserError(f"{file}: no JSON: {error}") from error
    return from_config(config, folder.name, str(file), parameters_in(folder))


def from_config(config: dict[str, Any], name: str, origin: str, held: int | None = None) -> Decoder:
    """The shapes that a config.json states.

    Raises:
        UserError: one of them is missing.
    """
    config = {**config, **config.get("text_config", {})}
    heads = config.get("num_attention_heads")
    fields: dict[str, Any] = {
        "name": name,
        "layers": config.get("num_hidden_layers"),
        "hidden": config.get("hidden_size"),
        "heads": heads,
        "kv_heads": config.get("num_key_value_heads") or heads,
        "head_dim": config.get("head_dim")
        or (config["hidden_size"] // heads if heads and "hidden_size" in config else None),
        "ffn": config.get("moe_intermediate_size") or config.get("intermediate_size"),
        "vocabulary": config.get("vocab_size"),
        "experts": config.get("num_local_experts") or config.get("num_experts") or 1,
        "experts_per_token": config.get("num_experts_per_tok") or 1,
        "tied": bool(config.get("tie_word_embeddings", False)),
        "checkpoint_parameters": held,
        "max_context": config.get("max_position_embeddings"),
    }
    missing = [key for key in ("layers", "hidden", "heads", "ffn", "vocabulary") if not fields[key]]
    if missing:
        raise UserError(f"{origin}: states no {', '.join(missing)}", f"give the shapes by hand: --model {BY_HAND}")
    decoder = _checked(Decoder, fields, origin)
    assert isinstance(decoder, Decoder)
    return decoder


def parameters_in(folder: Path) -> int | None:
    """Elements of every tensor of the folder's safetensors, by their headers alone; None without any."""
    files = sorted(folder.glob("*.safetensors"))
    return sum(_elements(file) for file in files) if files else None


def _elements(file: Path) -> int:
    with file.open("rb") as content:
        start = content.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        if not 0 < length <= min(LARGEST_HEADER, file.stat().st_size):
            raise UserError(f"{file}: no safetensors file", "fetch it again")
        header = json.loads(content.read(length))
    total = 0
    for name, tensor in header.items():
        if name != "__metadata__":
            count = 1
            for width in tensor["shape"]:
                count *= width
            total += count
    return total


def from_gguf(path: Path) -> Decoder:
    """The shapes in a GGUF's header.

    Raises:
        UserError: it is damaged, or no decoder.
    """
    from stages._gguf_header import read as header_of

    try:
        header = header_of(path)
    except Refused as error:
        raise UserError(error.message, error.hint) from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error
    heads, hidden = header.number("attention.head_count"), header.number("embedding_length")
    fields = {
        "name": path.stem,
        "layers": header.number("block_count"),
        "hidden": hidden,
        "heads": heads,
        "kv_heads": header.number("attention.head_count_kv") or heads,
        "head_dim": header.number("attention.key_length") or (hidden // heads if hidden and heads else None),
        "ffn": header.number("expert_feed_forward_length") or header.number("feed_forward_length"),
        "vocabulary": header.lengths.get("tokenizer.ggml.tokens") or header.number("vocab_size"),
        "experts": header.number("expert_count") or 1,
        "experts_per_token": header.number("expert_used_count") or 1,
        "tied": all(tensor.name != "output.weight" for tensor in header.tensors),
        "checkpoint_parameters": sum(tensor.elements for tensor in header.tensors),
        "max_context": header.number("context_length"),
    }
    decoder = _checked(Decoder, fields, str(path))
    assert isinstance(decoder, Decoder)
    return decoder


def _from_onnx(path: Path) -> Encoder:
    from pipelines.planner.onnx_shapes import encoder_of

    return encoder_of(path)


def _named(name: str) -> Decoder | None:
    from pipelines.planner.yaml_files import load

    known = load(KNOWN)
    if name in known:
        return Decoder(name=name, **{key: value for key, value in known[name].items() if key != "source"})
    if "/" not in name:
        hint = did_you_mean(name, known) or f"known: {', '.join(known)}"
        raise UserError(f"no model `{name}`: no file, no folder, no known name", f"{hint}; or shapes: {BY_HAND}")
    return None


def _from_hub(name: str) -> Decoder:
    """config.json of a hub's model; no weights are fetched."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        file = Path(hf_hub_download(name, "config.json"))
    except HFValidationError as error:
        raise UserError(f"{name}: no file, no folder, and no name of a hub's model") from error
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"{name}: its config.json cannot be fetched: {first}", "give its folder, or shapes by hand"
        ) from error
    return from_config(json.loads(file.read_text(encoding="utf-8")), name, f"{name}/config.json")
