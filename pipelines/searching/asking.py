"""What a search is asked for: by the config's `search:` section, a file of its own, and the command line."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from pipelines import yaml_text
from pipelines.checking.metrics import measured_metrics
from pipelines.config import PipelineConfig
from pipelines.errors import ConfigErrors
from pipelines.mistakes import from_pydantic, mistake
from pipelines.parsing import parse
from pipelines.searching.settings import Search
from pipelines.searching.space import Space


@dataclass(frozen=True)
class Asked:
    """What the command line decides: a space of its own, and what stands in place of the section's fields."""

    space: Path | None = None
    trials: int | None = None
    minutes: float | None = None
    seed: int | None = None
    afresh: bool = False


def space_of(config: Path, overrides: tuple[str, ...], asked: Asked) -> Space:
    """The config's space.

    Raises:
        ConfigErrors: what is wrong with the config, or with its `search:` section; or there is none.
    """
    loaded = parse(config, overrides)
    if asked.space is not None:
        settings, text = _from_file(asked.space), asked.space.read_text(encoding="utf-8")
        loaded = replace(loaded, text=f"{loaded.text}\nsearch:\n" + "".join(f"  {line}\n" for line in text.splitlines())
                         if loaded.config.search is None else loaded.text)  # fmt: skip
    elif loaded.config.search is not None:
        settings = loaded.config.search
    else:
        hint = "search: {space: {steps.quantize_gguf.type: [q6_k, q5_k_m, q4_k_m]}}, or --space FILE"
        raise ConfigErrors([mistake(str(config), "`search`", "is missing: there is no space to search", hint)])
    given = {"trials": asked.trials, "minutes": asked.minutes, "seed": asked.seed}
    settings = settings.model_copy(update={name: value for name, value in given.items() if value is not None})
    return Space(loaded, settings)


def _from_file(path: Path) -> Search:
    from pydantic import ValidationError

    try:
        tree = yaml_text.load(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigErrors([mistake(str(path), "", f"cannot be read: {error}")]) from None
    try:
        return Search.model_validate(tree.get("search", tree))
    except ValidationError as error:
        raise ConfigErrors(from_pydantic(str(path), "", Search, error.errors())) from None


def objectives_of(config: PipelineConfig, settings: Search) -> tuple[str, ...]:
    """The section's, or size, quality and speed as far as they are measured.

    Raises:
        ConfigErrors: one of them is not measured by this config.
    """
    measured, evaluation = measured_metrics(config), config.evaluation
    if not settings.objectives:
        quality = "cosine_agreement" if evaluation.embeddings else "accuracy_top1"
        usual = ["size_bytes", "perplexity" if evaluation.perplexity else quality]
        usual += ["tbt_p50_ms"] if evaluation.speed else ["latency_p50_ms"] if evaluation.latency else []
        return tuple(name for name in usual if name in measured)
    missing = [name for name in settings.objectives if name not in measured]
    if missing:
        known = f"this config measures {', '.join(sorted(measured))}"
        raise ConfigErrors([mistake("`search` `objectives`", "", f"`{name}` is not measured", known)
                            for name in missing])  # fmt: skip
    return settings.objectives
