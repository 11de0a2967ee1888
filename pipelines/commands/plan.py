"""`tapeout plan`: which lever, in what order, and when to stop."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from pipelines.planner.answer import Plan
    from pipelines.planner.planning import Question

Written = TypeVar("Written")


class Share(click.ParamType):  # type: ignore[type-arg]  # generic in its stubs alone
    """`5%` or `0.05`."""

    name = "share"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The share as a number."""
        text = str(value)
        try:
            return float(text[:-1]) / 100 if text.endswith("%") else float(text)
        except ValueError:
            self.fail(f"{text!r} is no share: write 5% or 0.05", param, ctx)


@click.command("plan")
@click.argument("model", required=False)
@click.option("--hardware", default="detect", show_default=True, help="Catalogue name, `detect`, or your own YAML.")
@click.option("--count", type=click.IntRange(1), default=1, show_default=True, help="Devices.")
@click.option("--prompt", type=int, default=512, show_default=True, help="Tokens of a prompt.")
@click.option("--output", type=int, default=256, show_default=True, help="Tokens of an answer.")
@click.option("--shared", type=int, default=0, show_default=True, help="Of the prompt, tokens that all share.")
@click.option("--rate", type=float, help="Requests a second; 1 unless --users or --documents is given.")
@click.option("--users", type=int, help="Concurrent streams.")
@click.option("--documents", type=int, help="Requests to be done in --hours; with --objective batch.")
@click.option("--ttft", type=float, default=500, show_default=True, help="p95, ms; of a CNN, its latency.")
@click.option("--tbt", type=float, default=50, show_default=True, help="p95, ms.")
@click.option("--objective", type=click.Choice(["slo", "cost", "batch"]), help="By default slo; batch for documents.")
@click.option("--hours", type=float, default=24, show_default=True, help="Deadline of a batch.")
@click.option("--perplexity", type=Share(), default="5%", show_default=True, help="Rise allowed.")
@click.option("--task", type=float, default=1.0, show_default=True, help="Points of accuracy allowed to be lost.")
@click.option("--max-cost", type=float, help="Ceiling, $ for 10^6 output tokens.")
@click.option("--price", type=click.FloatRange(0), help="$ an hour and device, in place of the catalogue's assumption.")
@click.option("--adapters", type=int, default=0, help="LoRA adapters in all.")
@click.option("--active-adapters", type=int, default=0, help="Adapters in use at once.")
@click.option("--rank", type=int, default=16, show_default=True, help="Of the adapters.")
@click.option("--memory-share", type=Share(), default="90%", show_default=True, help="Of a GPU's memory.")
@click.option("--reserve-gb", type=float, default=2.0, show_default=True, help="Of a GPU, neither weights nor cache.")
@click.option("--load", type=Share(), default="80%", show_default=True, help="Of the capacity, at most.")
@click.option("--acceptance", type=float, help="Of a draft model's tokens, measured.")
@click.option("--verify-cost", type=float, default=1.0, show_default=True, help="Of a verification, decode steps.")
@click.option("--frozen", is_flag=True, help="The model does not change any more.")
@click.option("--json", "as_json", is_flag=True, help="Print plan.json.")
@click.option("--all", "whole", is_flag=True, help="List every rejected option.")
@click.option("--write", "config", type=click.Path(path_type=Path), help="Write the pipeline config.")
@click.option("--serving", type=click.Path(path_type=Path), help="Write the engines' settings into this folder.")
@click.option("--explain", metavar="LEVER", help="One lever: what it brings, and what became of it here.")
@click.option("--sweep", metavar="INPUT=FROM:TO[:N][,...]", help="Where the plan changes.")
@click.option("--plot", type=click.Path(path_type=Path), default=Path("sweep.png"), help="Picture of the sweep.")
@click.option("--calibrate", is_flag=True, help="Fit the efficiencies to the runs that were measured here.")
@click.option("--audit", is_flag=True, help="Print how far predictions were off.")
def command(model: str | None, **given: Any) -> None:
    """Plan for MODEL: a Hugging Face folder or id, a GGUF or ONNX file, a known name, or L=32,d=4096,...

    Prints the levers in their order with the reason for each, what was rejected and by which inequality, predictions
    with their bands, and why to stop.
    """
    if given["calibrate"] or given["audit"]:
        _from_runs(given)
        return
    if model is None:
        if given["explain"]:
            from pipelines.planner.showing import explain

            click.echo(explain(given["explain"], None))
            return
        raise click.UsageError("Missing argument 'MODEL'.")
    question = _question(model, given)
    if given["sweep"]:
        _sweep(question, given)
        return
    _answer(model, question, given)


def _question(model: str, given: dict[str, Any]) -> Question:
    from pydantic import ValidationError

    from pipelines.errors import UserError
    from pipelines.home import home
    from pipelines.mistakes import from_pydantic
    from pipelines.planner import hardware, reading
    from pipelines.planner.planning import Question
    from pipelines.planner.workload import Goals, Limits, Workload

    objective = given["objective"] or ("batch" if given["documents"] else "slo")
    if given["documents"] and objective != "batch":
        raise UserError(f"--documents with --objective {objective}", "documents are done by a deadline: leave it out")
    parts: dict[str, Any] = {
        "work": (Workload, {key: given[key] for key in ("prompt", "output", "shared", "rate", "users", "documents",
                                                        "adapters", "active_adapters", "rank")}),
        "goals": (Goals, {"ttft_ms": given["ttft"], "tbt_ms": given["tbt"], "objective": objective,
                          "hours": given["hours"], "perplexity": given["perplexity"], "task": given["task"],
                          "dollars_per_million": given["max_cost"]}),
        "limits": (Limits, {"memory_share": given["memory_share"], "reserve_bytes": given["reserve_gb"] * 1e9,
                            "load": given["load"], "acceptance": given["acceptance"],
                            "verify_cost": given["verify_cost"], "frozen": given["frozen"]}),
    }  # fmt: skip
    built, mistakes = {}, []
    for name, (kind, fields) in parts.items():
        try:
            built[name] = kind(**fields)
        except ValidationError as error:
            mistakes += from_pydantic("tapeout plan", "", kind, error.errors())
    if mistakes:
        raise UserError("\n\n".join(mistakes))
    machine = hardware.find(given["hardware"], given["price"], home() / "planner")
    return Question(model=reading.read(model), hardware=machine, count=given["count"], **built)


def _answer(model: str, question: Question, given: dict[str, Any]) -> None:
    from pipelines.home import home
    from pipelines.planner.calibrations import load
    from pipelines.planner.planning import answer

    plan = answer(question, load(home() / "planner"))
    if given["as_json"]:
        click.echo(plan.model_dump_json(indent=1))
    elif given["explain"]:
        from pipelines.planner.showing import explain

        click.echo(explain(given["explain"], plan))
    else:
        from pipelines.planner.showing import show
        from pipelines.reporting.output import standard_output

        show(plan, standard_output(), given["whole"])
    _write(plan, model, given)


def _write(plan: Plan, model: str, given: dict[str, Any]) -> None:
    said = []
    if given["config"]:
        from pipelines.planner import config_file

        said.append(written(given["config"], lambda: config_file.write(plan, model, given["config"])))
    if given["serving"]:
        from pipelines.planner import engine_files

        said += written(given["serving"], lambda: engine_files.write(plan, model, given["serving"]))
    for path in said:
        click.echo(f"wrote {path}", err=True)


def written(path: Path, write: Callable[[], Written]) -> Written:
    """What `write` returns, once the folder is there.

    Raises:
        UserError: the path cannot be written.
    """
    from pipelines.errors import UserError

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return write()
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror}") from error


def _sweep(question: Question, given: dict[str, Any]) -> None:
    from pipelines.home import home
    from pipelines.planner import sweep
    from pipelines.planner.calibrations import load
    from pipelines.reporting.output import standard_output

    over = sweep.axes(given["sweep"])
    sweep.check(question, over)
    cells = sweep.sweep(question, over, load(home() / "planner"))
    if given["as_json"]:
        click.echo("[" + ",\n".join(cell.model_dump_json() for cell in cells) + "]")
    else:
        standard_output().print(sweep.table(over, cells))
    title = f"{question.model.name} on {question.count} x {question.hardware.name}"
    written(given["plot"], lambda: given["plot"].write_bytes(sweep.picture(over, cells, title)))
    click.echo(f"wrote {given['plot']}", err=True)


def _from_runs(given: dict[str, Any]) -> None:
    import json

    from pipelines.errors import UserError
    from pipelines.home import home
    from pipelines.planner import audit, calibrations, fitting
    from pipelines.planner.audit_table import audit_table
    from pipelines.reporting.output import standard_output

    seen = audit.sightings_in(home() / "runs")
    if not seen:
        hint = "`tapeout run` a config with `evaluation.speed` first: every run is a test of the predictions"
        raise UserError(f"no run in {home() / 'runs'} was predicted", hint)
    if given["calibrate"]:
        fitted_to, held_out = fitting.split(seen)
        found = fitting.fit(fitted_to)
        rows = audit.with_calibrations(held_out or fitted_to, found)
        calibrations.save(home() / "planner", fitting.fit(seen).model_copy(update={"margins": audit.margins(rows)}))
        title = f"fitted to {len(fitted_to)} runs, judged on {len(held_out) or 'the same'}"
    else:
        rows, title = audit.as_logged(seen), f"{len(seen)} runs, as predicted at the time"
        known = calibrations.load(home() / "planner")
        if not known.fitted:  # afterwards the fit's own held-out runs say how far to trust it
            calibrations.save(home() / "planner", known.model_copy(update={"margins": audit.margins(rows)}))
    if given["as_json"]:
        click.echo(json.dumps([{**row.model_dump(), "untrusted": row.untrusted} for row in rows], indent=1))
        return
    standard_output().print(audit_table(rows, title))
