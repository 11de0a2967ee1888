from pathlib import Path

import numpy as np
import pytest
from running import artifact, calibration, run
from tiny_llama import VOCABULARY, make

from stages.prune_width import PruneWidth
from targets.gguf import Gguf
from targets.transformers import Transformers


@pytest.mark.parametrize("hidden", [48, 42])
def test_a_narrower_model_says_in_llama_cpp_what_it_says_in_transformers(tmp_path: Path, hidden: int) -> None:
    """Of 48 the 4 heads are a divisor; 42 is written as a Mistral."""
    source = artifact("hf", make(tmp_path / "hf"))
    stage = PruneWidth(hidden=hidden, intermediate=96, windows=2, window=32)
    narrow, _ = run(stage, source, tmp_path / "narrow", calibration=calibration(tmp_path / "text"))
    made, produced = run(Gguf(outtype="f32"), narrow, tmp_path / "gguf")
    tokens = np.random.default_rng(0).integers(3, VOCABULARY, 48).astype(np.int32)
    theirs = Transformers().open(narrow, threads=1, context_length=64).logits(tokens)
    session = Gguf().open(made, threads=1, context_length=64)
    ours = session.logits(tokens).copy()
    session.close()

    assert produced.facts["architecture"] == "llama"
    # as in test_gguf: 16-bit keys and values, flash attention's 16-bit sums
    assert np.abs(ours - theirs).max() < 5e-3 * np.abs(theirs).max()
    assert np.array_equal(ours.argmax(1), theirs.argmax(1))
