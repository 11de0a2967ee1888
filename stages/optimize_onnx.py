"""ONNX -> the same function in fewer operators, shaped so that a quantizer finds what it can quantize."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field, JsonValue

from stages._calibration import INPUT, required_inputs
from stages._carried import carried
from stages._onnx_attention import fuse_attention
from stages._onnx_batchnorm import Outcome, fold
from stages._onnx_equalize import equalize
from stages._onnx_file import graph_facts, operators, precision_of, read, refuse_too_large, write
from stages._onnx_graph import Graph
from stages._onnx_parity import compared, refuse_beyond, runtime
from stages._onnx_session import opened, options
from stages.base import Artifact, Context, Produced, Refused, Stage


class OptimizeOnnx(Stage):
    """Fold constants, fuse, infer shapes, fold BatchNorms that stand behind a ReLU, and even out weight ranges."""

    consumes: ClassVar[frozenset[str]] = frozenset({"onnx"})
    produces: ClassVar[str] = "onnx"
    env: ClassVar[str] = "onnx"
    extra_inputs: ClassVar[frozenset[str]] = frozenset({INPUT})

    slim: bool = Field(True, description="onnxslim: constant folding, shape inference, common subexpressions")
    fold_batchnorm: bool = Field(True, description="BatchNorm behind a ReLU into the layers around it, where exact")
    equalize: bool = Field(
        False, description="weight ranges of channels evened out across layers: for quantizers with one scale a tensor"
    )
    fuse: Literal["none", "basic", "extended"] = Field(
        "basic",
        description="ONNX Runtime's own optimizer, kept in the file; `extended` writes operators only it knows, "
        "and leaves a quantizer less to find",
    )
    fuse_attention: bool = Field(
        False,
        description="self-attention of a text encoder in one operator that only ONNX Runtime knows: faster, above all "
        "ahead of `mode: dynamic`; static quantizers do not see into it",
    )
    tolerance: float = Field(1e-4, gt=0, description="greatest difference allowed, as a share of the outputs' scale")

    def needs(self) -> frozenset[str]:
        """Real inputs, on which the result has to say the same."""
        return frozenset({INPUT})

    def run(self, model: Artifact, context: Context) -> Produced:
        """Write model.onnx.

        Raises:
            Refused: no calibration examples, a damaged model, no attention where it is to be fused, or a result that
                differs beyond the tolerance.
        """
        examples = required_inputs(context, "optimize_onnx")
        original = read(model.path)
        refuse_too_large(original, "optimize_onnx")
        before, precision = operators(original), precision_of(original)
        (context.scratch / "original").mkdir()
        unoptimized = runtime(write(original, context.scratch / "original"), context.threads)
        context.progress(0, 2, "rewriting")
        rewritten, outcome, rewrites = self._rewritten(original, context)
        file = write(rewritten, context.out)
        context.progress(1, 2, "comparing")
        parity = compared(unoptimized, runtime(file, context.threads), examples, unoptimized.names)
        refuse_beyond(
            parity, self.tolerance, "the optimized graph does not agree", "turn its options off one by one to see which"
        )
        facts = {**graph_facts(rewritten, precision), "operators_before": {**before}, **_told(outcome), **rewrites}
        return Produced(facts={**carried(model, context.out), **facts, "parity": parity.facts()})

    def _rewritten(self, model: Any, context: Context) -> tuple[Any, Outcome, dict[str, JsonValue]]:
        graph = Graph(model)
        if self.slim:
            graph = Graph(_slimmed(graph.model))
        outcome = fold(graph) if self.fold_batchnorm else Outcome((), {}, {})
        rewrites: dict[str, JsonValue] = {"equalized": {**equalize(graph)}} if self.equalize else {}
        if self.fuse_attention:
            rewrites["attention_fused"] = _attention_fused(graph)
        graph.prune()
        fused = graph.model if self.fuse == "none" else _fused(graph.model, self.fuse, context)
        return fused, outcome, rewrites


def _attention_fused(graph: Graph) -> int:
    if not (found := fuse_attention(graph)):
        raise Refused(
            "`fuse_attention` finds no self-attention over `attention_mask` in this graph", "leave the option out"
        )
    return found


def _slimmed(model: Any) -> Any:
    import onnxslim

    return onnxslim.slim(model)


def _fused(model: Any, level: Literal["basic", "extended"], context: Context) -> Any:
    """What ONNX Runtime makes of the graph when it loads it at that level."""
    folder = context.scratch / "fused"
    folder.mkdir()
    unfused = write(model, context.scratch)
    settings = options(context.threads, level)
    settings.optimized_model_filepath = str(folder / unfused.name)
    opened(unfused, settings)
    return _without_paths(read(folder))


def _without_paths(model: Any) -> Any:
    """ONNX Runtime writes nothing of the machine into the file but its own name and version."""
    del model.metadata_props[:]
    return model


def _told(outcome: Outcome) -> dict[str, JsonValue]:
    return {
        "batchnorm_folded": list(outcome.folded),
        "batchnorm_shift_kept": {**outcome.shifts_kept},
        "batchnorm_kept": {**outcome.kept},
    }
