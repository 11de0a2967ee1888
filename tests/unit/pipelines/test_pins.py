"""What is installed without its dependencies has to be pinned with them, whichever Python 3.11 it is installed for."""

from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from pipelines.building import lockfile

PINS = lockfile.read(Path(__file__).parents[3] / "envs" / "tapeout.txt").pins


def wanted(package: str, python: str) -> set[str]:
    """The names that `package` requires of an installation on `python`, its extras aside."""
    requirements = [Requirement(line) for line in metadata.requires(package) or ()]
    where = {"python_full_version": python, "extra": ""}
    return {canonicalize_name(each.name) for each in requirements if each.marker is None or each.marker.evaluate(where)}


@pytest.mark.parametrize("python", ["3.11.0", "3.11.2", "3.11.14"])
def test_every_requirement_of_a_pinned_package_is_pinned(python: str) -> None:
    missing = {package: sorted(wanted(package, python) - PINS.keys()) for package in PINS}
    assert {package: names for package, names in missing.items() if names} == {}
