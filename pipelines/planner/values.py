"""What the planner's values are made of; it runs no stage, so it does not import what stages are made of."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict

ROOT = Path(__file__).resolve().parent.parent.parent


class Frozen(BaseModel):
    """A value that crosses boundaries: immutable, and strict about its keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")
