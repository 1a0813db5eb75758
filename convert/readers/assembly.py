"""Put the calls that a reader finds together into a graph, gathering all that cannot be taken."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from spikemorph.graph import Graph, Input, InputError, Node, Op, Problem, UnsupportedError
from spikemorph.graph.calls import (
    Call,
    Edge,
    Pieces,
    Placed,
    Refusal,
    Wiring,
    takes_samples_anywhere,
)
from spikemorph.graph.nested import nested_nodes
from spikemorph.layers.shape import Identity, Reshape

from .budget import TooLargeError, bounded_sample, require_sample

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
    "loop": "unroll it, or export it as Scan, which says how many elements there are",
    "packpaddedsequence": "give padded sequences to the layer",
    "convtranspose": "use upsampling by a fixed factor and a convolution",
    "convtranspose2d": "use upsampling by a fixed factor and a convolution",
    "qlinearconv": "give the float model; spikemorph quantises it itself",
    "quantizelinear": "give the float model; spikemorph quantises it itself",
    "dequantizelinear": "give the float model; spikemorph quantises it itself",
}
_ROW = (
    2  # samples that a row may take the room of, to look at shapes and to bring weights into form
)
_NO_ROW = "change the model, or add a row in layers/"
# What rows, torch and numpy raise where a file's numbers or types do not fit together.
MISFITS = (
    ArithmeticError, AssertionError, AttributeError, LookupError, MemoryError, RuntimeError,
    TypeError, ValueError,
)  # fmt: skip


@dataclass(frozen=True)
class Unknown:
    """A value that could not be taken; `reason` says why where no problem was noted for it yet."""

    reason: str | None = None


Value = Edge | Unknown


class Assembly:
    """A graph in the making. `where` names the source in messages."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.nodes: list[Node] = []
        self.problems: list[Problem] = []
        self._unseen: list[tuple[str, str]] = []
        self._names: set[str] = set()
        self._counts: dict[str, int] = {}  # how often a name was wished for
        self._input: str | None = None
        self._spare: set[str] = set()  # parts of calls, in the graph if something reads them

    def enter(self, name: str, op: Input) -> Edge:
        """Add the input node.

        Raises
        ------
        InputError
            If one sample is too large to compute with.
        """
        try:
            require_sample(op.shape, "it is")
        except TooLargeError as error:
            raise self.too_large(name, "Input", error) from error
        self._input = self._unique(name)
        self.nodes.append(Node(self._input, op))
        return Edge(self._input, op.shape)

    def add(self, call: Call, row: Callable[[Call], Any] | None) -> list[Value]:
        """Add what one call computes, an edge for each output; on failure note the problem."""
        if row is None:
            repair = REPAIRS.get(call.op.rstrip("_").replace("_", "").lower(), _NO_ROW)
            return [self.refuse(call.name, call.op, "this operator is not supported", repair)]
        flat = [i for item in call.inputs for i in (item if isinstance(item, list) else [item])]
        if lost := [item for item in flat if isinstance(item, Unknown)]:
            reasons = dict.fromkeys(item.reason for item in lost if item.reason)
            for reason in reasons:
                self.refuse(call.name, call.op, reason, "remove what computes it from the model")
            if not reasons:
                self._unseen.append((call.name, call.op))
            return [Unknown()] * call.outputs
        axes = {edge.batch for edge in call.edges}
        if axes != {0} and not takes_samples_anywhere(row):
            reason = f"samples lie on axis {max(axes)} of its input"
            return [
                self.refuse(call.name, call.op, reason, "bring them to the first axis before it")
            ]
        try:
            with bounded_sample(_ROW):
                made = row(call)
            return self._edges(call, made)
        except Refusal as refusal:
            return [self.refuse(call.name, call.op, refusal.reason, refusal.repair)]
        except TooLargeError as error:
            raise self.too_large(call.name, call.op, error) from error
        except MISFITS as error:
            reason = f"its inputs do not fit: {first_line(error)}"
            return [self.refuse(call.name, call.op, reason, "check the model and its input shape")]

    def too_large(self, name: str, op: str, error: TooLargeError) -> InputError:
        """The end of a reading at a node that would take work out of proportion."""
        return InputError(f"{self.where}: node {name!r} ({op}): {error}; check the model")

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
            taken = [(node.name, type(node.op).__name__) for node in self.nodes]
            raise UnsupportedError(self.problems, taken, self._unseen)
        for item in outputs:
            if not isinstance(item, Edge):
                why = getattr(item, "reason", None) or "an output does not depend on the input"
                raise InputError(f"{self.where}: {why}; export the model again")
        if not outputs or self._input is None:
            raise InputError(f"{self.where}: the model has no output; export it again")
        names = tuple(item.name for item in outputs)
        graph = Graph(self._kept(outputs), (self._input,), names)
        require_finite(graph, self.where)
        return graph

    def _edges(self, call: Call, made: Any) -> list[Value]:
        if isinstance(made, Wiring):
            return self._wire(call.name, made)
        if isinstance(made, Pieces):
            return [
                self._chain(f"{call.name}.{index}", call.edges, (op,))
                for index, op in enumerate(made.ops)
            ]
        if isinstance(made, Placed):
            return [replace(self._chain(call.name, call.edges, made.ops), batch=made.batch)]
        return [self._chain(call.name, call.edges, made if isinstance(made, tuple) else (made,))]

    def _wire(self, name: str, made: Wiring) -> list[Value]:
        """Add the parts of one call; those that nothing reads are left out of the graph in the end."""
        known: dict[str, Edge] = {}
        for part in made.parts:
            edges = tuple(known[i] if isinstance(i, str) else i for i in part.inputs)
            wish = f"{name}.{part.name}" if part.name else name
            known[part.name] = self._chain(wish, edges, (part.op,))
            self._spare.add(known[part.name].name)
        return [
            Unknown(f"it reads {output}") if isinstance(output, str)
            else replace(known[output[0]], batch=output[1])
            for output in made.outputs
        ]  # fmt: skip

    def _kept(self, outputs: Sequence[Edge]) -> tuple[Node, ...]:
        """The nodes, but parts of a call that nothing reads."""
        alive = {item.name for item in outputs}
        for node in reversed(self.nodes):
            if node.name in alive or node.name not in self._spare:
                alive |= {node.name, *node.inputs}
        return tuple(node for node in self.nodes if node.name in alive)

    def _chain(self, wish: str, edges: tuple[Edge, ...], ops: tuple[Op, ...]) -> Edge:
        shapes = [tuple(edge.shape for edge in edges)]
        kept = []
        for op in ops:
            kept.append(_with_features(op, shapes[-1]))
            shapes.append((_shape_after(kept[-1], shapes[-1]),))
        for index, (op, shape) in enumerate(zip(kept, shapes[1:], strict=True)):
            last = index == len(ops) - 1
            name = self._unique(wish if last else f"{wish}.{index}")
            self.nodes.append(Node(name, op, tuple(edge.name for edge in edges)))
            edges = (Edge(name, shape[0], edges[0].batch),)
        return edges[0]

    def _unique(self, wish: str) -> str:
        name, count = wish, self._counts.get(wish, 1)
        while name in self._names:
            count += 1
            name = f"{wish}#{count}"
        self._counts[wish] = count
        self._names.add(name)
        return name


def _with_features(op: Op, shapes: Sequence[tuple[int, ...]]) -> Op:
    """An op that leaves a sample no axis, as one that leaves it one of a single feature."""
    if not isinstance(op, Reshape) or op.shape:
        return op
    return Identity() if shapes[0] == (1,) else Reshape((1,))


def _shape_after(op: Op, shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    inputs = [torch.empty((2, *shape), device="meta") for shape in shapes]
    with bounded_sample(2):
        batch, *shape = op(*inputs).shape
    if batch != 2 or 0 in shape:
        raise Refusal(
            f"it turns samples of shape {shapes[0]} into {tuple(shape)}", "check the model"
        )
    return tuple(shape)


def first_line(error: BaseException) -> str:
    """What went wrong, in one line."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def require_finite(graph: Graph, where: str) -> None:
    """Refuse weights that are NaN or infinite, and settings that are NaN, naming the first.

    Raises
    ------
    InputError
        With the node, the tensor and the index.
    """
    for name, node in nested_nodes(graph):
        for field in fields(node.op):
            value = getattr(node.op, field.name)
            if isinstance(value, float) and math.isnan(value):
                raise InputError(f"{where}: node {name!r}, {field.name} is nan; export it again")
            if isinstance(value, Tensor) and value.is_complex():
                raise InputError(f"{where}: node {name!r}, {field.name} is complex; use reals")
            if isinstance(value, Tensor) and not bool(torch.isfinite(value).all()):
                index = tuple(int(i) for i in (~torch.isfinite(value)).nonzero()[0])
                raise InputError(
                    f"{where}: node {name!r}, {field.name}{list(index)} is "
                    f"{float(value[index])}; train again or repair the checkpoint"
                )
