import json
from pathlib import Path

import pytest

from pipelines.data.readers import Question, jsonl, multiple_choice, squad, text
from pipelines.errors import DataError

LAYOUT = "set `reader` to the file's layout: text, jsonl, squad or multiple-choice"


def file(tmp_path: Path, content: str | bytes | dict) -> Path:
    path = tmp_path / "data"
    if isinstance(content, dict):
        content = json.dumps(content)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def task(*examples: object, **settings: str) -> dict:
    return {"examples": list(examples), **settings}


def test_a_text_file_is_one_document_without_its_byte_order_mark(tmp_path: Path) -> None:
    assert text(file(tmp_path, "\ufeffone\n\ntwo\n")) == ("one\n\ntwo\n",)


def test_jsonl_gives_a_document_a_line(tmp_path: Path) -> None:
    content = '{"text": "one\\u2028still one"}\n\n{"text": "two", "id": 7}\n'
    assert jsonl(file(tmp_path, content)) == ("one\u2028still one", "two")


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ('{"text": "a"}\n{"text": }', "line 2: not JSON: Expecting value at column 10"),
        ('{"text": "a"}\n{"body": "b"}', "line 2: no text under `text`"),
        ('{"text": "a"}\n["b"]', "line 2: no text under `text`"),
        ('{"text": 7}', "line 1: no text under `text`"),
        ('{"text": "  "}', "line 1: no text under `text`"),
    ],
)
def test_jsonl_names_the_line_of_a_mistake(tmp_path: Path, content: str | dict[str, object], what: str) -> None:
    path = file(tmp_path, content)
    with pytest.raises(DataError) as caught:
        jsonl(path)
    assert str(caught.value) == f"{path}, {what}\n\nhint: {LAYOUT}"


def test_squad_gives_contexts_once_in_file_order(tmp_path: Path) -> None:
    articles = [{"paragraphs": [{"context": name} for name in names]} for names in ("ba", "bc")]
    assert squad(file(tmp_path, {"data": articles})) == ("b", "a", "c")


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ({}, ": no list under `data`"),
        ({"data": [{"paragraphs": [{"context": "a"}]}, {}]}, ", article 2: no list under `paragraphs`"),
        ({"data": [{"paragraphs": [{"text": "a"}]}]}, ", article 1: no text under `context`"),
        ('{"data": [\n  {]', ": not JSON: Expecting property name enclosed in double quotes at line 2, column 4"),
        ("[" * 100_000, ": JSON nested too deeply"),
    ],
)
def test_squad_names_the_place_of_a_mistake(tmp_path: Path, content: str | dict[str, object], what: str) -> None:
    path = file(tmp_path, content)
    with pytest.raises(DataError) as caught:
        squad(path)
    assert caught.value.message == f"{path}{what}"


def test_multiple_choice_asks_in_big_bench_style(tmp_path: Path) -> None:
    path = file(tmp_path, task({"input": "Why? ", "target_scores": {"no": 0, "yes ": 1}}))
    assert multiple_choice(path) == (Question(prompt="Q: Why?\nA:", choices=(" no", " yes"), answer=1),)


def test_multiple_choice_uses_the_prefixes_of_the_task(tmp_path: Path) -> None:
    prefixes = {"example_input_prefix": "\nQuestion: ", "example_output_prefix": "\nphrase: ", "task_prefix": "Pick."}
    (question,) = multiple_choice(file(tmp_path, task({"input": "x", "target_scores": {"a": 1, "b": 0}}, **prefixes)))
    assert question.prompt == "Pick.\nQuestion: x\nphrase:"


@pytest.mark.parametrize(
    ("example", "what"),
    [
        ({"target_scores": {"a": 1, "b": 0}}, "no text under `input`"),
        ({"input": "x"}, "no `target_scores` with a number for each of two choices or more"),
        ({"input": "x", "target_scores": {"a": 1}}, "no `target_scores` with a number for each of two choices or more"),
        (
            {"input": "x", "target_scores": {"a": 1, "b": "0"}},
            "no `target_scores` with a number for each of two choices or more",
        ),
        ({"input": "x", "target_scores": {"a": 1, "b": 1, "c": 0}}, "2 choices share the highest score"),
        ({"input": "x", "target_scores": {"a": 1, " ": 0}}, "an empty choice"),
    ],
)
def test_multiple_choice_names_the_example_of_a_mistake(tmp_path: Path, example: dict[str, object], what: str) -> None:
    good = {"input": "x", "target_scores": {"a": 1, "b": 0}}
    path = file(tmp_path, task(good, example))
    with pytest.raises(DataError) as caught:
        multiple_choice(path)
    assert caught.value.message == f"{path}, example 2: {what}"


def test_an_empty_file_is_told(tmp_path: Path) -> None:
    path = file(tmp_path, " \n")
    with pytest.raises(DataError) as caught:
        text(path)
    assert str(caught.value) == f"{path}: the file holds no text\n\nhint: check that it was written whole"


def test_a_wrong_encoding_is_told_with_its_place(tmp_path: Path) -> None:
    path = file(tmp_path, "naïve".encode("latin-1"))
    with pytest.raises(DataError) as caught:
        text(path)
    assert str(caught.value) == (
        f"{path}: not UTF-8: byte 2 is 0xef\n\nhint: convert it: iconv -f ENCODING -t UTF-8 {path}"
    )
