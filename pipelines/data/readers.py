"""How documents and questions are found in a data file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipelines.errors import DataError
from pipelines.evaluation.questions import Question

INPUT_PREFIX, OUTPUT_PREFIX = "\nQ: ", "\nA: "  # BIG-bench's defaults for a task that sets none


def text(path: Path) -> tuple[str, ...]:
    """The whole file is one document: perplexity's windows are cut from running text, and blank lines belong to it."""
    return (_read(path),)


def jsonl(path: Path) -> tuple[str, ...]:
    """A JSON object a line, the document under "text"; blank lines are skipped."""
    documents = []
    for number, line in enumerate(_read(path).split("\n"), start=1):
        if line.strip():
            documents.append(_string(_parsed(line, f"{path}, line {number}"), "text", f"{path}, line {number}"))
    return tuple(documents)


def squad(path: Path) -> tuple[str, ...]:
    """SQuAD's layout: the contexts in file order, each once."""
    contexts = []
    for number, article in enumerate(_array(_parsed(_read(path), str(path)), "data", str(path)), start=1):
        where = f"{path}, article {number}"
        contexts += [_string(item, "context", where) for item in _array(article, "paragraphs", where)]
    return tuple(dict.fromkeys(contexts))


def squad_questions(path: Path) -> tuple[tuple[str, str], ...]:
    """SQuAD's layout: every question with the context that answers it, in file order, each pair once."""
    pairs: list[tuple[str, str]] = []
    for number, article in enumerate(_array(_parsed(_read(path), str(path)), "data", str(path)), start=1):
        where = f"{path}, article {number}"
        for item in _array(article, "paragraphs", where):
            asked = [_string(each, "question", where).strip() for each in item.get("qas", [])]
            pairs += [(question, _string(item, "context", where)) for question in asked]
    return tuple(dict.fromkeys(pairs))


def multiple_choice(path: Path) -> tuple[Question, ...]:
    """BIG-bench's layout: `examples`, each an `input` and `target_scores` with a score a choice.

    The prompt is `example_input_prefix`, the input and `example_output_prefix`; where the task sets none it is "Q: ",
    the input, and "A:" on a line of its own. Each choice follows with a leading space. The prompt does not list them.
    """
    task = _parsed(_read(path), str(path))
    examples = _array(task, "examples", str(path))
    before, after = task.get("example_input_prefix", INPUT_PREFIX), task.get("example_output_prefix", OUTPUT_PREFIX)
    prefix = str(task.get("task_prefix", ""))
    return tuple(
        _question(example, (f"{prefix}{before}", str(after)), f"{path}, example {number}")
        for number, example in enumerate(examples, start=1)
    )


DOCUMENTS: dict[str, Callable[[Path], tuple[str, ...]]] = {"text": text, "jsonl": jsonl, "squad": squad}


def _question(example: Any, around: tuple[str, str], where: str) -> Question:
    text = _string(example, "input", where)
    scores = example.get("target_scores")
    if not isinstance(scores, dict) or len(scores) < 2 or not all(isinstance(s, int | float) for s in scores.values()):
        raise DataError(f"{where}: no `target_scores` with a number for each of two choices or more", _layout())
    if not all(choice.strip() for choice in scores):
        raise DataError(f"{where}: an empty choice", "leave the question out")
    values = list(scores.values())
    best = [index for index, score in enumerate(values) if score == max(values)]
    if len(best) != 1:
        raise DataError(
            f"{where}: {len(best)} choices share the highest score", "leave questions with no one answer out"
        )
    # a tokenizer puts the space between words in front of the word: behind the prompt it would be a token of its own
    prompt = f"{around[0]}{text.strip()}{around[1]}".strip()
    return Question(prompt=prompt, choices=tuple(f" {choice.strip()}" for choice in scores), answer=best[0])


def _read(path: Path) -> str:
    try:
        content = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        place = f"byte {error.start} is {error.object[error.start]:#04x}"
        raise DataError(f"{path}: not UTF-8: {place}", f"convert it: iconv -f ENCODING -t UTF-8 {path}") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}", "check the path in the config") from error
    if not content.strip():
        raise DataError(f"{path}: the file holds no text", "check that it was written whole")
    return content


def _parsed(content: str, where: str) -> Any:
    try:
        return json.loads(content)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}" if "\n" in content else f"column {error.colno}"
        raise DataError(f"{where}: not JSON: {error.msg} at {place}", _layout()) from error
    except RecursionError as error:
        raise DataError(f"{where}: JSON nested too deeply", _layout()) from error


def _string(item: Any, key: str, where: str) -> str:
    if isinstance(item, dict) and isinstance(value := item.get(key), str) and value.strip():
        return value
    raise DataError(f"{where}: no text under `{key}`", _layout())


def _array(item: Any, key: str, where: str) -> list[Any]:
    if isinstance(item, dict) and isinstance(value := item.get(key), list) and value:
        return value
    raise DataError(f"{where}: no list under `{key}`", _layout())


def _layout() -> str:
    return "set `reader` to the file's layout: text, jsonl, squad or multiple-choice"
