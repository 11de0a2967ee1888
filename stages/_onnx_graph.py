"""An ONNX graph as a rewrite sees it: constant weights as arrays, who makes a tensor and who uses it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.generic]
Exact = NDArray[np.float64]


class Graph:
    """A view of a ModelProto that is edited in place; weights that lie in Constant nodes become initializers."""

    def __init__(self, model: Any) -> None:
        self.model, self.proto = model, model.graph
        _lift_constants(self.proto)
        _name_nodes(self.proto)
        self.weights = {tensor.name: tensor for tensor in self.proto.initializer}
        self.refresh()

    def refresh(self) -> None:
        """Look at the nodes anew after an edit."""
        nodes = list(self.proto.node)
        self.producer = {name: node for node in nodes for name in node.output if name}
        self.consumers: dict[str, list[Any]] = {}
        for node in nodes:
            for name in node.input:
                self.consumers.setdefault(name, []).append(node)
        self.kept = {value.name for value in self.proto.output} | set(_used_inside(nodes))

    def shapes(self) -> dict[str, tuple[int | None, ...]]:
        """Inferred shapes by tensor; None for an axis that is not fixed."""
        import onnx

        inferred = onnx.shape_inference.infer_shapes(self.model, data_prop=True).graph
        return {
            value.name: tuple(
                each.dim_value if each.HasField("dim_value") else None for each in value.type.tensor_type.shape.dim
            )
            for value in (*inferred.value_info, *inferred.input, *inferred.output)
            if value.type.tensor_type.HasField("shape")
        }

    def weight(self, node: Any, index: int) -> Array | None:
        """The constant that a node takes as its input of that number, or None."""
        import onnx

        name = node.input[index] if index < len(node.input) else ""
        found: Array | None = onnx.numpy_helper.to_array(self.weights[name]) if name in self.weights else None
        return found

    def set_weight(self, node: Any, index: int, value: Array) -> None:
        """Give the node a constant of its own; one that other nodes share stays as it is."""
        while len(node.input) <= index:
            node.input.append("")
        node.input[index] = self.constant(f"{node.name}.{index}", value)

    def constant(self, wanted: str, value: Array) -> str:
        """Add an initializer; its name."""
        import onnx

        name = wanted
        while name in self.weights or name in self.producer:
            name += "_"
        self.proto.initializer.append(onnx.numpy_helper.from_array(np.ascontiguousarray(value), name))
        self.weights[name] = self.proto.initializer[-1]
        return name

    def bypass(self, node: Any) -> None:
        """Remove a node; who used its first output gets its first input."""
        for user in self.proto.node:
            for index, name in enumerate(user.input):
                if name == node.output[0]:
                    user.input[index] = node.input[0]
        self.proto.node.remove(node)
        self.refresh()

    def replace(self, node: Any, new: Any) -> None:
        """Put another node in a node's place."""
        at = list(self.proto.node).index(node)
        self.proto.node.remove(node)
        self.proto.node.insert(at, new)
        self.refresh()

    def insert_behind(self, node: Any, operator: str, *constants: str) -> None:
        """Let whoever used the node's output use `operator(output, *constants)` instead."""
        import onnx

        output = node.output[0]
        node.output[0] = f"{output}.before_{operator}"
        made = onnx.helper.make_node(operator, [node.output[0], *constants], [output], f"{node.name}.{operator}")
        self.proto.node.insert(list(self.proto.node).index(node) + 1, made)
        self.refresh()

    def prune(self) -> None:
        """Forget initializers that nothing uses."""
        used = {name for node in self.proto.node for name in node.input} | self.kept
        unused = [tensor for tensor in self.proto.initializer if tensor.name not in used]
        fed = [value for value in self.proto.input if value.name in {tensor.name for tensor in unused}]
        for tensor in unused:
            self.proto.initializer.remove(tensor)
        for value in fed:
            self.proto.input.remove(value)


def attributes(node: Any) -> dict[str, Any]:
    """A node's attributes as Python values."""
    import onnx

    return {each.name: onnx.helper.get_attribute_value(each) for each in node.attribute}


def lifted(model: Any) -> int:
    """Turn Constant nodes into initializers, in place; how many there were."""
    return _lift_constants(model.graph)


def _lift_constants(graph: Any) -> int:
    import onnx

    found = [node for node in graph.node if node.op_type == "Constant" and attributes(node).keys() <= _DENSE]
    for node in found:
        (value,) = attributes(node).values()
        dense = value if isinstance(value, onnx.TensorProto) else onnx.numpy_helper.from_array(_array(value))
        graph.initializer.append(dense)
        graph.initializer[-1].name = node.output[0]
        graph.node.remove(node)
    return len(found)


_DENSE = frozenset({"value", "value_float", "value_floats", "value_int", "value_ints"})


def _array(value: Any) -> Array:
    made = np.asarray(value)
    return made.astype(np.int64 if made.dtype.kind in "iu" else np.float32)


def _name_nodes(graph: Any) -> None:
    """A node is named in a config's `exclude` and in messages."""
    taken = {node.name for node in graph.node}
    for index, node in enumerate(graph.node):
        if not node.name:
            name = f"{node.op_type}_{index}"
            node.name = name if name not in taken else f"{name}_"
            taken.add(node.name)


def _used_inside(nodes: Iterable[Any]) -> Iterable[str]:
    """Tensors that the bodies of If, Loop and Scan use from outside."""
    for node in nodes:
        for attribute in node.attribute:
            for inner in [attribute.g] if attribute.HasField("g") else list(attribute.graphs):
                yield from (name for each in inner.node for name in each.input)
                yield from (value.name for value in inner.output)
                yield from _used_inside(inner.node)
