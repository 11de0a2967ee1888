"""A real Prefect server for a test, which this process speaks to whatever it knew when it imported Prefect."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipelines.stack.ports import free_port
from pipelines.stack.service import Child
from pipelines.stack.services import temporary_prefect_server


@contextmanager
def own_server(home: Path) -> Iterator[Child]:
    with Child(temporary_prefect_server(home, free_port())) as child:
        child.wait_until_well()
        yield child


@contextmanager
def spoken_to(child: Child, **variables: str) -> Iterator[None]:
    """By this process and its children; the environment is as before at the end, whatever was set in it meanwhile."""
    from prefect import context

    before = dict(os.environ)
    try:
        os.environ |= {"PREFECT_API_URL": child.service.health.removesuffix("/health"), **variables}
        context.refresh_global_settings_context()
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
        context.refresh_global_settings_context()
