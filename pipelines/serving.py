"""How a bundle is served: one script for every kind of artifact that has a server."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import yaml

from pipelines import predicting, triton
from pipelines.records import RunRecord
from stages._examples import Preprocess
from stages.base import Artifact

GGUF = """#!/bin/sh
# Serves {model} with llama.cpp's OpenAI-compatible server, http://127.0.0.1:8080/v1.
#   PORT=9000 CONTEXT=8192 ./serve.sh [further arguments of the server]
# The chat template is the one in the model file. Give --host 0.0.0.0 to serve other machines.
set -eu

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
name=$(basename -- "$here")
port=${{PORT:-8080}}
context=${{CONTEXT:-4096}}

find_tapeout() {{
    if [ -n "${{TAPEOUT:-}}" ]; then
        printf '%s\\n' "$TAPEOUT"
    elif command -v tapeout >/dev/null 2>&1; then
        command -v tapeout
    elif [ -x "$here/../../.venv/bin/tapeout" ]; then
        printf '%s\\n' "$here/../../.venv/bin/tapeout"
    fi
}}

tapeout=$(find_tapeout)
if [ -n "$tapeout" ]; then
    python=$("$tapeout" envs python gguf)
    exec "$python" -m llama_cpp.server --model "$here/{model}" --model_alias "$name" \\
        --host 127.0.0.1 --port "$port" --n_ctx "$context" "$@"
fi
if command -v llama-server >/dev/null 2>&1; then
    exec llama-server --model "$here/{model}" --alias "$name" \\
        --host 127.0.0.1 --port "$port" --ctx-size "$context" --jinja "$@"
fi

echo "serve.sh: neither tapeout nor llama-server was found" >&2
echo "hint: install Tapeout or llama.cpp, or say where it is: TAPEOUT=/path/to/tapeout $0" >&2
exit 3
"""


def serve_script(artifact: Artifact) -> str | None:
    """A POSIX shell script that serves the artifact from the folder it lies in, or None for a kind without a server."""
    write = SCRIPTS.get(artifact.kind)
    return write(artifact.path) if write else None


def companions(artifact: Artifact, record: RunRecord) -> dict[str, str]:
    """Texts, by their path in the bundle, with which the artifact serves without Tapeout."""
    if artifact.kind not in triton.BACKENDS:
        return {}
    data = yaml.safe_load(record.config_text).get("data", {})
    preprocess = Preprocess.model_validate(data.get("preprocess", {}))
    versions = record.stages[-1].tool_versions
    return predicting.program(artifact, preprocess, versions) | triton.repository(artifact, record.name)


def links_of(artifact: Artifact, record: RunRecord) -> dict[str, str]:
    """Symbolic links of the bundle: where a server looks for the model, and where it lies from there."""
    return triton.links(artifact, record.name) if artifact.kind in triton.BACKENDS else {}


def _gguf(folder: Path) -> str:
    return GGUF.format(model=next(path.name for path in sorted(folder.iterdir()) if path.suffix == ".gguf"))


SCRIPTS: dict[str, Callable[[Path], str]] = {"gguf": _gguf}
