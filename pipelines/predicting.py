"""What a bundle of a classifier holds besides: predict.py, which runs it without Tapeout, and what that needs."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import metadata

from pipelines.triton import onnx_file
from stages._examples import Preprocess
from stages._onnx_session import CHAINS, Provider
from stages.base import Artifact

PROGRAM = '''"""Classify images: python predict.py IMAGE... or an .npy of shape (n, height, width, channels).

pip install -r requirements.txt first. Prints a line an image: class number and score of the five likeliest classes.
"""

import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
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


{opened}

def main(paths):
    scores = opened()
    for path in paths:
        for row in scores(prepare(load(path))):
            best = np.argsort(-row)[:5]
            print(path, *(f"{{number}}:{{row[number]:.4g}}" for number in best))


if __name__ == "__main__":
    main(sys.argv[1:]) if len(sys.argv) > 1 else print(__doc__)
'''

ONNX = '''def opened():
    """The model as a function of prepared pixels."""
    import onnxruntime

    session = onnxruntime.InferenceSession(HERE / {model!r}, providers={providers!r})
    name = session.get_inputs()[0].name
    return lambda pixels: session.run(None, {{name: pixels}})[0]
'''

COMPILED = """    sys.modules.setdefault("openvino_telemetry", None)  # it would report its use to its vendor
    import openvino

    core, settings = openvino.Core(), {settings!r}
    blob = HERE / "openvino.blob"  # what compiling gives, where it was kept: for one kind of CPU and one version
    try:
        model = core.import_model(blob.read_bytes(), {device!r}, settings) if blob.is_file() else None
    except RuntimeError:
        model = None
    model = model or core.compile_model(HERE / "openvino.xml", {device!r}, settings)
"""

OPENVINO = f'''def opened():
    """The model as a function of prepared pixels, compiled as it was measured."""
{COMPILED}    return lambda pixels: model(pixels)[0]
'''

NEEDS = {"onnx": ("numpy", "onnxruntime", "pillow"), "openvino": ("numpy", "openvino", "pillow")}


def program(artifact: Artifact, preprocess: Preprocess, versions: Mapping[str, str]) -> dict[str, str]:
    """predict.py and requirements.txt; nothing for a kind that they are not written for.

    `versions` are those of the environment that measured the model; Pillow's is the one that read the images here.
    """
    if artifact.kind not in NEEDS:
        return {}
    runtime = "onnxruntime" if provider_of(artifact) == "cpu" else "onnxruntime-gpu"
    needed = [runtime if name == "onnxruntime" else name for name in NEEDS[artifact.kind]]
    return {
        "predict.py": PROGRAM.format(opened=_opened(artifact), **dict(preprocess)),
        "requirements.txt": "".join(f"{pinned(name, versions)}\n" for name in needed),
    }


def provider_of(artifact: Artifact) -> Provider:
    """What ONNX Runtime computes with, as the target was told."""
    told = artifact.facts.get("provider")
    return "cuda" if told == "cuda" else "tensorrt" if told == "tensorrt" else "cpu"


def pinned(name: str, versions: Mapping[str, str]) -> str:
    """A line of requirements.txt, with a version where one is known."""
    try:
        return f"{name}=={versions.get(name) or metadata.version(name)}"
    except metadata.PackageNotFoundError:
        return name


def _opened(artifact: Artifact) -> str:
    if artifact.kind == "onnx":
        return ONNX.format(model=onnx_file(artifact), providers=[*CHAINS[provider_of(artifact)]])
    device, settings = openvino_settings(artifact)
    return OPENVINO.format(device=device, settings=settings)


def openvino_settings(artifact: Artifact) -> tuple[str, dict[str, str]]:
    """The device, and the properties that the model was measured with."""
    told = {key: str(artifact.facts.get(key, usual)) for key, usual in OPENVINO_USUAL.items()}
    return told["device"], {
        "PERFORMANCE_HINT": told["hint"].upper(),
        "INFERENCE_PRECISION_HINT": told["inference_precision"],
    }


OPENVINO_USUAL = {"device": "CPU", "hint": "latency", "inference_precision": "f32"}
"""What the target does unless it is told otherwise; a model of which it is not the last step says nothing of it."""
