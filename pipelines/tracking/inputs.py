"""A run's evaluation data as an MLflow dataset."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from pipelines.records import DataRecord

if TYPE_CHECKING:
    from mlflow.entities import DatasetInput

LONGEST_DIGEST = 36


def evaluation_data(data: DataRecord) -> DatasetInput:
    """The run's input: a name, a digest, and how much of it there is."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    dataset = Dataset(
        name=data.name,
        digest=data.digest[:LONGEST_DIGEST],
        source_type="local",
        source=json.dumps({"name": data.name, "sha256": data.digest}),
        profile=json.dumps({"documents": data.documents, "tokens": data.tokens}),
    )
    return DatasetInput(dataset, [InputTag("mlflow.data.context", "evaluation")])
