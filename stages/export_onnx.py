"""torch or Hugging Face -> ONNX: torch's dynamo exporter, checked against the module on real inputs."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field, JsonValue

from stages._calibration import INPUT, required_inputs
from stages._carried import carried
from stages._inputs import Feed
from stages._onnx_file import graph_facts, read, write
from stages._onnx_float16 import halved
from stages._onnx_parity import compared, refuse_beyond, runtime, spread
from stages._tokenizer import FILE, padding_id
from stages._tokens import TEXT
from stages._torch_model import called, input_names, load
from stages.base import Artifact, Context, Produced, Refused, Stage

TOLERANCE = {"float32": 1e-4, "float16": 2e-2}
_LARGEST_BATCH, _LONGEST_SEQUENCE = 1024, 512


class ExportOnnx(Stage):
    """Export a torch module with a dynamic batch; a graph that does not say what the module says is refused."""

    consumes: ClassVar[frozenset[str]] = frozenset({"torch", "hf"})
    produces: ClassVar[str] = "onnx"
    env: ClassVar[str] = "onnx"
    extra_inputs: ClassVar[frozenset[str]] = frozenset({INPUT})

    opset: int = Field(20, ge=18, le=23, description="version of the standard operators")
    precision: Literal["float32", "float16"] = Field("float32", description="of the weights; inputs stay float32")
    tolerance: float | None = Field(
        None, gt=0, description="greatest difference allowed, as a share of the outputs' scale; by precision if null"
    )

    def needs(self) -> frozenset[str]:
        """Real inputs, on which the result has to say the same."""
        return frozenset({INPUT})

    def run(self, model: Artifact, context: Context) -> Produced:
        """Write model.onnx.

        Raises:
            Refused: no calibration examples, a module that cannot be built or traced, or a difference over tolerance.
        """
        import torch

        torch.set_num_threads(context.threads)
        examples = required_inputs(context, "export_onnx")
        context.progress(0, 3, "building the module")
        module = load(model.path)
        context.progress(1, 3, "exporting")
        names = input_names(module)
        exported = _exported(module, spread(examples, 2, names)[0], self.opset)
        file = write(halved(exported) if self.precision == "float16" else exported, context.out)
        context.progress(2, 3, "comparing with torch")
        candidate = runtime(file, context.threads)
        parity = compared(lambda feed: called(module, *feed.values()), candidate, examples, names)
        refuse_beyond(
            parity,
            self.tolerance or TOLERANCE[self.precision],
            f"the exported graph does not say what the module says in {self.precision}",
            "try another `opset`, or raise `tolerance` if you accept that",
        )
        facts = graph_facts(read(context.out), self.precision)
        padding: dict[str, JsonValue] = {"padding_id": padding_id(model.path)} if (model.path / FILE).is_file() else {}
        return Produced(facts={**carried(model, context.out), **padding, **facts, "parity": parity.facts()})


def _exported(module: Any, feed: Feed, opset: int) -> Any:
    """A ModelProto whose inputs and outputs have a first axis named `batch`, and token ids a second, `sequence`."""
    import torch

    batch = torch.export.Dim("batch", min=1, max=_LARGEST_BATCH)
    sequence = torch.export.Dim("sequence", min=1, max=_LONGEST_SEQUENCE)
    try:
        program = torch.onnx.export(
            module,
            tuple(torch.from_numpy(np.ascontiguousarray(each)) for each in feed.values()),
            dynamo=True,
            dynamic_shapes=tuple({0: batch, 1: sequence} if name in TEXT else {0: batch} for name in feed),
            input_names=list(feed),
            output_names=list(called(module, *feed.values())),
            opset_version=opset,
            external_data=False,
            verbose=False,
        )
    except torch.onnx.OnnxExporterError as error:
        raise _not_exported(error) from error
    return program.model_proto


def _not_exported(error: Exception) -> Refused:
    """The exporter's own message is pages long; the last cause says what it was."""
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    what = next((line.strip() for line in str(cause).splitlines() if line.strip()), type(cause).__name__)
    return Refused(
        f"torch cannot export the module: {type(cause).__name__}: {what}",
        "the log has the whole report; control flow on tensor values and a fixed batch size are what usually stops it",
    )
