"""An .onnx file as the source, in each of the forms that they come in: quantized, measured, gated and packaged."""

import subprocess
from pathlib import Path

import digits
import pytest
from program import Program

AGREEMENT = {"metric": "top1_agreement", "min": "97%"}
STEPS = ["optimize_onnx", {"quantize_onnx": {"examples": 400}}, "onnxruntime"]
REWRITE = """
import sys
import onnx
from onnx import helper

form, folder = sys.argv[1:]
file = folder + "/model.onnx"
model = onnx.load(file)
graph = model.graph
if form == "opset 11":
    model.opset_import[0].version = 11  # Flatten, Gemm and Relu are the same there
if form == "constant nodes":
    held = [helper.make_node("Constant", [], [tensor.name], value=tensor) for tensor in graph.initializer]
    nodes = held + list(graph.node)
    del graph.initializer[:], graph.node[:]
    graph.node.extend(nodes)
if form == "dynamic axes":
    for axis, name in zip(graph.input[0].type.tensor_type.shape.dim[2:], ("height", "width")):
        axis.dim_param = name
external = {"save_as_external_data": True, "location": "weights.bin", "size_threshold": 0}
onnx.save_model(model, file, **(external if form == "external data" else {}))
"""


@pytest.mark.parametrize("form", ["external data", "opset 11", "constant nodes", "dynamic axes"])
def test_onnx_file_goes_through_the_whole_pipeline(
    fresh: Program, pythons: dict[str, Path], tmp_path: Path, form: str
) -> None:
    model = digits.model(pythons["onnx"], tmp_path / "model")
    config = digits.config(model, STEPS, [AGREEMENT])
    subprocess.run([pythons["onnx"], "-c", REWRITE, form, model.parent], check=True, capture_output=True)
    if form == "external data":  # a file that names another one is a folder of both
        folder = config.parent / "both"
        folder.mkdir()
        for name in ("model.onnx", "weights.bin"):
            (model.parent / name).rename(folder / name)
        config.write_text(config.read_text().replace("path: model.onnx", "path: both"))
    ended = fresh.run(config, "--json")

    assert ended.code == 0, ended.err
    last = ended.report["stages"][-1]
    assert last["facts"]["quantized_nodes"] >= 4
    assert not any("(Gemm)" in node for node in last["facts"]["float_nodes"])
    agreement = last["report"]["metrics"]["top1_agreement"]
    assert (agreement["n"], agreement["low"] > 0.97) == (1397, True)
