"""What the next step starts from: the model as it is by now, and all that stages are given besides it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from pipelines.data.reading import Data
from pipelines.plan import PlannedStep
from stages.base import Artifact


@dataclass(frozen=True)
class Standing:
    """How far a chain is: the model, and what stages are given besides it, by input name.

    `doubts` says why one of those may not do, where it may not.
    """

    model: Artifact
    beside: Mapping[str, Artifact]
    doubts: Mapping[str, str]

    @classmethod
    def at_first(cls, model: Artifact, data: Data) -> Standing:
        """Before any step."""
        return cls(model, data.given, data.doubts)

    def after(self, planned: PlannedStep, made: Artifact) -> Standing:
        """With what the step made: the model, or something that stands beside it."""
        return self.given({made.kind: made}) if planned.beside else replace(self, model=made)

    def given(self, more: Mapping[str, Artifact]) -> Standing:
        """With more beside the model."""
        return replace(self, beside={**self.beside, **more})

    def inputs_of(self, planned: PlannedStep) -> dict[str, Artifact]:
        """What the step is given of it."""
        asked = type(planned.step.stage).extra_inputs
        return {name: self.beside[name] for name in sorted(asked & self.beside.keys())}
