"""llama.cpp's log: passed on to standard error, its lines remembered for error messages."""

from __future__ import annotations

import ctypes
import sys
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

_DEBUG, _ERROR, _CONTINUED = 1, 4, 5  # ggml.h, enum ggml_log_level


class LlamaLog:
    """What llama.cpp says. llama.cpp keeps one log a process, and this object has to outlive its use as that log.

    `on_text` gets every piece of text as it comes, which may be less than a line.
    """

    def __init__(self, on_text: Callable[[str], None] | None = None) -> None:
        import llama_cpp

        self.errors: deque[str] = deque(maxlen=20)
        self._on_text, self._level = on_text, 0
        self._callback: Any = llama_cpp.llama_log_callback(self._take)
        llama_cpp.llama_log_set(self._callback, ctypes.c_void_p())

    def _take(self, level: int, text: bytes, _user_data: int | None) -> None:
        self._level = self._level if level == _CONTINUED else level
        said = text.decode("utf-8", "replace")
        if self._level == _ERROR:
            self.errors.append(said.strip())
        if self._level != _DEBUG:
            sys.stderr.write(said)
        if self._on_text is not None:
            self._on_text(said)

    def last_error(self) -> str:
        """The last error that explains something: llama.cpp ends with a general one."""
        specific = [line for line in self.errors if "failed to load model" not in line] or list(self.errors)
        return specific[-1] if specific else "llama.cpp gave no reason"

    def close(self) -> None:
        """Let llama.cpp write to standard error itself again."""
        import llama_cpp

        llama_cpp.llama_log_set(llama_cpp.llama_log_callback(), ctypes.c_void_p())


@contextmanager
def llama_log(on_text: Callable[[str], None] | None = None) -> Iterator[LlamaLog]:
    """The log for the length of a `with` block."""
    log = LlamaLog(on_text)
    try:
        yield log
    finally:
        log.close()
