"""The command line from outside: what it imports, prints and exits with."""

import os
import subprocess
import sys
from pathlib import Path

import click
import pytest
from commanding import Command, home, tapeout

from configs import RIGHT
from pipelines import cli
from pipelines.commands import validate
from pipelines.errors import Interrupted, ToolFailed
from stages.base import ROOT

__all__ = ["home", "tapeout"]
HEAVY = ("prefect", "mlflow", "numpy", "pydantic", "yaml", "rich", "torch")
HELP = f"""
import sys
sys.argv = ["tapeout", *sys.argv[1:]]
from pipelines.cli import main
try:
    main()
finally:
    print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)
"""
SUBCOMMANDS = [(name,) for name in cli.COMMANDS] + [
    ("artifacts", name) for name in ("ls", "show", "verify", "prune")
] + [("envs", name) for name in ("ls", "build", "rm", "check", "python")]  # fmt: skip


def outside(tmp_path: Path, *command: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "TAPEOUT_HOME": str(tmp_path / "home")}
    return subprocess.run([sys.executable, *command], cwd=ROOT, env=env, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("arguments", [("--help",), ("run", "--help"), ("--version",)])
def test_help_imports_nothing_heavy(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    made = outside(tmp_path, "-c", HELP, *arguments)

    assert made.returncode == 0
    assert made.stderr == "[]\n"


@pytest.mark.parametrize("command", SUBCOMMANDS, ids=" ".join)
def test_every_command_has_help(tapeout: Command, command: tuple[str, ...]) -> None:
    ended = tapeout(*command, "--help")

    assert ended.code == 0
    assert ended.out.startswith(f"Usage: tapeout {' '.join(command)} ")
    assert ended.err == ""


def test_help_lists_every_command_and_the_exit_codes(tapeout: Command) -> None:
    ended = tapeout("-h")

    assert [line.split()[0] for line in ended.out.partition("Commands:\n")[2].splitlines()] == list(cli.COMMANDS)
    assert "0 passed, 1 a budget was exceeded, 2 your mistake" in ended.out


def test_module_and_command_are_the_same(tmp_path: Path) -> None:
    made = outside(tmp_path, "-m", "pipelines.cli", "validate", "none.yaml")

    assert made.returncode == 2
    assert made.stdout == ""
    assert made.stderr == (
        "\nnone.yaml: cannot be read: No such file or directory\n\nhint: configs/ holds examples\n\n"
    )


def test_misspelt_command_is_told_the_nearest(tapeout: Command) -> None:
    ended = tapeout("rnu")

    assert ended.code == 2
    assert ended.err.endswith("Error: No such command 'rnu'. Did you mean 'run'?\n")


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("frobnicate",), "Error: No such command 'frobnicate'."),
        (("ls", "stage"), "'stage' is not one of 'stages', 'targets'"),
        (("ls",), "Error: Missing argument"),
        (("run",), "Error: Missing argument 'CONFIG'."),
        (("run", "a.yaml", "--quite"), "No such option"),
        (("artifacts", "prune", "--older-than", "soon"), "'soon' is not a valid float"),
    ],
)
def test_wrong_usage_is_the_users_mistake(tapeout: Command, arguments: tuple[str, ...], error: str) -> None:
    ended = tapeout(*arguments)

    assert ended.code == 2
    assert ended.out == ""
    assert error in ended.err


def test_mistakes_are_json_on_request(tapeout: Command, tmp_path: Path) -> None:
    config = tmp_path / "a.yaml"
    config.write_text(RIGHT + "seeds: 3\nthread: 2\n")

    ended = tapeout("validate", config, "--json")

    assert ended.code == 2
    assert ended.json == {
        "status": "error",
        "exit_code": 2,
        "mistakes": [
            f"{config}: no field `seeds`\n\nhint: did you mean `seed`?",
            f"{config}: no field `thread`\n\nhint: did you mean `threads`?",
        ],
        "hint": "",
    }
    assert "did you mean `seed`?" in ended.err


def raising(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    @click.command()
    def command() -> None:
        raise error

    monkeypatch.setattr(validate, "command", command)


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (ToolFailed("`gguf` crashed", "look at the log"), 3, "`gguf` crashed\n\nhint: look at the log\n\n"),
        (Interrupted("interrupted"), 130, "interrupted\n\n"),
        (KeyboardInterrupt(), 130, "interrupted\n\n"),
    ],
)
def test_every_end_has_its_exit_code(
    tapeout: Command, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, message: str
) -> None:
    raising(monkeypatch, error)

    ended = tapeout("validate")

    assert (ended.code, ended.err.lstrip()) == (code, message)


def test_bug_is_told_as_one_with_its_trace(tapeout: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    raising(monkeypatch, ZeroDivisionError("division by zero"))

    ended = tapeout("validate")

    assert ended.code == 3
    assert ended.err.startswith("Traceback")
    assert ended.err.endswith("\na bug in Tapeout: ZeroDivisionError: division by zero\n\nhint: please report it\n\n")


def test_closed_pipe_is_not_taken_for_an_exceeded_budget(tmp_path: Path) -> None:
    command = f"{sys.executable} -m pipelines.cli schema | true; exit ${{PIPESTATUS[0]}}"
    made = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, check=False)

    assert (made.returncode, made.stderr) in {(141, ""), (0, "")}  # 0: all was written before the pipe was closed
