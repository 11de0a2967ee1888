"""The `tapeout` command: finds the subcommand, and turns every error into a message and an exit code."""

from __future__ import annotations

import gc
import importlib
import json
import os
import signal
import sys
from difflib import get_close_matches
from types import FrameType

import click

from pipelines.errors import ConfigErrors, Interrupted, TapeoutError

BROKEN_PIPE = 128 + signal.SIGPIPE
COMMANDS = (
    "plan",
    "run",
    "compare",
    "search",
    "validate",
    "ls",
    "show",
    "envs",
    "artifacts",
    "verify",
    "rollback",
    "up",
    "deploy",
    "deployments",
    "watch",
    "doctor",
    "schema",
)
HIDDEN = {"flow-run": "flow_run"}  # what people do not type: file names by command


class Commands(click.Group):
    """Subcommands by file name, imported when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order in which a newcomer meets them."""
        del ctx
        return list(COMMANDS)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command, or a mistake with the nearest name."""
        near = get_close_matches(args[0], COMMANDS, n=1)
        if near and args[0] not in (*COMMANDS, *HIDDEN):
            ctx.fail(f"No such command {args[0]!r}. Did you mean {near[0]!r}?")
        return super().resolve_command(ctx, args)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name."""
        del ctx
        if cmd_name not in COMMANDS and cmd_name not in HIDDEN:
            return None
        file = HIDDEN.get(cmd_name, cmd_name)
        command: click.Command = importlib.import_module(f"pipelines.commands.{file}").command
        return command


@click.command(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="tapeout")
def cli() -> None:
    """A model in, a measured and gated deployable artifact out.

    Exit codes: 0 passed, 1 a budget was exceeded, 2 your mistake, 3 a tool or Tapeout failed, 130 interrupted.
    """


def main() -> None:
    """Entry point of the console script."""
    signal.signal(signal.SIGTERM, _interrupt)
    # in search of plugins pydantic would read every installed package's metadata: a tenth of a short command's time
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    gc.set_threshold(100_000)  # imports make next to no garbage, and looking for it takes another twentieth
    code = _run()
    gc.freeze()  # else the interpreter looks through all of Prefect for garbage before it ends: 0.4 s
    sys.exit(code)


def _run() -> int:
    try:
        cli(prog_name="tapeout", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return 2
    except (click.Abort, KeyboardInterrupt):
        return _report(Interrupted("interrupted"))
    except TapeoutError as error:
        return _report(error)
    except SystemExit:  # click's answer to `| head`: its exit code 1 would say that a budget was exceeded
        return BROKEN_PIPE
    except Exception as error:
        import traceback

        traceback.print_exc()
        return _report(TapeoutError(f"a bug in Tapeout: {type(error).__name__}: {error}", "please report it"))
    return 0


def _report(error: TapeoutError) -> int:
    if "--json" in sys.argv and not getattr(error, "in_record", False):
        mistakes = error.mistakes if isinstance(error, ConfigErrors) else [error.message]
        click.echo(
            json.dumps({"status": "error", "exit_code": error.exit_code, "mistakes": mistakes, "hint": error.hint})
        )
    click.echo(f"\n{error}\n", err=True)
    return error.exit_code


def _interrupt(number: int, frame: FrameType | None) -> None:
    """SIGTERM ends a run the way ^C does: workers gone, store clean."""
    del number, frame
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
