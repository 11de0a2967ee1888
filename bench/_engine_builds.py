"""Inside the `tensorrt` environment: the builds that `bench.engines` measures, into a JSON file."""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from stages._examples import Examples, Preprocess
from stages._onnx_file import find, opset, read
from stages.base import Artifact, Context
from stages.quantize_tensorrt import QuantizeTensorrt
from targets._tensorrt_build import built, version
from targets._tensorrt_manifest import RTX_CAPABILITIES

BATCHES = (1, 8, 32)
STAGES = {"float16": QuantizeTensorrt(type="float16"), "int8": QuantizeTensorrt(examples=32)}


def main() -> None:
    options = arguments()
    with tempfile.TemporaryDirectory(prefix="tapeout-engines-") as folder:
        scratch = Path(folder)
        model = Artifact(kind="onnx", path=options.model.parent, digest="0")
        given = options.examples or noise(read(model.path), scratch / "examples")
        graphs = {name: quantized(name, model, given, scratch) for name in STAGES}
        rows = [row(name, graph, each, options) for name, graph in graphs.items() for each in options.capabilities]
    options.out.write_text(json.dumps({"tensorrt": version(), "engines": rows}), encoding="utf-8")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--examples", type=Path)
    parser.add_argument("--capabilities", nargs="+", choices=RTX_CAPABILITIES)
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--threads", type=int)
    return parser.parse_args()


def quantized(name: str, model: Artifact, given: Path, scratch: Path) -> Path:
    """The graph in that precision."""
    out, work = scratch / name, scratch / f"{name}.work"
    out.mkdir()
    work.mkdir()
    inputs = {"calibration": Artifact(kind="examples", path=given, digest="0")}
    STAGES[name].run(model, Context(out=out, scratch=work, inputs=inputs))
    return find(out)


def row(precision: str, graph: Path, capability: str, options: argparse.Namespace) -> dict[str, Any]:
    """One engine, built once to warm up and then `rounds` times."""
    model = read(graph.parent)
    weighted = [node.name for node in model.graph.node if node.op_type in ("Conv", "ConvTranspose", "Gemm", "MatMul")]
    builds = [built(graph, opset(model), capability, BATCHES, options.threads) for _ in range(options.rounds + 1)]
    return {
        "precision": precision,
        "compute_capability": capability,
        "graph_bytes": graph.stat().st_size,
        "bytes": [len(each.engine) for each in builds[1:]],
        "build_s": [each.seconds for each in builds[1:]],
        "layers": len(builds[-1].inside.layers),
        "computed_in": builds[-1].inside.computed_in(weighted),
    }


def noise(model: Any, folder: Path) -> Path:
    """Examples of noise: an engine's size and build time do not depend on the scales in its graph."""
    (given,) = (
        value for value in model.graph.input if value.name not in {each.name for each in model.graph.initializer}
    )
    _, channels, height, width = (axis.dim_value for axis in given.type.tensor_type.shape.dim)
    pixels = np.random.default_rng(0).integers(0, 256, (32, height, width, channels), dtype=np.uint8)
    folder.mkdir()
    Examples(pixels, np.zeros(32, dtype=np.int64), Preprocess()).save(folder)
    return folder


if __name__ == "__main__":
    main()
