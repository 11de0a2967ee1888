import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT)]  # bench is no installed package

from program import REAL, Program  # noqa: E402

from bench._homes import fetched, new_home  # noqa: E402
from bench._processes import prefect_server  # noqa: E402
from pipelines.environments import Environments  # noqa: E402
from pipelines.home import home as users_home  # noqa: E402
from pipelines.progress import Silent  # noqa: E402

TINY = """
import sys
from pathlib import Path
import tiny_llama
from transformers import AutoTokenizer
tiny_llama.CONTEXT = 1024
folder = tiny_llama.make(Path(sys.argv[1]))
AutoTokenizer.from_pretrained(folder).save_pretrained(folder)  # the torch environment has no sentencepiece
"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.e2e)


@pytest.fixture(scope="session")
def pythons() -> dict[str, Path]:
    """The interpreters of the tool environments of the user's own home, built now if they are not."""
    environments = Environments(users_home())
    return {name: environments.python(name, Silent()) for name in ("torch", "gguf", "onnx")}


@pytest.fixture(scope="session")
def shared(pythons: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Program:
    """Tapeout in a home that the whole tier shares, so that what one test made another need not."""
    folder = tmp_path_factory.mktemp("shared")
    return Program(new_home(folder / "home"), folder / "dist")


@pytest.fixture
def fresh(pythons: dict[str, Path], tmp_path: Path) -> Program:
    """Tapeout in a home with nothing but the tool environments."""
    return Program(new_home(tmp_path / "home"), tmp_path / "dist")


@pytest.fixture(scope="session")
def prefect(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a real Prefect server's API."""
    with prefect_server(tmp_path_factory.mktemp("prefect")) as url:
        yield url


@pytest.fixture(scope="session")
def smollm2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real model's GGUF file."""
    _, files = fetched(REAL, tmp_path_factory.mktemp("fetched"))
    return next(files.rglob("*.gguf"))


@pytest.fixture
def copied(smollm2: Path, tmp_path: Path) -> Path:
    """The real model's GGUF file, to be damaged."""
    return Path(shutil.copyfile(smollm2, tmp_path / "model.gguf"))


@pytest.fixture(scope="session")
def tiny(pythons: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama of two layers as a Hugging Face folder."""
    folder = tmp_path_factory.mktemp("tiny") / "hf"
    subprocess.run(
        [pythons["gguf"], "-c", TINY, folder],
        env={"PYTHONPATH": str(ROOT / "tests/toolchain/gguf"), "PATH": "/usr/bin:/bin"},
        check=True,
        capture_output=True,
    )
    return folder
