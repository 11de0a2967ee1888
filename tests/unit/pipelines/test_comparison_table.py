"""What `tapeout compare` shows of each config."""

from __future__ import annotations

from io import StringIO

import pytest
from rich.console import Console
from samples import run_record

from pipelines.records import RunRecord
from pipelines.reporting.comparison_table import columns_of, comparison_table, head, notes, row
from pipelines.reporting.methods import method_of
from pipelines.reporting.pareto import front

STEPS = """
steps:
  - import_gguf
  - collect_imatrix: {windows: 48}
  - gguf
  - quantize_gguf: {type: q4_k_m, pure: true, budget: {size_mb: 105}}
    timeout_s: 60
"""


@pytest.fixture
def record() -> RunRecord:
    made = run_record()
    last = made.stages[-1].model_copy(update={"bits_a_weight": 8.196})
    return made.model_copy(update={"stages": (*made.stages[:-1], last)})


def test_a_row_holds_every_figure_under_its_title(record: RunRecord) -> None:
    columns = columns_of([record])
    cells = dict(zip(head([record], columns), row(record, columns), strict=True))

    assert cells == {
        "config": "smol-q6k",
        "method": "quantize_gguf: precision q6_k",
        "bits a weight": "8.20",
        "perplexity": "30.87",
        "95% interval": "29.02..32.73",
        "change": "+1.39%",
        "its 95%": "+1.09..+1.69%",
        "KL, nats": "0.0139 nats",
        "top-1": "95.8%",
        "TTFT": "136 ms",
        "TBT": "15.1 ms",
        "prefill": "942 tok/s",
        "decode": "66.2 tok/s",
        "speed-up": "2.65x",
        "size": "138 MB",
        "memory": "221 MB",
        "made in": "31 s",
        "verdict": "passed",
    }


def test_the_table_on_the_terminal_begins_with_the_reference(record: RunRecord) -> None:
    out = StringIO()
    Console(file=out, width=150).print(comparison_table([record, run_record("halted", 0.071)]))
    text = out.getvalue()

    assert text.index("the reference") < text.index("smol-q6k")
    for part in ("8.20", "138 MB", "halted", "+7.10%", "29.02..32.73"):
        assert part in text


def test_a_method_is_the_steps_that_say_how(record: RunRecord) -> None:
    told = method_of(record.model_copy(update={"config_text": STEPS}))

    assert told == 'collect_imatrix: windows 48 + quantize_gguf: type q4_k_m, pure, budget {"size_mb": 105}'


def test_a_conversion_alone_is_named(record: RunRecord) -> None:
    text = "steps: [import_gguf, openvino_llm]"

    assert method_of(record.model_copy(update={"config_text": text})) == "openvino_llm"


def test_the_front_is_what_nothing_beats_in_both() -> None:
    assert front([(3, 1), (1, 3), (2, 2), (3, 3), (2, 2), (1, 4)]) == [1, 2, 4, 0]
    assert front([]) == []


def test_what_could_not_be_measured_has_no_times_and_is_not_just_called_passed(record: RunRecord) -> None:
    engine = record.stages[-1].model_copy(
        update={"stage": "tensorrt", "report": None, "unmeasured": "no NVIDIA device", "size_bytes": 7_000_000}
    )
    made = record.model_copy(update={"stages": (*record.stages, engine)})
    columns = columns_of([made])
    cells = dict(zip(head([made], columns), row(made, columns), strict=True))

    assert (cells["verdict"], cells["size"]) == ("passed; tensorrt not measured", "7 MB")
    assert {cells[name] for name in ("TTFT", "TBT", "decode", "speed-up", "memory")} == {"-"}
    (note,) = notes([record, made])
    assert note.plain == (
        "note    smol-q6k: tensorrt is not measured on this device: no NVIDIA device; "
        "the gate judged the stage before it"
    )
