"""A model that repeats its prompt, and a folder whose serve.sh serves it with the server that bundles carry."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from pipelines.llm_servers.bundled.openai_server import Bad, Settings, Usage, main

LONGEST = 64
SERVE = f"""#!/bin/sh
exec "{sys.executable}" "{__file__}" --port "$PORT" --name parrot
"""


class Parrot:
    """A token a character."""

    def chat_prompt(self, messages: list[dict[str, str]]) -> str:
        return "|".join(f"{message['role']}:{message['content']}" for message in messages)

    def generate(self, prompt: str, settings: Settings, emit: Callable[[str], bool]) -> Usage:
        most = settings.max_tokens or LONGEST - len(prompt)
        if len(prompt) + most > LONGEST:
            raise Bad(f"{len(prompt)} and {most} tokens do not fit into {LONGEST}")
        made = 0
        for piece in prompt[:most]:
            made += 1
            if not emit(piece):
                break
        return Usage(len(prompt), made, made >= most)


def bundle(folder: Path, script: str = SERVE) -> Path:
    """A folder with that script as its serve.sh."""
    folder.mkdir()
    (folder / "serve.sh").write_text(script)
    (folder / "serve.sh").chmod(0o755)
    return folder


if __name__ == "__main__":
    main(Path(__file__).parent, lambda *_: Parrot())
