"""ggml's backends, where the build keeps them in libraries of their own: the one made for this CPU is loaded."""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path


@cache
def load_backends() -> None:
    """Load the best of the backends that lie beside llama.cpp's library; once a process, before its first model.

    A build with GGML_BACKEND_DL has one library for each generation of CPUs (`libggml-cpu-haswell.so`), and no backend
    at all before this call. In an ordinary build the only one is linked, and there is nothing to load. The function is
    taken out of what libllama.so is linked to: a wheel holds no links, so that `libggml.so` is another library than the
    `libggml.so.0` that llama.cpp runs, and what is loaded into it llama.cpp does not see.
    """
    import llama_cpp

    folder = Path(llama_cpp.__file__).parent / "lib"
    if list(folder.glob("libggml-cpu-*.so")):
        library = ctypes.CDLL(str(folder / "libllama.so"))
        library.ggml_backend_load_all_from_path(str(folder).encode())
