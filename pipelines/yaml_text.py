"""The text of a config: YAML with unique keys, `key=value` overrides and `${env:VAR}` secrets."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import yaml

from pipelines.errors import ConfigErrors
from pipelines.mistakes import mistake
from pipelines.redaction import REFERENCE

_TEXT = {"tag:yaml.org,2002:str", "tag:yaml.org,2002:merge"}


class _UniqueKeys(yaml.SafeLoader):
    """A key given twice is a mistake: YAML would silently keep the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if key.tag not in _TEXT:
                raise yaml.MarkedYAMLError(problem="a key must be text", problem_mark=key.start_mark)
            if key.value in seen:
                raise yaml.MarkedYAMLError(problem=f"key `{key.value}` is given twice", problem_mark=key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def load(text: str, origin: str) -> dict[str, Any]:
    """The mapping that a config's text holds.

    Raises:
        ConfigErrors: not YAML, a key given twice, or no mapping.
    """
    try:
        tree = yaml.load(text, _UniqueKeys)  # a SafeLoader
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ConfigErrors([f"{origin}{line}: {error.problem}"]) from None
    except yaml.YAMLError as error:
        raise ConfigErrors([f"{origin}: not YAML: {str(error).splitlines()[0]}"]) from None
    except RecursionError:
        raise ConfigErrors([f"{origin}: nested too deeply"]) from None
    if not isinstance(tree, dict):
        what = "needs a mapping with `name`, `source`, `steps` and `data`"
        raise ConfigErrors([mistake(origin, "", what, "configs/ holds examples")])
    return tree


def override(tree: dict[str, Any], overrides: Sequence[str]) -> list[str]:
    """Apply `a.b=value` to the tree in place; the mistakes are returned.

    A step is named by its stage (`steps.quantize_gguf.type=q8_0`) or by its number, counted from 1.
    """
    mistakes = []
    for text in overrides:
        path, equals, value = text.partition("=")
        if not equals:
            mistakes.append(f"override `{text}`: needs the form key=value")
            continue
        try:
            _set(tree, path.split("."), yaml.load(value, _UniqueKeys))
        except KeyError as error:
            mistakes.append(f"override `{text}`: {error.args[0]}")
        except (yaml.YAMLError, RecursionError) as error:
            problem = error.problem if isinstance(error, yaml.MarkedYAMLError) else str(error)
            mistakes.append(f"override `{text}`: the value is not YAML: {problem}")
    return mistakes


def _set(node: Any, path: list[str], value: Any) -> None:
    if isinstance(node, list):
        position, rest = position_in(node, path)
        if not rest:
            node[position] = value
        else:
            _set(node[position], rest, value)
    elif not isinstance(node, dict):
        raise KeyError(f"`{path[0]}` is inside a plain value")
    elif len(path) == 1:
        node[path[0]] = value
    else:
        if node.get(path[0]) is None:
            node[path[0]] = {}
        _set(node[path[0]], path[1:], value)


def position_in(items: list[Any], path: list[str]) -> tuple[int, list[str]]:
    """Position of the item that the path begins with, by name or number from 1, and the rest of the path.

    Raises:
        KeyError: there is none, or there are several.
    """
    head, rest = path[0], path[1:]
    if head.isdigit() and 1 <= int(head) <= len(items):
        position = int(head) - 1
        if rest and items[position] == rest[0]:
            items[position] = {rest[0]: {}}
        return position, rest
    found = [position for position, item in enumerate(items) if head in names_of(item)]
    if not found:
        there = ", ".join(f"`{name}`" for item in items for name in names_of(item)[:1])
        raise KeyError(f"no item `{head}`, only {there}")
    if len(found) > 1:
        raise KeyError(f"{len(found)} items are called `{head}`: give the number of the one, counted from 1")
    if items[found[0]] == head:
        items[found[0]] = {head: {}}
    return found[0], rest if "metric" in items[found[0]] else path


def names_of(item: Any) -> list[str]:
    """What an item of a list may be called: a budget by its metric, a step by its stage."""
    if isinstance(item, dict):
        return [str(item["metric"])] if "metric" in item else [str(key) for key in item]
    return [str(item)]


def fill_secrets(node: Any, missing: list[str]) -> Any:
    """A copy of the tree with `${env:VAR}` replaced; unset variables stay and are added to `missing`."""
    if isinstance(node, dict):
        return {key: fill_secrets(value, missing) for key, value in node.items()}
    if isinstance(node, list):
        return [fill_secrets(value, missing) for value in node]
    if isinstance(node, str):
        return REFERENCE.sub(lambda match: _variable(match[1], missing), node)
    return node


def _variable(name: str, missing: list[str]) -> str:
    if name not in os.environ and name not in missing:
        missing.append(name)
    return os.environ.get(name, f"${{env:{name}}}")
