"""A classifier of scikit-learn's handwritten digits, trained in a second on the images that calibrate."""

import shutil
from pathlib import Path
from typing import Any

import yaml

from bench._digit_models import CALIBRATION, trained, write
from bench._digit_models import fragile as fragile_weights
from stages.base import ROOT


def model(python: Path, folder: Path, fragile: bool = False) -> Path:
    """model.onnx: four fully connected layers. `fragile` gives `layer_2` outlier weights and keeps the function."""
    folder.mkdir(parents=True, exist_ok=True)
    held = trained()
    return write(python, fragile_weights(held) if fragile else held, folder / "model.onnx")


def config(model: Path, steps: list[Any], budgets: list[dict[str, Any]], **evaluation: Any) -> Path:
    """A config beside the model, which is its own reference."""
    file = model.with_name("config.yaml")
    tree = {
        "name": "digits",
        "source": {"path": model.name},
        "steps": steps,
        "reference": "onnxruntime",
        "data": {
            "evaluation": {"digits": True},
            "calibration": {"held_out": CALIBRATION},
            "preprocess": {"scale": 1 / 16},
        },
        "evaluation": {"latency": None, **evaluation},
        "budgets": budgets,
    }
    file.write_text(yaml.safe_dump(tree, sort_keys=False))
    return file


def with_doubles(checkout: Path) -> Path:
    """A copy of the program that has the test doubles among its stages."""
    for name in ("pipelines", "stages", "targets", "envs"):
        shutil.copytree(ROOT / name, checkout / name, ignore=shutil.ignore_patterns("__pycache__"))
    for double in (ROOT / "tests/e2e/doubles").glob("*.py"):
        shutil.copyfile(double, checkout / "stages" / double.name)
    return checkout
