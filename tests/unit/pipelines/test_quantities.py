import pytest

from pipelines.quantities import difference, duration, quantity, size


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (30.4539, "", "30.45"),
        (138_000_000, "bytes", "138 MB"),
        (0.9876, "share", "98.8%"),
        (2.349, "x", "2.35x"),
        (20.83, "ms", "20.83 ms"),
        (0.0141, "nats", "0.0141 nats"),
    ],
)
def test_number_is_written_with_its_unit(value: float, unit: str, text: str) -> None:
    assert quantity(value, unit) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 bytes"), (999, "999 bytes"), (1000, "1 kB"), (1_234_567, "1.23 MB"), (105_400_000, "105 MB"),
     (999_600, "1 MB"), (999_999_999, "1 GB"), (99_960_000, "100 MB"), (12e9, "12 GB")],
)  # fmt: skip
def test_size_has_three_digits_at_most(count: float, text: str) -> None:
    assert size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.44, "0.4 s"), (9.94, "9.9 s"), (9.96, "10 s"), (59.4, "59 s"), (59.7, "1 min 0 s"), (200, "3 min 20 s"),
     (3599.7, "1 h 0 min"), (3900, "1 h 5 min")],
)  # fmt: skip
def test_duration_is_written_in_the_units_of_its_length(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.0712, "%", "+7.12%"),
        (-0.00001, "%", "+0%"),
        (0.1, "%", "+10%"),
        (-0.031, "share", "-3.1 points"),
        (-12e6, "bytes", "-12 MB"),
        (2.5, "ms", "+2.5 ms"),
        (-0.25, "", "-0.25"),
    ],
)
def test_difference_is_written_with_its_sign(value: float, unit: str, text: str) -> None:
    assert difference(value, unit) == text
