"""`python -m pipelines.building.pinning NAME`: writes envs/NAME.txt, every version pinned, from envs/NAME.in.

The newest versions that fit are installed into a scratch folder and written down. `# on top of: tapeout` in the .in
file says that those pins hold too and are left out of this file.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from pipelines.building import lockfile
from pipelines.building.installing import pip_environment
from stages.base import ROOT

BASE = "# on top of: "


def pin(name: str, folder: Path) -> list[str]:
    """The lines of the pinned file."""
    asked = (folder / f"{name}.in").read_text(encoding="utf-8").splitlines()
    header = [line for line in asked if line.startswith("#")]
    bases = [folder / f"{line.removeprefix(BASE)}.txt" for line in header if line.startswith(BASE)]
    hashed = [line for line in asked if "--hash=" in line and not line.startswith("#")]
    plain = [line for line in asked if line not in hashed and line not in header]
    frozen = _resolve(plain, bases)
    taken = {package for base in bases for package in lockfile.read(base).pins}
    pins = [line.partition("+")[0] for line in frozen if lockfile.canonical(line.partition("==")[0]) not in taken]
    return header + sorted([*pins, *hashed], key=str.lower)


def _resolve(requirements: Iterable[str], bases: list[Path]) -> list[str]:
    with tempfile.TemporaryDirectory(prefix="tapeout-lock-") as scratch:
        asked = Path(scratch, "asked.in")
        asked.write_text("\n".join(requirements) + "\n", encoding="utf-8")
        environment = Path(scratch, "venv")
        # without pip and setuptools in it, setuptools is written down where something asks for it, and only there
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True)
        pip = [sys.executable, "-m", "pip", "--python", str(environment / "bin" / "python")]
        files = [argument for path in [*bases, asked] for argument in ("-r", str(path))]
        subprocess.run([*pip, "install", "--no-compile", *files], check=True, env=pip_environment(None))
        frozen = subprocess.run([*pip, "freeze", "--all"], check=True, stdout=subprocess.PIPE, text=True)
        return frozen.stdout.splitlines()


if __name__ == "__main__":
    environment_name = sys.argv[1]
    envs = ROOT / "envs"
    (envs / f"{environment_name}.txt").write_text("\n".join(pin(environment_name, envs)) + "\n", encoding="utf-8")
