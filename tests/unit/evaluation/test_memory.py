import subprocess
import sys

import pytest

from pipelines.evaluation.memory import peak_bytes, reset_peak
from stages.base import ROOT

PROGRAM = """
from pipelines.evaluation.memory import peak_bytes, reset_peak
block = bytearray(b"x") * 60_000_000
high = peak_bytes()
del block
assert reset_peak()
print(high, peak_bytes())
"""


def test_peak_is_in_bytes() -> None:
    assert 10_000_000 < peak_bytes() < 100_000_000_000


def test_peak_stays_after_the_memory_is_given_back_until_it_is_forgotten() -> None:
    if not reset_peak():
        pytest.skip("this system cannot forget a peak")
    made = subprocess.run([sys.executable, "-c", PROGRAM], cwd=ROOT, check=True, capture_output=True, text=True)

    high, after = map(int, made.stdout.split())
    assert high > 60_000_000
    assert after < high - 50_000_000
