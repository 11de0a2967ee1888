"""The text of a config: YAML with unique keys, `key=value` overrides and `${env:VAR}` secrets."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import Any

import yaml

from pipelines.errors import ConfigErrors

_SECRET = re.compile(r"\$\{env:([A-Za-z_][A-Za-z0-9_]*)\}")


class _UniqueKeys(yaml.SafeLoader):
    """A key given twice is a mistake: YAML would silently keep the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
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
        raise ConfigErrors([f"{origin}: not YAML: {error}"]) from None
    if not isinstance(tree, dict):
        raise ConfigErrors([f"{origin}: a config is a mapping with `name`, `source`, `steps` and `data`"])
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
            _set(tree, path.split("."), yaml.safe_load(value))
        except (KeyError, yaml.YAMLError) as error:
            mistakes.append(f"override `{text}`: {error.args[0] if error.args else error}")
    return mistakes


def _set(node: Any, path: list[str], value: Any) -> None:
    if isinstance(node, list):
        position, rest = _item(node, path)
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


def _item(items: list[Any], path: list[str]) -> tuple[int, list[str]]:
    head = path[0]
    if head.isdigit() and 1 <= int(head) <= len(items):
        return int(head) - 1, path[1:]
    for position, item in enumerate(items):
        if item == head:
            items[position] = {head: {}}
        if isinstance(items[position], dict) and head in items[position]:
            return position, path
        if isinstance(item, dict) and item.get("metric") == head:
            return position, path[1:]
    raise KeyError(f"no item `{head}`")


def fill_secrets(node: Any, missing: list[str]) -> Any:
    """A copy of the tree with `${env:VAR}` replaced; names of unset variables are added to `missing`."""
    if isinstance(node, dict):
        return {key: fill_secrets(value, missing) for key, value in node.items()}
    if isinstance(node, list):
        return [fill_secrets(value, missing) for value in node]
    if isinstance(node, str):
        return _SECRET.sub(lambda match: _variable(match[1], missing), node)
    return node


def _variable(name: str, missing: list[str]) -> str:
    if name not in os.environ:
        missing.append(name)
    return os.environ.get(name, "")
