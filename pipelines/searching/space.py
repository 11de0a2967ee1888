"""The points of a space, and the config of each."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from itertools import islice, product
from math import prod
from typing import Any

from pydantic import JsonValue

from pipelines import plan, yaml_text
from pipelines.config import LoadedConfig
from pipelines.errors import ConfigErrors
from pipelines.mistakes import did_you_mean, mistake
from pipelines.parsing import from_tree
from pipelines.searching.settings import Search
from stages.base import load, names

Point = dict[str, JsonValue]
"""A value for each path of the space."""
ENUMERATED = 1000
"""Points of a space that is looked through whole; of a larger one as many are drawn."""


@dataclass(frozen=True)
class Space:
    """The space around a config."""

    loaded: LoadedConfig
    settings: Search

    @property
    def size(self) -> int:
        """How many points, those that are left out or are no right config included."""
        return prod(len(values) for values in self.settings.space.values())

    @cached_property
    def tree(self) -> dict[str, Any]:
        """The config's own tree, without the space."""
        tree = yaml_text.load(self.loaded.text, str(self.loaded.path))
        tree.pop("search", None)
        return tree

    def points(self) -> Iterator[Point]:
        """Every point of a space of at most a thousand, else that many drawn by the seed; each once."""
        paths = list(self.settings.space)
        if self.size <= ENUMERATED:
            for values in product(*self.settings.space.values()):
                yield dict(zip(paths, values, strict=True))
            return
        draw, seen = random.Random(self.settings.seed), set[str]()
        drawn = ({path: draw.choice(values) for path, values in self.settings.space.items()} for _ in iter(int, 1))
        for point in islice(drawn, 2 * ENUMERATED):
            if (key := self.key(point)) not in seen and len(seen) < ENUMERATED:
                seen.add(key)
                yield point

    def excluded(self, point: Point) -> bool:
        """Whether one of the exclusions holds of it."""
        return any(
            all(point.get(path) == value or (isinstance(value, list) and point.get(path) in value)
                for path, value in one.items())
            for one in self.settings.exclude
        )  # fmt: skip

    def config(self, point: Point) -> LoadedConfig:
        """The point's config.

        Raises:
            ConfigErrors: it is none, or cannot be carried out.
        """
        tree = applied(self.tree, point)
        loaded = from_tree(tree, self.loaded.path, f"# {self.loaded.path.name} at {self.label(point)}\n")
        plan.check(loaded)
        return loaded

    def key(self, point: Point) -> str:
        """What makes it the same config as another: the steps that it comes to."""
        return json.dumps(applied(self.tree, point)["steps"], sort_keys=True)

    def label(self, point: Point) -> str:
        """The point in a few words: `q4_k_m, collect_imatrix`; a step that is left out with a minus before it."""
        return ", ".join(_told(path, value) for path, value in point.items() if len(self.settings.space[path]) > 1) or (
            "the config itself"
        )


def _told(path: str, value: JsonValue) -> str:
    *_, name = path.split(".")
    if isinstance(value, bool) and _whole_step(path):
        return name if value else f"-{name}"
    if isinstance(value, list):
        return " + ".join(_told(path, item) for item in value)
    if isinstance(value, dict):
        return " ".join(_told(key, item) if not isinstance(item, dict) else _step(key, item)
                        for key, item in value.items())  # fmt: skip
    return value if isinstance(value, str) else f"{name} {json.dumps(value)}"


def _step(name: str, fields: Mapping[str, JsonValue]) -> str:
    return f"{name}({', '.join(str(value) for value in fields.values())})"


def _whole_step(path: str) -> bool:
    return path.count(".") == 1


def applied(tree: dict[str, Any], point: Mapping[str, JsonValue]) -> dict[str, Any]:
    """A copy of the config's tree with the point's values; a field of a step that is not there is left alone."""
    tree, groups = deepcopy(tree), [[item] for item in tree["steps"]]
    for path, value in point.items():
        if _whole_step(path):
            position, _ = yaml_text.position_in(tree["steps"], [path.partition(".")[2]])
            groups[position] = _replaced(groups[position], value)
    tree["steps"] = deepcopy([item for group in groups for item in group])
    there = {name for item in tree["steps"] for name in yaml_text.names_of(item)}
    for path, value in point.items():
        step = path.split(".")[1]
        found = []
        if not _whole_step(path) and (step in there or step.isdigit()):
            found = yaml_text.override(tree, [f"{path}={json.dumps(value)}"])
        if found:
            raise ConfigErrors(found)
    return tree


def _replaced(group: list[Any], value: JsonValue) -> list[Any]:
    if value is True:
        return group
    if value is False or value is None:
        return []
    return value if isinstance(value, list) else [value]


def checked(space: Space) -> list[Point]:
    """The points that are right configs, those that are left out not among them.

    Raises:
        ConfigErrors: a path that is none, a value that is wrong wherever it stands, or no point that is right.
    """
    origin = str(space.loaded.path)
    if found := list(_paths(space, origin)):
        raise ConfigErrors(found)
    right: dict[str, Point] = {}
    wrong: dict[tuple[str, str], str] = {}
    for point in space.points():
        if space.excluded(point):
            continue
        try:
            space.config(point)
        except ConfigErrors as error:
            for item in _values(point):
                wrong.setdefault(item, error.mistakes[0])
        else:
            right.setdefault(space.key(point), point)
    if not right:
        raise ConfigErrors(_none(space, origin, wrong))
    good = {item for point in space.points() for item in _values(point) if space.key(point) in right}
    never = {why: item for item, why in wrong.items() if item not in good and space.size <= ENUMERATED}
    if never:
        raise ConfigErrors([
            mistake(origin, f"`search` `space` `{path}`", f"{value} is right at no point:\n{why}")
            for why, (path, value) in never.items()
        ])  # fmt: skip
    return list(right.values())


def _values(point: Point) -> list[tuple[str, str]]:
    return [(path, json.dumps(value)) for path, value in point.items()]


def _none(space: Space, origin: str, wrong: Mapping[tuple[str, str], str]) -> list[str]:
    if not wrong:
        return [mistake(origin, "`search` `exclude`", "leaves out every point: the space is empty")]
    said = mistake(origin, "`search`", f"none of its {space.size} points is a config that can run; the first mistakes:")
    return [said, *dict.fromkeys(wrong.values())][:4]


def _paths(space: Space, origin: str) -> Iterator[str]:
    """What is wrong with the paths, of the space and of its exclusions."""
    known = _known_steps(space)
    for path in space.settings.space:
        yield from _path(path, known, origin, space.tree["steps"])
    for path in sorted({path for one in space.settings.exclude for path in one} - set(space.settings.space)):
        hint = did_you_mean(path, space.settings.space)
        yield mistake(origin, f"`search` `exclude` `{path}`", "is no path of the space", hint)


def _path(path: str, known: set[str], origin: str, steps: list[Any]) -> Iterator[str]:
    place, (first, *rest) = f"`search` `space` `{path}`", path.split(".")
    own = {name for item in steps for name in yaml_text.names_of(item)}
    if first != "steps" or not rest:
        yield mistake(origin, place, "only steps can vary: what is measured has to stay comparable",
                      "steps.quantize_gguf.type, or a whole step as steps.collect_imatrix")  # fmt: skip
        return
    if rest[0].isdigit():
        if not 1 <= int(rest[0]) <= len(steps):
            yield mistake(origin, place, f"there is no step {rest[0]}, only 1 to {len(steps)}")
        return
    if rest[0] not in known:
        yield mistake(origin, place, f"no step `{rest[0]}`", did_you_mean(rest[0], known))
    elif len(rest) == 1 and rest[0] not in own:
        yield mistake(origin, place, "is no step of the config itself, so that none can stand in its place",
                      did_you_mean(rest[0], own))  # fmt: skip
    elif len(rest) > 1 and rest[0] in names():
        fields = load(rest[0]).model_fields
        if rest[1] not in fields:
            yield mistake(origin, place, f"no field `{rest[1]}`", did_you_mean(rest[1], fields))


def _known_steps(space: Space) -> set[str]:
    """Stages of the config, and of what may stand in their places."""
    offered = [value for path, values in space.settings.space.items() if _whole_step(path) for value in values]
    items = [*space.tree["steps"], *offered]
    flat = [one for item in items for one in (item if isinstance(item, list) else [item])]
    return {name for item in flat if not isinstance(item, bool | None) for name in yaml_text.names_of(item)}
