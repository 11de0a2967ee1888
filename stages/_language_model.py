"""A Hugging Face language model in PyTorch, and llama.cpp's names for its matrices."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages._quantized import refuse_quantized
from stages.base import Refused

EMBEDDING, HEAD = "token_embd.weight", "output.weight"


@dataclass(frozen=True)
class LanguageModel:
    """A causal language model in float32 on the CPU. `linears` maps llama.cpp's tensor names to Linear modules.

    A head that shares its weights with the embedding goes by the embedding's name, as it does in a GGUF.
    """

    model: Any
    tokenizer: Any
    linears: dict[str, Any]

    @classmethod
    def load(cls, folder: Path, threads: int) -> LanguageModel:
        """Read a folder of safetensors; nothing is fetched and no code of the folder is executed.

        Raises:
            Refused: quantized already, or transformers or llama.cpp knows no such model.
        """
        refuse_quantized(folder)
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        torch.set_num_threads(threads)
        try:
            model = AutoModelForCausalLM.from_pretrained(
                folder, dtype=torch.float32, use_safetensors=True, trust_remote_code=False
            )
            tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        except (ValueError, OSError, KeyError) as error:
            what = " ".join(str(error).split())
            raise Refused(f"transformers cannot load the folder: {what}", "use a model it knows") from error
        return cls(model.eval(), tokenizer, _linears(model))


def _linears(model: Any) -> dict[str, Any]:
    import torch

    names = _name_map(model.config)
    found = {}
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear) and (known := names.get_name(f"{name}.weight", (".weight",))):
            found[known] = module
    if HEAD in found and found[HEAD].weight is model.get_input_embeddings().weight:
        found[EMBEDDING] = found.pop(HEAD)
    if not found:
        raise Refused(f"llama.cpp has no names for the matrices of {type(model).__name__}", "use another model")
    return found


def _name_map(config: Any) -> Any:
    import gguf
    from conversion import TEXT_MODEL_MAP, get_model_class

    architecture = str((config.architectures or [""])[0])
    if architecture not in TEXT_MODEL_MAP:
        raise Refused(f"llama.cpp does not know the architecture {architecture}", "use a model that it converts")
    return gguf.get_tensor_name_map(get_model_class(architecture).model_arch, config.num_hidden_layers)
