from pathlib import Path

import pytest
from samples import DEVICE

from pipelines import keys
from pipelines.measures import DeviceFacts
from pipelines.store import key_of
from stages.base import Artifact, Stage
from targets.dummy import Dummy
from targets.openvino import Openvino

MODEL = Artifact(kind="dummy", path=Path("a"), digest="a" * 64)
OTHER_DEVICE = DEVICE.model_copy(update={"identity": "0ther"})


def key(
    stage: Stage | None = None,
    lock: str = "lock",
    digest: str = MODEL.digest,
    seed: int = 0,
    device: DeviceFacts = DEVICE,
) -> str:
    inputs = {"model": MODEL.model_copy(update={"digest": digest})}
    return key_of(keys.step_parts(stage or Dummy(), lock, inputs, seed, device))


def test_key_is_the_same_for_the_same() -> None:
    assert key() == key()


def test_fields_tools_input_and_seed_are_new_keys() -> None:
    changes = [key(), key(Dummy(noise=0.1)), key(lock="other lock"), key(digest="b" * 64), key(seed=1)]

    assert len(set(changes)) == len(changes)


def test_version_of_the_stage_is_a_new_key(monkeypatch: pytest.MonkeyPatch) -> None:
    before = key()
    monkeypatch.setattr(Dummy, "version", 2)

    assert key() != before


def test_source_of_the_stage_is_a_new_key(monkeypatch: pytest.MonkeyPatch) -> None:
    before = key()
    monkeypatch.setattr(keys, "source_digest", lambda _: "edited")

    assert key() != before


def test_device_is_part_of_the_key_of_what_is_bound_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert key(device=OTHER_DEVICE) == key()

    monkeypatch.setattr(Dummy, "device_bound", True)

    assert key(device=OTHER_DEVICE) != key()


@pytest.mark.parametrize(
    "module",
    ["budget.py", "comparing.py", "measures.py", "measuring_texts.py", "timing.py", "evaluation/perplexity.py"],
)
def test_whatever_measures_or_judges_is_part_of_the_evaluations_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    for file in (*keys.HERE.glob("*.py"), *keys.HERE.glob("evaluation/*.py")):
        copy = tmp_path / file.relative_to(keys.HERE)
        copy.parent.mkdir(exist_ok=True)
        copy.write_bytes(file.read_bytes())
    monkeypatch.setattr(keys, "HERE", tmp_path)
    before = keys.evaluation_digest.__wrapped__()
    (tmp_path / module).write_text("# edited\n")

    assert keys.evaluation_digest.__wrapped__() != before


def test_openvino_is_bound_to_the_device_where_it_keeps_what_was_compiled() -> None:
    cached = Openvino(cache=True)

    assert key(cached, device=OTHER_DEVICE) != key(cached)
    assert key(Openvino(), device=OTHER_DEVICE) == key(Openvino())
