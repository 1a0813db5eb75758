"""Put the calls that a reader finds together into a graph, gathering all that cannot be taken."""

from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor

from spikemorph.graph import Graph, Input, InputError, Node, Op, Problem, UnsupportedError
from spikemorph.graph.calls import Call, Edge, Refusal

REPAIRS = {  # what to do about operators that users meet often
    "gelu": "it is not monotone: replace it by ReLU and fine-tune",
    "silu": "it is not monotone: replace it by ReLU and fine-tune",
    "hardswish": "it is not monotone: replace it by ReLU and fine-tune",
    "elu": "replace it by ReLU or LeakyReLU and fine-tune",
    "selu": "replace it by ReLU or LeakyReLU and fine-tune",
    "lrn": "local response normalisation is not supported: remove it and fine-tune",
    "layernorm": "replace it by batch normalisation and fine-tune",
    "layernormalization": "replace it by batch normalisation and fine-tune",
    "instancenormalization": "replace it by batch normalisation and fine-tune",
    "groupnorm": "replace it by batch normalisation and fine-tune",
    "lstm": "recurrent layers are not read yet",
    "gru": "recurrent layers are not read yet",
    "rnn": "recurrent layers are not read yet",
}
_NO_ROW = "change the model, or add a row in layers/"


class Unknown:
    """The output of a node that could not be taken."""


class Assembly:
    """A graph in the making. `where` names the source in messages."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.nodes: list[Node] = []
        self.problems: list[Problem] = []
        self._names: set[str] = set()
        self._input: str | None = None

    def enter(self, name: str, op: Input) -> Edge:
        """Add the input node."""
        self._input = self._unique(name)
        self.nodes.append(Node(self._input, op))
        return Edge(self._input, op.shape)

    def add(self, call: Call, row: Callable[[Call], Any] | None) -> Edge | Unknown:
        """Add what one call computes; on failure note the problem and go on."""
        if row is None:
            repair = REPAIRS.get(call.op.rstrip("_").replace("_", "").lower(), _NO_ROW)
            return self.refuse(call.name, call.op, "this operator is not supported", repair)
        flat = [i for item in call.inputs for i in (item if isinstance(item, list) else [item])]
        if any(isinstance(item, Unknown) for item in flat):
            return Unknown()
        try:
            made = row(call)
            ops: tuple[Op, ...] = made if isinstance(made, tuple) else (made,)
            return self._chain(call, ops)
        except Refusal as refusal:
            return self.refuse(call.name, call.op, refusal.reason, refusal.repair)
        except (RuntimeError, ValueError, IndexError, TypeError, AttributeError) as error:
            reason = f"its inputs do not fit: {str(error).splitlines()[0]}"
            return self.refuse(call.name, call.op, reason, "check the model and its input shape")

    def refuse(self, name: str, op: str, reason: str, repair: str) -> Unknown:
        """Note a node that cannot be taken."""
        self.problems.append(Problem(name, op, reason, repair))
        return Unknown()

    def graph(self, outputs: Sequence[Any]) -> Graph:
        """The graph, checked.

        Raises
        ------
        UnsupportedError
            Naming every node that was refused.
        InputError
            If an output does not depend on the input, or a weight is NaN or infinite.
        """
        if self.problems:
            raise UnsupportedError(self.problems)
        if not outputs or not all(isinstance(item, Edge) for item in outputs):
            raise InputError(f"{self.where}: an output does not depend on the input")
        assert self._input is not None
        graph = Graph(tuple(self.nodes), (self._input,), tuple(item.name for item in outputs))
        require_finite(graph, self.where)
        return graph

    def _chain(self, call: Call, ops: tuple[Op, ...]) -> Edge:
        edges = call.edges
        shape = tuple(edge.shape for edge in edges)
        for index, op in enumerate(ops):
            last = index == len(ops) - 1
            name = self._unique(call.name if last else f"{call.name}.{index}")
            out = _shape_after(op, shape)
            self.nodes.append(Node(name, op, tuple(edge.name for edge in edges)))
            edges, shape = (Edge(name, out),), (out,)
        return edges[0]

    def _unique(self, wish: str) -> str:
        name, count = wish, 1
        while name in self._names:
            count += 1
            name = f"{wish}#{count}"
        self._names.add(name)
        return name


def _shape_after(op: Op, shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    inputs = [torch.empty((2, *shape), device="meta") for shape in shapes]
    return tuple(op(*inputs).shape[1:])


def require_finite(graph: Graph, where: str) -> None:
    """Refuse weights that are NaN or infinite, naming the first.

    Raises
    ------
    InputError
        With the node, the tensor and the index.
    """
    for node in graph.nodes:
        for field in fields(node.op):
            value = getattr(node.op, field.name)
            if isinstance(value, Tensor) and not bool(torch.isfinite(value).all()):
                index = tuple(int(i) for i in (~torch.isfinite(value)).nonzero()[0])
                raise InputError(
                    f"{where}: node {node.name!r}, {field.name}{list(index)} is "
                    f"{float(value[index])}; train again or repair the checkpoint"
                )
