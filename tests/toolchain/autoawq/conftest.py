"""What the tools themselves warn of, in their own source."""

from tests.toolchain.gptq.conftest import pytest_configure as pytest_configure
