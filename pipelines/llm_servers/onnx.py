"""ONNX Runtime GenAI: it has no server of its own, so the bundle carries one."""

from __future__ import annotations

from pipelines.llm_servers.carried import program, requirements
from pipelines.llm_servers.shell import FIND_TAPEOUT, in_environment, neither, script
from pipelines.records import RunRecord
from stages.base import Artifact

USAGE = [
    "  PORT=9000 ./serve.sh [further arguments of serve.py]",
    "One answer at a time; what is asked meanwhile waits.",
]
PROGRAM = """"$python" "$here/serve.py" --port "$port" --name "$name" "$@\""""
NEEDED = ("onnxruntime", "onnxruntime-genai")


def serve_script(_: Artifact) -> str:
    """serve.sh."""
    return script(
        "model.onnx",
        "ONNX Runtime GenAI",
        USAGE,
        FIND_TAPEOUT,
        in_environment("onnx_llm", PROGRAM),
        neither("tapeout was not found", "install Tapeout, or: pip install -r requirements.txt, python serve.py"),
    )


def companions(_: Artifact, record: RunRecord) -> dict[str, str]:
    """The server's files by their path in the bundle."""
    return {"requirements.txt": requirements(record, NEEDED), **program("serve_onnx")}
