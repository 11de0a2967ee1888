"""A small artifact to publish, and what the tests of the store do with it."""

from __future__ import annotations

import os
from pathlib import Path

from pipelines.storage.digest import key_of
from pipelines.storage.work import WorkFolder
from pipelines.store import Entry, Store

KEY = key_of("a step")


def write(work: WorkFolder, text: str = "weights", size: int = 0) -> Path:
    (work.out / "tokenizer").mkdir()
    (work.out / "tokenizer" / "vocabulary.json").write_text("{}")
    (work.out / "model.bin").write_text(text.ljust(size))
    (work.path / "log").write_text(f"made {text}\n")
    return work.out


def publish(store: Store, key: str = KEY, text: str = "weights", size: int = 0) -> Entry:
    with store.work() as work:
        out = write(work, text, size)
        return store.publish(key, out, kind="hf", stage="import_gguf", log=work.path / "log")


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())


def change(path: Path, keep_time: bool) -> None:
    status = path.stat()
    path.chmod(0o600)
    data = bytearray(path.read_bytes())
    data[0] ^= 1
    path.write_bytes(data)
    if keep_time:
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
