"""What bundles carry to be served without Tapeout: the programs of `bundled/`, and which packages they need."""

from __future__ import annotations

from pathlib import Path

from pipelines.records import RunRecord

BUNDLED = Path(__file__).with_name("bundled")
PACKAGE = "pipelines.llm_servers.bundled."


def program(name: str) -> dict[str, str]:
    """serve.py and the server that it imports, by their path in the bundle."""
    return {"serve.py": _text(name), "openai_server.py": _text("openai_server")}


def _text(name: str) -> str:
    return (BUNDLED / f"{name}.py").read_text(encoding="utf-8").replace(f"from {PACKAGE}", "from ")


def requirements(record: RunRecord, names: tuple[str, ...]) -> str:
    """Lines of a requirements.txt, at the versions that made the model."""
    versions = record.stages[-1].tool_versions
    return "".join(f"{name}=={versions[name]}\n" if name in versions else f"{name}\n" for name in names)
