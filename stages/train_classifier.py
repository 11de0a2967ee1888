"""torch -> torch: trains a small classifier from the weights that its function draws, where none can be fetched."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from stages._calibration import TRAINING, required
from stages._curve import curve_of
from stages._torch_model import load, save
from stages._torch_training import Manner, trained
from stages.base import Artifact, Context, Produced, Stage


class TrainClassifier(Stage):
    """Train on `data: training:`; the trained module is the reference of everything behind it."""

    consumes: ClassVar[frozenset[str]] = frozenset({"torch"})
    produces: ClassVar[str] = "torch"
    env: ClassVar[str] = "onnx"
    extra_inputs: ClassVar[frozenset[str]] = frozenset({TRAINING})
    device_bound: ClassVar[bool] = True  # sums in another order, and hundreds of steps later other weights
    trains: ClassVar[bool] = True

    epochs: int = Field(20, ge=1, description="passes over the training examples")
    batch: int = Field(32, ge=2, description="examples a step")
    learning_rate: float = Field(2e-3, gt=0, description="the highest; it falls to 0 along a cosine")
    weight_decay: float = Field(1e-2, ge=0, description="of AdamW")

    def run(self, model: Artifact, context: Context) -> Produced:
        """Write the module with its trained weights as safetensors.

        Raises:
            Refused: no training examples, a module that cannot be built, or a loss that became no number.
        """
        import torch

        torch.set_num_threads(context.threads)
        examples = required(context, "train_classifier", TRAINING)
        torch.manual_seed(context.seed)
        module = load(model.path)
        manner = Manner(**self.model_dump(include=set(Manner.model_fields)))
        told = trained(module, examples, manner, context.seed, context.progress, curve_of(context))
        save(module, model.path, context.out)
        return Produced(facts={**model.facts, "precision": "float32", "training": told})
