"""What every serve.sh begins with: where it is, which port, and where Tapeout is, if it is here at all."""

from __future__ import annotations

HEAD = """#!/bin/sh
# Serves {model} with {engine}: an OpenAI-compatible API, http://127.0.0.1:8080/v1.
{usage}
set -eu

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
name=$(basename -- "$here")
port=${{PORT:-8080}}
"""

FIND_TAPEOUT = """
find_tapeout() {
    if [ -n "${TAPEOUT:-}" ]; then
        printf '%s\\n' "$TAPEOUT"
    elif command -v tapeout >/dev/null 2>&1; then
        command -v tapeout
    elif [ -x "$here/../../.venv/bin/tapeout" ]; then
        printf '%s\\n' "$here/../../.venv/bin/tapeout"
    fi
}
tapeout=$(find_tapeout)
"""


def script(model: str, engine: str, usage: list[str], *parts: str) -> str:
    """A POSIX shell script; `usage` are the lines of comment that follow its first."""
    head = HEAD.format(model=model, engine=engine, usage="\n".join(f"# {line}" for line in usage))
    return head + "\n".join(part.strip("\n") + "\n" for part in parts)


def in_environment(name: str, command: str) -> str:
    """Run a command with the interpreter of Tapeout's own environment, where Tapeout is; "$python" in it."""
    return f"""
if [ -n "$tapeout" ]; then
    python=$("$tapeout" envs python {name})
    exec {command}
fi
"""


def where_there_is(program: str, command: str) -> str:
    """Run a command where the program is on the path."""
    return f"""
if command -v {program} >/dev/null 2>&1; then
    exec {command}
fi
"""


def neither(what: str, hint: str) -> str:
    """The end: nothing of that is here."""
    return f"""
echo "serve.sh: {what}" >&2
echo "hint: {hint}" >&2
exit 3
"""
