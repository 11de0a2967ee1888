"""GGUF: llama.cpp's servers, the one in Python or the one in C++."""

from __future__ import annotations

from pipelines.llm_servers.shell import FIND_TAPEOUT, in_environment, neither, script, where_there_is
from stages.base import Artifact

USAGE = [
    "  PORT=9000 CONTEXT=8192 ./serve.sh [further arguments of the server]",
    "The chat template is the one in the model file. Give --host 0.0.0.0 to serve other machines.",
]
PYTHON = """"$python" -c "$start" --model "$here/{model}" --model_alias "$name" \\
        --host 127.0.0.1 --port "$port" --n_ctx "$context" "$@\""""
START = """# An image's llama.cpp has a library for each generation of CPUs, of which none is loaded by itself.
start='
import ctypes, pathlib, runpy, llama_cpp
libraries = pathlib.Path(llama_cpp.__file__).parent / "lib"
if list(libraries.glob("libggml-cpu-*.so")):
    ctypes.CDLL(str(libraries / "libggml.so")).ggml_backend_load_all_from_path(str(libraries).encode())
runpy.run_module("llama_cpp.server", run_name="__main__", alter_sys=True)
'"""
NATIVE = """llama-server --model "$here/{model}" --alias "$name" \\
        --host 127.0.0.1 --port "$port" --ctx-size "$context" --jinja "$@\""""


def serve_script(artifact: Artifact) -> str:
    """serve.sh."""
    model = next(path.name for path in sorted(artifact.path.iterdir()) if path.suffix == ".gguf")
    return script(
        model,
        "llama.cpp",
        USAGE,
        "context=${CONTEXT:-4096}",
        FIND_TAPEOUT,
        START,
        in_environment("gguf", PYTHON.format(model=model)),
        where_there_is("llama-server", NATIVE.format(model=model)),
        neither(
            "neither tapeout nor llama-server was found",
            "install Tapeout or llama.cpp, or say where it is: TAPEOUT=/path/to/tapeout $0",
        ),
    )
