from pathlib import Path

import pytest

from pipelines.errors import ToolFailed, last_lines
from pipelines.failures import explain


@pytest.mark.parametrize(
    ("code", "log", "phrase"),
    [
        (-11, "loading\n", "crashed: signal 11 (SIGSEGV)"),
        (-6, "terminate called after throwing an instance of 'std::bad_alloc'\n", "ran out of memory"),
        (-9, "", "was killed (SIGKILL): most often the system had no memory left"),
        (-63, "", "crashed: signal 63"),
        (1, "Traceback\nValueError: 3 is no 4\n", "failed: ValueError: 3 is no 4"),
        (1, "MemoryError\n", "ran out of memory"),
        (3, "", "ended with exit code 3 and said nothing"),
    ],
)
def test_end_of_a_worker_is_put_into_words(tmp_path: Path, code: int, log: str, phrase: str) -> None:
    path = tmp_path / "a.log"
    path.write_text(log)

    assert explain(code, path) == phrase


def test_worker_without_a_log_ended_without_a_word(tmp_path: Path) -> None:
    assert explain(1, tmp_path / "none.log") == "ended with exit code 1 and said nothing"


def test_failure_quotes_the_last_lines_and_says_how_to_repeat_the_step(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_text("".join(f"line {number}\n\n" for number in range(30)) + "10%\r50%\r100%\n")

    error = ToolFailed.with_log("quantize_gguf", "crashed: signal 11 (SIGSEGV)", log, "python -m worker")

    assert last_lines(log, 3) == ["line 28", "line 29", "100%"]
    assert str(error) == "\n".join(
        [
            "`quantize_gguf` crashed: signal 11 (SIGSEGV)",
            *(f"  | line {number}" for number in range(19, 30)),
            "  | 100%",
            "",
            f"hint: the whole log: {log}",
            "the step alone: python -m worker",
        ]
    )
    assert (error.exit_code, error.log) == (3, log)
