"""The two TensorRTs: one for RTX, which builds with no GPU, and the full one, which builds for the GPU there is."""

from __future__ import annotations

import importlib
from typing import Any, Literal, NamedTuple

from stages.base import Refused

Flavour = Literal["rtx", "full"]


class Library(NamedTuple):
    """What a flavour is called, its Python package, and the environment that holds it."""

    title: str
    package: str
    environment: str

    def bindings(self) -> Any:
        """The package.

        Raises:
            Refused: it, or the library that it binds, is not installed.
        """
        try:
            return importlib.import_module(self.package)
        except ImportError as error:  # the bindings install everywhere, libnvinfer comes from the vendor's own index
            raise Refused(
                f"{self.title} is not installed here: {error}", f"tapeout envs build {self.environment}"
            ) from error

    def version(self) -> str:
        """Engines open in the version that built them."""
        return str(self.bindings().__version__)


LIBRARIES: dict[Flavour, Library] = {
    "rtx": Library("TensorRT for RTX", "tensorrt_rtx_bindings", "tensorrt"),
    "full": Library("TensorRT", "tensorrt_bindings", "tensorrt_full"),
}
RTX, FULL = LIBRARIES["rtx"], LIBRARIES["full"]
