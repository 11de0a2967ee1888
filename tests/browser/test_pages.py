"""MLflow's and Prefect's pages of real runs, in a real headless Chromium.

Screenshots go to TAPEOUT_SCREENSHOTS, or to build/screenshots.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT)]  # bench is no installed package

from bench._digit_models import fragile, hesitant, trained, write  # noqa: E402
from bench._homes import latest_record, new_home  # noqa: E402
from bench._processes import TAPEOUT, variables  # noqa: E402
from bench._stand import Stand, digits_config, stand  # noqa: E402
from pipelines.environments import Environments  # noqa: E402
from pipelines.home import home as users_home  # noqa: E402
from pipelines.progress import Silent  # noqa: E402
from pipelines.records import RunRecord  # noqa: E402

# the second: MLflow's own use of SQLAlchemy
pytestmark = [pytest.mark.browser, pytest.mark.filterwarnings("ignore::DeprecationWarning")]
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
OUT, NAME = Path(os.environ.get("TAPEOUT_SCREENSHOTS") or ROOT / "build/screenshots"), "digits-by-day"
STEPS = [{"quantize_onnx": {"examples": 100, "reduce_range": True}}, "onnxruntime"]


def run(place: Stand, config: Path, model: Path) -> RunRecord:
    command = [TAPEOUT, "run", config, f"source={{path: {model}}}", "--quiet", "--dist", place.folder / "dist"]
    subprocess.run(command, env=variables(place.home), capture_output=True, check=False)
    return latest_record(place.home)


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The visible text by page, of a model that is champion, one that took its place, and one over budget."""
    if CHROMIUM is None:
        pytest.skip("there is no Chromium on this machine: apt-get install chromium")
    environments, folder = Environments(users_home()), tmp_path_factory.mktemp("pages")
    python, good = environments.python("onnx", Silent()), trained()
    held = {"first": hesitant(good, 0.3), "better": good, "broken": fragile(good)}
    models = {name: write(python, weights, folder / f"{name}.onnx") for name, weights in held.items()}
    shutil.copyfile(models["first"], folder / "model.onnx")
    config = digits_config(folder, NAME, STEPS)
    with stand(folder, new_home(folder / "home")) as place:
        records = {name: run(place, config, model) for name, model in models.items()}
        wanted = folder / "pages.json"
        wanted.write_text(json.dumps(list(pages(place, records))))
        shoot = [environments.python("browser", Silent()), Path(__file__).with_name("shoot.py"), CHROMIUM, wanted, OUT]
        shot = subprocess.run(shoot, capture_output=True, text=True, check=False)
    assert shot.returncode == 0, shot.stderr
    return dict(json.loads(shot.stdout))


def pages(place: Stand, records: dict[str, RunRecord]) -> Iterator[dict[str, Any]]:
    from mlflow.tracking import MlflowClient

    better, broken = records["better"], records["broken"]
    number = MlflowClient(tracking_uri=place.stack.mlflow_store).get_experiment_by_name(NAME).experiment_id
    experiment = f"{place.stack.mlflow}/#/experiments/{number}"
    one, other = (f"{experiment}/runs/{record.mlflow_run}" for record in (better, broken))
    flows = f"{place.stack.prefect}/runs/flow-run"
    yield {"name": "mlflow-experiment", "url": f"{experiment}/runs", "shows": [NAME]}
    yield {"name": "mlflow-run", "url": one, "shows": ["Description", "Metrics"]}
    yield {"name": "mlflow-run-halted", "url": other, "shows": ["Description", "Metrics"]}
    yield {"name": "mlflow-charts", "url": f"{one}/model-metrics", "shows": ["accuracy_top1"], "settle_ms": 3000}
    yield {"name": "mlflow-report", "url": f"{one}/artifacts/report.html", "shows": ["Budgets"], "settle_ms": 3000}
    yield {"name": "mlflow-registry", "url": f"{place.stack.mlflow}/#/models/{NAME}", "shows": ["champion"]}
    yield {"name": "prefect-run", "url": f"{flows}/{better.prefect_run}", "shows": ["Completed"], "settle_ms": 4000}
    yield {"name": "prefect-run-halted", "url": f"{flows}/{broken.prefect_run}", "shows": ["BudgetExceeded"]}


def test_experiment_lists_its_runs(seen: dict[str, str]) -> None:
    assert "Training runs" in seen["mlflow-experiment"]
    assert seen["mlflow-experiment"].count(f"{NAME}-") >= 3


def test_run_page_says_what_came_out_whether_it_passed_and_what_each_stage_cost(seen: dict[str, str]) -> None:
    text = seen["mlflow-run"]
    for part in ("passed", "Serve it:", "made in", "quantize_onnx", "accuracy_top1", "promoted: accuracy_top1 "):
        assert part in text
    assert "tool." not in text
    assert "1397 examples" in text


def test_halted_run_says_why(seen: dict[str, str]) -> None:
    for page in ("mlflow-run-halted", "prefect-run-halted"):
        assert "top1_agreement is " in seen[page]
        assert "at least 90.0% allowed) after quantize_onnx" in seen[page]


def test_charts_and_report_are_rendered(seen: dict[str, str]) -> None:
    assert "Step" in seen["mlflow-charts"]
    assert f"{NAME}: PASSED" in seen["mlflow-report"]


def test_registry_says_who_is_champion_and_why(seen: dict[str, str]) -> None:
    text = seen["mlflow-registry"]
    for part in ("Champion: version 2; previous: 1", "no version, the run halted: top1_agreement"):
        assert part in text
    assert re.search(r"@\s*champion", text)


def test_flow_page_has_the_stages_in_order(seen: dict[str, str]) -> None:
    assert NAME in seen["prefect-run"]
    assert "Completed" in seen["prefect-run"]
