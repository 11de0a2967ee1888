import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from loopback import Answer, Site, digest, site, zipped

from pipelines.data.datasets import Documents, check_disjoint, documents, overlap, questions
from pipelines.data.python_docs import halves
from pipelines.errors import DataError, SourceError
from pipelines.fields.data import BuiltinData, DataSource, HfData, PackageData, PathData
from pipelines.progress import Silent

WORDS = [f"w{number}" for number in range(2_000)]


def texts(*found: str) -> Documents:
    return Documents(name="a", digest=str(hash(found)), texts=found)


def read(source: DataSource, tmp_path: Path) -> Documents:
    return documents(source, tmp_path, tmp_path / "cache", Silent())


def test_python_docs_are_enough_for_64_windows_and_share_no_passage(tmp_path: Path) -> None:
    evaluation = read(BuiltinData(builtin="python-docs", split="evaluation"), tmp_path)
    calibration = read(BuiltinData(builtin="python-docs", split="calibration"), tmp_path)
    assert len(evaluation.text) > 64 * 512 * 5  # at most 5 characters a token
    assert len(calibration.text) > 64 * 512 * 5
    assert overlap(evaluation, calibration) == 0
    check_disjoint(evaluation, calibration)
    assert evaluation.name == "python-docs/evaluation"


def test_topics_that_share_a_passage_stay_in_one_half() -> None:
    passage = " ".join(WORDS[:20])
    own = {
        name: " ".join(f"{name}{number}" for number in range(size)) for name, size in (("a", 90), ("b", 80), ("c", 70))
    }
    topics = {"a": own["a"] + " " + passage, "b": own["b"], "c": own["c"] + " " + passage}
    assert halves(topics) == {
        "evaluation": {"a": topics["a"], "c": topics["c"]},
        "calibration": {"b": topics["b"]},
    }


def test_topics_that_longer_ones_repeat_are_left_out() -> None:
    long = " ".join(WORDS[:200])
    found = halves({"long": long, "part": " ".join(WORDS[50:100]), "other": " ".join(WORDS[300:360])})
    assert sorted(found["evaluation"]) == ["long"]
    assert sorted(found["calibration"]) == ["other"]


def test_documents_are_joined_by_a_blank_line(tmp_path: Path) -> None:
    (tmp_path / "d.jsonl").write_text('{"text": "one"}\n{"text": "two"}\n')
    found = read(PathData(path=Path("d.jsonl"), reader="jsonl"), tmp_path)
    assert (found.name, found.text) == ("d.jsonl", "one\n\ntwo")


def test_the_digest_covers_contents_and_borders(tmp_path: Path) -> None:
    def digest_of(*found: str) -> str:
        (tmp_path / "d").write_text("".join(json.dumps({"text": text}) + "\n" for text in found))
        return read(PathData(path=Path("d"), reader="jsonl"), tmp_path).digest

    assert len({digest_of("ab", "c"), digest_of("a", "bc"), digest_of("abc"), digest_of("ab", "d")}) == 4
    assert digest_of("ab", "c") == digest_of("ab", "c")


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        read(PathData(path=Path("none.txt")), tmp_path)
    assert str(caught.value) == (
        f"{tmp_path}/none.txt: no such file\n\nhint: `path:` starts at the config file's folder"
    )


def test_a_wrong_sha256_is_told(tmp_path: Path) -> None:
    (tmp_path / "d.txt").write_text("text")
    with pytest.raises(SourceError) as caught:
        read(PathData(path=Path("d.txt"), sha256="0" * 64), tmp_path)
    assert caught.value.message == f"d.txt: its sha256 is {digest(b'text')}, the config says {'0' * 64}"


def test_questions_are_not_documents_and_the_other_way_round(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        read(PathData(path=Path("q.json"), reader="multiple-choice"), tmp_path)
    assert caught.value.message == "q.json: the reader `multiple-choice` finds questions, not documents"
    with pytest.raises(DataError) as caught:
        questions(BuiltinData(builtin="python-docs", split="evaluation"), tmp_path, tmp_path, Silent())
    assert str(caught.value) == (
        "python-docs/evaluation: holds no questions\n\nhint: a task's data needs `reader: multiple-choice`"
    )


def test_questions_are_read_from_a_file(tmp_path: Path) -> None:
    example = {"input": "Why?", "target_scores": {"no": 0, "yes": 1}}
    (tmp_path / "q.json").write_text(json.dumps({"examples": [example]}))
    source = PathData(path=Path("q.json"), reader="multiple-choice")
    found = questions(source, tmp_path, tmp_path, Silent())
    assert found.questions[0].choices[found.questions[0].answer] == " yes"


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    wheel = zipped({"demo/d.txt": b"the text"})
    with site() as web:
        web.answers["/simple/demo/"] = Answer(b'<a href="/demo-1.0-py3-none-any.whl">demo</a>')
        web.answers["/demo-1.0-py3-none-any.whl"] = Answer(wheel)
        monkeypatch.setenv("PIP_INDEX_URL", f"{web.url}/simple")
        monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "")
        monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
        yield web


def test_package_data_is_fetched_once_and_again_when_its_copy_was_changed(package: Site, tmp_path: Path) -> None:
    source = PackageData(package="demo==1.0", file="demo/d.txt", sha256=digest(b"the text"), reader="text")
    cached = tmp_path / "cache" / digest(b"the text")
    for fetches in (1, 1):
        assert read(source, tmp_path).texts == ("the text",)
        assert package.asked.count("GET /demo-1.0-py3-none-any.whl") == fetches
    cached.write_text("changed")
    assert read(source, tmp_path).texts == ("the text",)
    assert package.asked.count("GET /demo-1.0-py3-none-any.whl") == 2
    assert list((tmp_path / "cache").iterdir()) == [cached]


def test_hub_data_is_fetched(tmp_path: Path, hub_with_data: Site) -> None:
    source = HfData(hf="some/data", revision="main", file="d.txt", reader="text", sha256=digest(b"hub text"))
    assert read(source, tmp_path).texts == ("hub text",)


@pytest.fixture
def hub_with_data(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    from huggingface_hub import constants

    with site() as web:
        headers = {"X-Repo-Commit": "a" * 40, "ETag": '"e1"', "Content-Type": "text/plain"}
        for revision in ("main", "a" * 40):
            web.answers[f"/datasets/some/data/resolve/{revision}/d.txt"] = Answer(b"hub text", headers=headers)
        monkeypatch.setattr(constants, "ENDPOINT", web.url)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", web.url + "/{repo_id}/resolve/{revision}/{filename}"
        )
        yield web


def test_overlap_is_the_share_of_13_word_passages_without_case_and_punctuation() -> None:
    evaluation = texts(" ".join(WORDS[:112]))  # 100 passages
    calibration = texts("Before: " + ", ".join(WORDS[:22]).upper() + ". After.")
    assert overlap(evaluation, calibration) == 0.1
    assert overlap(evaluation, texts("something else")) == 0


def test_a_passage_of_12_words_is_no_overlap() -> None:
    assert overlap(texts(" ".join(WORDS[:100])), texts(" ".join([*WORDS[:12], "x", *WORDS[13:25]]))) == 0


def test_short_documents_overlap_where_they_are_the_same() -> None:
    assert overlap(texts("a short line", "another"), texts("A short line!")) == 0.5


def test_overlap_above_one_percent_is_refused_with_an_example() -> None:
    evaluation = texts(" ".join(WORDS))
    check_disjoint(evaluation, texts("x " + " ".join(WORDS[:31])))  # 19 of 1,988 passages
    with pytest.raises(DataError) as caught:
        check_disjoint(evaluation, texts("x " + " ".join(WORDS[:42])))
    assert str(caught.value) == (
        "calibration data (a) holds 1.5% of the 13-word passages of the evaluation data (a), allowed 1%, "
        f"for example: “{' '.join(WORDS[:25])} ...”\n\nhint: calibrate on other text, or on another split of it"
    )


def test_the_same_data_twice_is_refused() -> None:
    with pytest.raises(DataError) as caught:
        check_disjoint(texts("short"), texts("short"))
    assert caught.value.message == "calibration and evaluation are the same data: a"


def test_overlap_of_200_000_words_takes_seconds() -> None:
    long = texts(" ".join(str(number) for number in range(200_000)))
    start = time.perf_counter()
    assert overlap(long, long) == 1
    assert time.perf_counter() - start < 5
