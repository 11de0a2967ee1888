"""Codes of a few bits in 32-bit words, against layouts worked out by hand."""

import json
from pathlib import Path

import numpy as np
import pytest

from stages._packed import (
    from_awq,
    from_compressed,
    from_gptq,
    packed_columns,
    packed_rows,
    planar_columns,
    planar_rows,
    unpacked_columns,
    unpacked_plane_columns,
    unpacked_planes,
    unpacked_rows,
)
from stages._quantized import quantization, refuse_quantized
from stages.base import Refused


@pytest.mark.parametrize("bits", range(2, 9))
def test_what_was_packed_comes_back(bits: int) -> None:
    codes = np.random.default_rng(bits).integers(0, 2**bits, (64, 32), dtype=np.uint8)

    assert packed_rows(codes, bits).shape == (2 * bits, 32)
    assert np.array_equal(unpacked_rows(packed_rows(codes, bits), bits), codes)
    assert np.array_equal(unpacked_columns(packed_columns(codes, bits), bits), codes)


@pytest.mark.parametrize("bits", [2, 3, 5, 6, 7, 8])
def test_what_was_packed_in_planes_comes_back(bits: int) -> None:
    codes = np.random.default_rng(bits).integers(0, 2**bits, (64, 32), dtype=np.uint8)

    assert planar_rows(codes, bits).shape == (2 * bits, 32)
    assert np.array_equal(unpacked_planes(planar_rows(codes, bits), bits), codes)
    assert np.array_equal(unpacked_plane_columns(planar_columns(codes, bits), bits), codes)


def test_a_planes_low_bits_come_first() -> None:
    codes = np.zeros((32, 1), np.uint8)
    codes[1] = 0b10011

    assert planar_rows(codes, 5).view(np.uint32).tolist() == [[0x30], [0], [0], [0], [0b10]]


def test_the_first_code_lies_in_the_lowest_bits() -> None:
    codes = np.arange(8, dtype=np.uint8)[:, None]

    assert packed_rows(codes, 4).view(np.uint32).tolist() == [[0x76543210]]


def test_a_code_of_three_bits_goes_on_in_the_next_word() -> None:
    codes = np.zeros((32, 1), np.uint8)
    codes[10] = 0b111

    assert packed_rows(codes, 3).view(np.uint32).tolist() == [[0b11 << 30], [0b1], [0]]


def test_a_gptq_code_is_taken_from_its_zero_and_scaled_by_the_group_of_its_input() -> None:
    codes = np.tile(np.arange(16, dtype=np.uint8)[:, None], (1, 8))
    group = np.arange(16) % 2
    tensors = {
        "qweight": packed_rows(codes, 4),
        "qzeros": packed_columns(np.full((2, 8), 7, np.uint8), 4),
        "scales": np.stack([np.full(8, 0.5), np.full(8, 2.0)]).astype(np.float16),
        "g_idx": group,
    }
    weights = from_gptq(tensors, 4, zeros_less_one=True)

    assert weights.shape == (8, 16)
    assert weights[3].tolist() == [(code - 8) * (0.5, 2.0)[code % 2] for code in range(16)]
    assert from_gptq(tensors, 4, zeros_less_one=False)[0, 0] == -3.5


def test_awqs_words_hold_their_eight_outputs_interleaved() -> None:
    word = np.array([[0x75316420]], np.uint32).view(np.int32)
    zero = np.zeros((1, 1), np.int32)
    weights = from_awq({"qweight": word, "qzeros": zero, "scales": np.ones((1, 8), np.float16)}, 4, 1)

    assert weights[:, 0].tolist() == [0, 1, 2, 3, 4, 5, 6, 7]


def test_compressed_tensors_codes_are_stored_above_half_of_their_range() -> None:
    codes = np.arange(16, dtype=np.uint8)[None].repeat(2, 0)
    tensors = {
        "weight_packed": packed_columns(codes, 4),
        "weight_scale": np.array([[1, 10], [2, 20]], np.float16),
        "weight_shape": np.array([2, 16]),
    }

    assert from_compressed(tensors, 4)[1].tolist() == [*range(-16, 0, 2), *range(0, 160, 20)]


def config(folder: Path, **quantization_config: object) -> Path:
    (folder / "config.json").write_text(json.dumps({"quantization_config": quantization_config}))
    return folder


def test_a_folder_says_how_it_is_quantized(tmp_path: Path) -> None:
    found = quantization(config(tmp_path, quant_method="awq", bits=4, group_size=128, zero_point=False, version="gemm"))

    assert found is not None
    assert (found.told, found.symmetric) == ("awq at 4 bits, groups of 128", True)
    assert quantization(config(tmp_path)) is None


def test_an_unknown_method_and_a_second_quantization_are_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="quantized with hqq, which nothing here reads"):
        quantization(config(tmp_path, quant_method="hqq"))
    with pytest.raises(Refused, match="quantized already, with gptq to 4 bits"):
        refuse_quantized(config(tmp_path, quant_method="gptq", bits=4))
