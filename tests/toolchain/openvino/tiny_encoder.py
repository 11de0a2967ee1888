"""A small text encoder as ONNX, with seeded weights: word embedding, attention, mean over the mask, unit length."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from stages._tokens import IDS, MASK, Tokens
from stages.base import Artifact

WORDS, WIDTH, HIDDEN, OPSET = 40, 32, 64, 20


def encoder(folder: Path) -> Artifact:
    """Of `input_ids` and `attention_mask`, any batch and any length, to `sentence_embedding` of shape (batch, 32)."""
    random = np.random.default_rng(0)

    def weights(*shape: int) -> np.ndarray:
        return random.normal(0, 1 / np.sqrt(shape[0]), shape).astype(np.float32)

    held = {name: weights(WIDTH, WIDTH) for name in ("wq", "wk", "wv")}
    held |= {"words": weights(WORDS, WIDTH) * 6, "up": weights(WIDTH, HIDDEN), "down": weights(HIDDEN, WIDTH)}
    held |= {"low": np.float32([-1e4]), "one": np.float32([1]), "root": np.float32([WIDTH**0.5])}
    held |= {"last": np.int64([-1]), "middle": np.int64([1])}
    nodes = [
        helper.make_node("Gather", ["words", IDS], ["x"], "words"),
        helper.make_node("Cast", [MASK], ["mask"], "mask", to=TensorProto.FLOAT),
        *(helper.make_node("MatMul", ["x", f"w{part}"], [part], part) for part in "qkv"),
        helper.make_node("Transpose", ["k"], ["kt"], "turned", perm=[0, 2, 1]),
        helper.make_node("MatMul", ["q", "kt"], ["alike"], "alike"),
        helper.make_node("Div", ["alike", "root"], ["scaled"], "scaled"),
        helper.make_node("Sub", ["one", "mask"], ["padding"], "padding"),
        helper.make_node("Mul", ["padding", "low"], ["hidden"], "hidden"),
        helper.make_node("Unsqueeze", ["hidden", "middle"], ["away"], "away"),
        helper.make_node("Add", ["scaled", "away"], ["masked"], "masked"),
        helper.make_node("Softmax", ["masked"], ["shares"], "shares", axis=-1),
        helper.make_node("MatMul", ["shares", "v"], ["attended"], "attended"),
        helper.make_node("Add", ["x", "attended"], ["sum"], "sum"),
        helper.make_node("MatMul", ["sum", "up"], ["wide"], "up"),
        helper.make_node("Gelu", ["wide"], ["active"], "gelu"),
        helper.make_node("MatMul", ["active", "down"], ["state"], "down"),
        helper.make_node("Unsqueeze", ["mask", "last"], ["column"], "column"),
        helper.make_node("Mul", ["state", "column"], ["kept"], "kept"),
        helper.make_node("ReduceSum", ["kept", "middle"], ["total"], "total", keepdims=0),
        helper.make_node("ReduceL2", ["total", "last"], ["length"], "length", keepdims=1),
        helper.make_node("Div", ["total", "length"], ["sentence_embedding"], "unit"),
    ]
    graph = helper.make_graph(
        nodes,
        "encoder",
        [helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "sequence"]) for name in (IDS, MASK)],
        [helper.make_tensor_value_info("sentence_embedding", TensorProto.FLOAT, ["batch", WIDTH])],
        [numpy_helper.from_array(value, name) for name, value in held.items()],
    )
    folder.mkdir()
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
    onnx.checker.check_model(made, full_check=True)
    (folder / "model.onnx").write_bytes(made.SerializeToString())
    (folder / "tokenizer.json").write_text("{}")
    return Artifact(kind="onnx", path=folder, digest="0", facts={"padding_id": 0})


def tokens(folder: Path, count: int = 60) -> Artifact:
    """Texts of 3 to 12 tokens as a `tokens` artifact, padded at their ends."""
    random = np.random.default_rng(1)
    lengths = random.integers(3, 13, count)
    mask = (np.arange(12)[None] < lengths[:, None]).astype(np.int64)
    folder.mkdir()
    Tokens(random.integers(1, WORDS, (count, 12)) * mask, mask, count, np.empty(0, dtype=np.int64)).save(folder)
    return Artifact(kind="tokens", path=folder, digest="0")
