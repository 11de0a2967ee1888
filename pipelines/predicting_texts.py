"""What a text encoder's bundle holds besides: predict.py, which embeds texts without Tapeout, and what that needs."""

from __future__ import annotations

from collections.abc import Mapping

from pipelines.predicting import COMPILED, openvino_settings, pinned, provider_of
from pipelines.triton import onnx_file
from stages._onnx_session import CHAINS
from stages._tokenizer import FILE
from stages.base import Artifact

PROGRAM = '''"""Embed texts: python predict.py TEXT... or, with no argument, a text a line on standard input.

pip install -r requirements.txt first. Prints a line a text: its embedding as a JSON list.
"""

import json
import sys
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

HERE = Path(__file__).resolve().parent
INPUTS, LENGTH, PADDING, BATCH = {inputs!r}, {length!r}, {padding!r}, 32


def tokenizer():
    """The model's own, which cuts texts at the length that was measured."""
    made = Tokenizer.from_file(str(HERE / "tokenizer.json"))
    made.enable_truncation(LENGTH)
    made.no_padding()
    return made


def prepared(tokenize, texts):
    """Token ids and mask of shape (texts, longest), int64, by the names of the model's inputs."""
    found = tokenize.encode_batch(texts)
    longest = max(len(each.ids) for each in found)
    ids = np.full((len(found), longest), PADDING, dtype=np.int64)
    mask = np.zeros_like(ids)
    for row, each in enumerate(found):
        ids[row, : len(each.ids)], mask[row, : len(each.ids)] = each.ids, 1
    held = {{"input_ids": ids, "attention_mask": mask}}
    return {{name: held[name] for name in INPUTS}}


{opened}

def embed(texts):
    """Embeddings of shape (texts, width), float32."""
    model, tokenize = opened(), tokenizer()
    parts = [texts[start : start + BATCH] for start in range(0, len(texts), BATCH)]
    return np.concatenate([model(prepared(tokenize, part)) for part in parts])


if __name__ == "__main__":
    asked = sys.argv[1:] or [line.rstrip("\\n") for line in sys.stdin]
    for row in embed(asked) if asked else ():
        print(json.dumps([round(float(value), 6) for value in row]))
'''

ONNX = '''def opened():
    """The model as a function of its inputs by name."""
    import onnxruntime

    session = onnxruntime.InferenceSession(HERE / {model!r}, providers={providers!r})
    return lambda inputs: session.run(None, inputs)[0]
'''

OPENVINO = f'''def opened():
    """The model as a function of its inputs by name, compiled as it was measured."""
{COMPILED}    return lambda inputs: model(inputs)[0].copy()
'''

NEEDS = {"onnx": ("numpy", "onnxruntime", "tokenizers"), "openvino": ("numpy", "openvino", "tokenizers")}


def program(artifact: Artifact, length: int, versions: Mapping[str, str]) -> dict[str, str]:
    """predict.py and requirements.txt; nothing where the tokenizer or the kind's runtime is missing.

    `length` is the most tokens a text that was measured; `versions` are those of the environments that measured it.
    """
    inputs = artifact.facts.get("inputs")
    if artifact.kind not in NEEDS or not (artifact.path / FILE).is_file() or not isinstance(inputs, dict):
        return {}
    runtime = "onnxruntime" if provider_of(artifact) == "cpu" else "onnxruntime-gpu"
    needed = [runtime if name == "onnxruntime" else name for name in NEEDS[artifact.kind]]
    padding = artifact.facts.get("padding_id", 0)
    text = PROGRAM.format(opened=_opened(artifact), inputs=[*inputs], length=length, padding=padding)
    return {"predict.py": text, "requirements.txt": "".join(f"{pinned(name, versions)}\n" for name in needed)}


def _opened(artifact: Artifact) -> str:
    if artifact.kind == "onnx":
        return ONNX.format(model=onnx_file(artifact), providers=[*CHAINS[provider_of(artifact)]])
    device, settings = openvino_settings(artifact)
    return OPENVINO.format(device=device, settings=settings)
