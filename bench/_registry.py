"""What stands in MLflow: read with its own client from the database that the stack's runs write to."""

from __future__ import annotations

from collections import Counter

from bench._stand import Stand
from stages.base import Frozen


class Evening(Frozen):
    """A registered model and the parent runs of its experiment. `messages`: a line a run, the oldest first."""

    champion: str | None
    previous: str | None
    versions: int
    promotions: tuple[str, ...]
    description: tuple[str, ...]
    runs: dict[str, int]
    messages: tuple[str, ...]


def evening(place: Stand, name: str) -> Evening:
    """Of the config of that name."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=place.stack.mlflow_store)
    model = client.get_registered_model(name)
    experiment = client.get_experiment_by_name(name)
    found = client.search_runs([experiment.experiment_id], order_by=["attributes.start_time ASC"], max_results=1000)
    parents = [run for run in found if "mlflow.parentRunId" not in run.data.tags]
    aliases = {alias: str(version) for alias, version in model.aliases.items()}
    versions = client.search_model_versions(f"name = '{name}'")
    return Evening(
        champion=aliases.get("champion"),
        previous=aliases.get("previous"),
        versions=len(versions),
        promotions=tuple(
            version.tags.get("promotion", "") for version in sorted(versions, key=lambda each: int(each.version))
        ),
        description=tuple((model.description or "").splitlines()),
        runs=dict(Counter(run.info.status for run in parents)),
        messages=tuple(
            " ".join(filter(None, (run.data.tags.get("message"), run.data.tags.get("promotion")))) for run in parents
        ),
    )
