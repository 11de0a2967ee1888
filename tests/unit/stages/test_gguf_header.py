import struct
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from gguf_bytes import gguf_bytes

from stages import _gguf_header
from stages._gguf_checks import checked
from stages.base import Refused

Written = Callable[..., Path]


@pytest.fixture
def written(tmp_path: Path) -> Written:
    """Write a GGUF, whole or with a header that lies, and give its path."""

    def write(**lies: Any) -> Path:
        path = tmp_path / "model.gguf"
        path.write_bytes(gguf_bytes(**lies))
        return path

    return write


def test_a_whole_file_is_read_with_its_facts(written: Written) -> None:
    header = checked(written())

    assert header.facts() == {
        "architecture": "llama",
        "parameters": 32 * 4 + 32 + 64 * 32,
        "layers": 1,
        "vocabulary": 4,
        "context_length": None,
        "bits_per_weight": 32.0,
        "tensor_types": {"F32": 3},
        "chat_template": False,
    }


@pytest.mark.parametrize(
    ("lie", "message"),
    [
        ({"shapes": {"blk.0.attn_norm.weight": (31,)}}, "has shape [31], but the metadata says embedding_length = 32"),
        ({"shapes": {"blk.0.attn_norm.weight": (8,)}}, "96 bytes lie between them"),
        (
            {"shapes": {"token_embd.weight": (32, 5)}},
            "tensor `blk.0.attn_norm.weight` overlaps tensor `token_embd.weight`",
        ),
        (
            {"shapes": {"blk.0.ffn_down.weight": (64, 33)}},
            "tensor `blk.0.ffn_down.weight` of shape [64, 33] and type F32",
        ),
        (
            {"shapes": {"blk.0.ffn_down.weight": (64, 16)}},
            "4,096 bytes follow tensor `blk.0.ffn_down.weight`, the last",
        ),
        (
            {"shapes": {"blk.0.ffn_down.weight": (2**62, 2**62)}},
            "truncated, or its header lies: tensor `blk.0.ffn_down",
        ),
        (
            {"shapes": {"blk.0.ffn_down.weight": (64, 0)}},
            "tensor `blk.0.ffn_down.weight` of type F32 has the impossible",
        ),
        ({"shapes": {"token_embd.weight": (4, 32)}}, "tensor `token_embd.weight` has shape [4, 32], but the metadata"),
        (
            {"offsets": {"blk.0.attn_norm.weight": 0}},
            "tensor `token_embd.weight` overlaps tensor `blk.0.attn_norm.weight`",
        ),
        (
            {"offsets": {"blk.0.ffn_down.weight": 2**60}},
            "tensor `blk.0.ffn_down.weight` or tensor `blk.0.attn_norm.weight`",
        ),
        ({"types": {"token_embd.weight": 99}}, "tensor `token_embd.weight` has the unknown type 99"),
        (
            {"types": {"token_embd.weight": 14}},
            "tensor `token_embd.weight` of type Q6_K has the impossible shape [32, 4]",
        ),
        ({"types": {"token_embd.weight": 1}}, "has a wrong shape, type or offset: 256 bytes lie between them"),
    ],
)
def test_a_header_that_lies_of_a_tensor_is_refused_by_name(written: Written, lie: dict[str, Any], message: str) -> None:
    with pytest.raises(Refused) as caught:
        checked(written(**lie))

    assert message in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("llama.block_count", 2**31, "the metadata says 2,147,483,648 layers, the tensors are of 1"),
        ("llama.embedding_length", 2**31, "but the metadata says embedding_length = 2,147,483,648"),
        ("llama.feed_forward_length", 3, "but the metadata says feed_forward_length = 3"),
        ("tokenizer.ggml.tokens", ["a"], "but the metadata says the vocabulary = 1"),
        ("general.alignment", 3, "general.alignment is 3, not a power of two within the file"),
        ("general.architecture", "", "the metadata has no general.architecture"),
    ],
)
def test_metadata_that_contradicts_the_tensors_is_refused(
    written: Written, key: str, value: int | str | list[str], message: str
) -> None:
    with pytest.raises(Refused) as caught:
        checked(written(changed={key: value}))

    assert message in caught.value.message


@pytest.mark.parametrize("offset", [8, 16])
@pytest.mark.parametrize("count", [2**20, 2**62, 2**64 - 1])
def test_an_absurd_count_is_refused_at_once(written: Written, offset: int, count: int) -> None:
    path = written()
    raw = bytearray(path.read_bytes())
    raw[offset : offset + 8] = struct.pack("<Q", count)
    path.write_bytes(raw)
    begin = time.perf_counter()

    with pytest.raises(Refused, match="truncated, or its header lies: the number of"):
        checked(path)

    assert time.perf_counter() - begin < 0.5


@pytest.mark.slow
def test_a_file_truncated_anywhere_is_refused(written: Written) -> None:
    path = written()
    whole = path.read_bytes()
    for length in range(0, len(whole) - 1, 7):
        path.write_bytes(whole[:length])
        with pytest.raises(Refused):
            checked(path)


@pytest.mark.slow
def test_no_changed_byte_of_the_header_ends_in_anything_but_a_refusal(written: Written) -> None:
    path = written()
    whole = path.read_bytes()
    for position in range(checked(path).data_start):
        for value in (0x00, 0x01, 0x7F, 0xFF):
            path.write_bytes(whole[:position] + bytes([value]) + whole[position + 1 :])
            with suppress(Refused):
                checked(path)


def test_something_else_is_refused_as_no_gguf(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(b"PK\x03\x04" + bytes(100))

    with pytest.raises(Refused) as caught:
        checked(path)

    assert caught.value.message == "model.gguf: not a GGUF file: it starts with b'PK\\x03\\x04'"


def test_two_gguf_files_in_an_artifact_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.gguf").touch()
    (tmp_path / "b.gguf").touch()

    with pytest.raises(Refused, match=r"several GGUF files: a\.gguf, b\.gguf"):
        _gguf_header.find(tmp_path)
