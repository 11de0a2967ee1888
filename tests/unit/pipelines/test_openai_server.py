"""The server that bundles carry, over a model that repeats its prompt."""

import json
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from parrot import Parrot

from pipelines.llm_servers.bundled.openai_server import Server, Stopping


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    server = Server(("127.0.0.1", 0), Parrot(), "parrot")
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def asked(url: str, body: Any = None) -> Any:
    return json.loads(answered(url, body))


def answered(url: str, body: Any = None) -> bytes:
    data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(url, data), timeout=10) as answer:
        found: bytes = answer.read()
    return found


def refused(url: str, body: Any) -> tuple[int, str]:
    with pytest.raises(urllib.error.HTTPError) as caught:
        answered(url, body)
    with caught.value as error:
        return error.code, json.load(error)["error"]["message"]


def test_it_says_that_it_is_well_and_what_it_serves(url: str) -> None:
    assert asked(f"{url}/health") == {"status": "ok"}
    assert [model["id"] for model in asked(f"{url}/v1/models")["data"]] == ["parrot"]


def test_a_completion_has_text_usage_and_the_reason_of_its_end(url: str) -> None:
    cut = asked(f"{url}/v1/completions", {"prompt": "abcdef", "max_tokens": 4})
    whole = asked(f"{url}/v1/completions", {"prompt": "abcdef"})

    assert cut["choices"][0] == {"index": 0, "text": "abcd", "logprobs": None, "finish_reason": "length"}
    assert cut["usage"] == {"prompt_tokens": 6, "completion_tokens": 4, "total_tokens": 10}
    assert (whole["choices"][0]["text"], whole["choices"][0]["finish_reason"]) == ("abcdef", "stop")


def test_a_chat_goes_through_the_models_template(url: str) -> None:
    parts = [{"type": "text", "text": "how "}, {"type": "text", "text": "so"}]
    messages = [{"role": "system", "content": "be"}, {"role": "user", "content": parts}]
    answer = asked(f"{url}/v1/chat/completions", {"messages": messages})

    assert answer["object"] == "chat.completion"
    assert answer["choices"][0]["message"] == {"role": "assistant", "content": "system:be|user:how so"}


@pytest.mark.parametrize("chat", [False, True])
def test_a_stream_comes_in_pieces_and_ends_with_done(url: str, chat: bool) -> None:
    body = {"messages": [{"role": "user", "content": "x"}]} if chat else {"prompt": "user:x"}
    options = {"stream": True, "stream_options": {"include_usage": True}}
    text = answered(f"{url}/v1/{'chat/' if chat else ''}completions", body | options).decode()
    *chunks, last = [line.removeprefix("data: ") for line in text.strip().split("\n\n")]
    read = [json.loads(chunk) for chunk in chunks]
    said = [choice for chunk in read for choice in chunk["choices"]]

    assert last == "[DONE]"
    assert "".join(each["delta"].get("content", "") if chat else each["text"] for each in said) == "user:x"
    assert [each["finish_reason"] for each in said] == [None] * 6 + ["stop"]
    assert read[-1]["usage"]["completion_tokens"] == 6


def test_an_answer_ends_before_its_stop_sequence(url: str) -> None:
    answer = asked(f"{url}/v1/completions", {"prompt": "one. two. three", "stop": [". th", "ee"]})

    assert answer["choices"][0]["text"] == "one. two"
    assert answer["choices"][0]["finish_reason"] == "stop"


def test_what_may_be_the_beginning_of_a_stop_sequence_is_held_back() -> None:
    passed: list[str] = []

    def send(piece: str) -> bool:
        passed.append(piece)
        return True

    emit = Stopping(("<end>",), send)
    for piece in ("a<", "en", "x", "<e"):
        emit(piece)

    assert passed == ["a", "<enx"]
    emit.flush()
    assert passed[-1] == "<e"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"{", "the body is no JSON object"),
        (b"[]", "the body is no JSON object"),
        ({}, "`prompt` has to be one text"),
        ({"prompt": ["a", "b"]}, "`prompt` has to be one text"),
        ({"prompt": "a", "n": 2}, "`n` above 1, `logprobs` and `tools` are not supported"),
        ({"prompt": "a", "max_tokens": 0}, "`max_tokens` has to be a positive number"),
        ({"prompt": "a", "temperature": "hot"}, "`temperature` and `top_p` have to be numbers"),
        ({"prompt": "a" * 60, "max_tokens": 8}, "60 and 8 tokens do not fit into 64"),
        ({"prompt": "a" * 60, "max_tokens": 8, "stream": True}, "60 and 8 tokens do not fit into 64"),
    ],
)
def test_what_cannot_be_answered_is_refused_in_words(url: str, body: Any, message: str) -> None:
    assert refused(f"{url}/v1/completions", body) == (400, message)


def test_a_chat_without_messages_and_an_unknown_path_are_refused(url: str) -> None:
    assert refused(f"{url}/v1/chat/completions", {"messages": []}) == (400, "`messages` has to be a list of messages")
    assert refused(f"{url}/v1/embeddings", {}) == (404, "nothing is at /v1/embeddings")
