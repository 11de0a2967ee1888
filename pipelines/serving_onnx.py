"""What a bundle of an ONNX model holds besides: a program that predicts, its needs, Triton's model repository."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import JsonValue

from stages._examples import Preprocess
from stages.base import Artifact

TYPES = {
    "float32": "TYPE_FP32", "float": "TYPE_FP32", "float16": "TYPE_FP16", "float64": "TYPE_FP64",
    "int8": "TYPE_INT8", "uint8": "TYPE_UINT8", "int32": "TYPE_INT32", "int64": "TYPE_INT64", "bool": "TYPE_BOOL",
}  # fmt: skip
"""numpy's and ONNX's names, and Triton's (model_config.proto, DataType)."""
MAX_BATCH = 64
NEEDS = ("numpy", "onnxruntime", "pillow")

PREDICT = '''"""Classify images: python predict.py IMAGE... or an .npy of shape (n, height, width, channels).

pip install -r requirements.txt first. Prints a line an image: class number and score of the five likeliest classes.
"""

import sys
from pathlib import Path

import numpy as np
import onnxruntime

SCALE, MEAN, STD, LAYOUT = {scale!r}, {mean!r}, {std!r}, {layout!r}


def load(path):
    """Pixels as stored, shape (n, height, width, channels)."""
    if path.endswith(".npy"):
        return np.load(path, allow_pickle=False)
    from PIL import Image

    return np.asarray(Image.open(path).convert("RGB"))[None]


def prepare(pixels):
    """Pixels as the model takes them, float32."""
    prepared = pixels.astype(np.float32) * np.float32(SCALE)
    prepared = (prepared - np.float32(MEAN or 0)) / np.float32(STD or 1)
    return np.ascontiguousarray(prepared.transpose(0, 3, 1, 2)) if LAYOUT == "nchw" else prepared


def main(paths):
    session = onnxruntime.InferenceSession(Path(__file__).with_name({model!r}), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    for path in paths:
        for row in session.run(None, {{name: prepare(load(path))}})[0]:
            best = np.argsort(-row)[:5]
            print(path, *(f"{{number}}:{{row[number]:.4g}}" for number in best))


if __name__ == "__main__":
    main(sys.argv[1:]) if len(sys.argv) > 1 else print(__doc__)
'''


def companions(artifact: Artifact, name: str, preprocess: Preprocess, versions: Mapping[str, str]) -> dict[str, str]:
    """Texts by their path in the bundle. `versions` are those of the environment that measured the model."""
    missing = [package for package in NEEDS if package not in versions]
    requirements = "".join(f"{package}=={versions[package]}\n" for package in NEEDS if package in versions)
    return {
        "predict.py": PREDICT.format(model=file_of(artifact), **dict(preprocess)),
        "requirements.txt": requirements + "".join(f"{package}\n" for package in missing),
        f"triton/{name}/config.pbtxt": triton(artifact, name),
    }


def file_of(artifact: Artifact) -> str:
    """The name of the artifact's .onnx file."""
    return next(path.name for path in sorted(artifact.path.glob("*.onnx")))


def links(artifact: Artifact, name: str) -> dict[str, str]:
    """Where Triton looks for the model, and where it lies from there."""
    return {f"triton/{name}/1/model.onnx": f"../../../{file_of(artifact)}"}


def triton(artifact: Artifact, name: str) -> str:
    """Triton's config.pbtxt (model_config.proto): names and types of the model, and dynamic batching.

    The first axis of every tensor is the batch, which Triton leaves out of `dims`; another dynamic axis is -1.
    """
    tensors = "".join(_tensors(side, artifact.facts.get(f"{side}s")) for side in ("input", "output"))
    return (
        f'name: "{name}"\nbackend: "onnxruntime"\nmax_batch_size: {MAX_BATCH}\n{tensors}'
        "dynamic_batching { max_queue_delay_microseconds: 100 }\n"
        "instance_group [ { kind: KIND_CPU } ]\n"
    )


def _tensors(side: str, facts: JsonValue) -> str:
    found = []
    for name, tensor in facts.items() if isinstance(facts, dict) else ():
        shape, dtype = (tensor["shape"], tensor["dtype"]) if isinstance(tensor, dict) else ([], "")
        dims = [size if isinstance(size, int) else -1 for size in (shape[1:] if isinstance(shape, list) else ())]
        found.append(f'  {{ name: "{name}" data_type: {TYPES[str(dtype)]} dims: {dims} }}')
    return f"{side} [\n" + ",\n".join(found) + "\n]\n"
