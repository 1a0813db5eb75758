"""A graph over whole sequences, as what it does with one element: what a stream runs.

The sequence becomes one of a single element. That means the same where every op looks at one element at
a time, recurrent layers apart, and where what is read in the end is the last element, or each.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from spikemorph.graph import Graph, Input, Node, Op, Problem, UnsupportedError
from spikemorph.graph.calls import Refusal
from spikemorph.graph.interpret import shapes
from spikemorph.graph.tables import one_at_a_time
from spikemorph.graph.traits import Recurs, Shape

from .activation import Activation
from .affine import ScaleShift
from .convolution import Convolution
from .joining import Add, Concat
from .ladder import Ladder
from .multiply import Multiply
from .readout import Readout
from .shape import Identity, Reshape, Transpose
from .slicing import Narrow

Made = tuple[Op, int | None]
_WHY = "it looks at several elements of the sequence at a time"
_REPAIR = "run whole sequences, or put a recurrent layer in its place"


@dataclass(frozen=True)
class Places:
    """Where elements lie.

    Parameters
    ----------
    axis : int
        Of every input (it counts the batch).
    count : int
        How many elements there are.
    shapes : tuple of tuple of int
        One sample's, of every input.
    """

    axis: int
    count: int
    shapes: tuple[Shape, ...]


def one_element(graph: Graph) -> Graph:
    """The graph for sequences of one element; recurrent layers, given their state, go on from there.

    Elements lie along the first axis of a sample. The graph's names stay.

    Raises
    ------
    UnsupportedError
        Naming every node that looks at several elements at a time, or at the end of the sequence first.
    """
    sizes, entry = shapes(graph), graph.entry
    count, axes = (*entry.shape, 0)[0], dict[str, int | None]()
    nodes, found = list[Node](), list[Problem]()
    for node in graph.nodes:
        if isinstance(node.op, Input):
            nodes.append(replace(node, op=replace(entry, shape=(1, *entry.shape[1:]))))
            axes[node.name] = 1
            continue
        places = {axes[name] for name in node.inputs}
        try:
            op, axes[node.name] = _at_one(node, places, count, [sizes[n] for n in node.inputs])
            nodes.append(replace(node, op=op))
        except Refusal as error:
            found.append(Problem(node.name, type(node.op).__name__, error.reason, error.repair))
            axes[node.name] = 1
    if not entry.shape or found:
        nothing = Problem(graph.inputs[0], "Input", "samples have no axis of elements", _REPAIR)
        raise UnsupportedError(found or [nothing])
    return graph.with_nodes(nodes)


def require_forward(graph: Graph) -> None:
    """Refuse samples of different lengths where what stands behind their ends would be looked at.

    Raises
    ------
    UnsupportedError
        As `one_element` does.
    """
    one_element(graph)


def _at_one(node: Node, places: set[int | None], count: int, reads: Sequence[Shape]) -> Made:
    if places == {None}:
        return node.op, None
    if len(places) != 1:
        raise Refusal("it joins single elements and sequences", _REPAIR)
    (axis,) = places
    assert axis is not None
    if type(node.op) not in one_at_a_time:
        raise Refusal(_WHY, _REPAIR)
    made: Made = one_at_a_time[type(node.op)](node.op, Places(axis, count, tuple(reads)))
    return made


@one_at_a_time(Recurs)
def _recurs(op: Recurs, at: Places) -> Made:
    if op.axis != at.axis:
        raise Refusal("it runs along another axis than that of the elements", _REPAIR)
    if op.reverse:
        raise Refusal("it begins at the last element, which a stream has not", _REPAIR)
    return op, at.axis


@one_at_a_time(Narrow)
def _narrow(op: Narrow, at: Places) -> Made:
    """Of the last element alone; or a part of every element."""
    if op.axis != at.axis:
        return op, at.axis
    if (op.start, op.length) != (at.count - 1, 1):
        raise Refusal("it takes others than the last element", _REPAIR)
    return Narrow(op.axis, 0, 1), None


@one_at_a_time(Reshape)
def _reshape(op: Reshape, at: Places) -> Made:
    (source,) = at.shapes
    if at.axis != 1 or op.shape[:1] != source[:1]:
        raise Refusal(_WHY, _REPAIR)
    return Reshape((1, *op.shape[1:])), 1


@one_at_a_time(Transpose)
def _transpose(op: Transpose, at: Places) -> Made:
    return op, op.order.index(at.axis)


@one_at_a_time(Concat)
def _concat(op: Concat, at: Places) -> Made:
    if op.axis == at.axis:
        raise Refusal(_WHY, _REPAIR)
    return op, at.axis


@one_at_a_time(Identity, Multiply, Activation)
def _single(op: Op, at: Places) -> Made:
    """It computes with numbers of one place."""
    return op, at.axis


@one_at_a_time(Convolution)
def _convolution(op: Convolution, at: Places) -> Made:
    """Positions are looked at one by one where its kernel has one cell along their axis."""
    along = at.axis - 2
    plain = op.bias is None or op.bias.dim() == 1
    if along < 0 or not plain or op.weight.shape[at.axis] != 1:
        raise Refusal(_WHY, _REPAIR)
    if op.stride[along] != 1 or any(op.padding[along]):
        raise Refusal("it leaves elements out, or puts some in", _REPAIR)
    return op, at.axis


def _alike(read: Callable[[Any], Sequence[Tensor | None]]) -> Callable[[Any, Places], Made]:
    """A row for ops whose constants are the same for all elements."""

    def row(op: Any, at: Places) -> Made:
        if any(t is not None and t.dim() > 0 and t.shape[at.axis - 1] != 1 for t in read(op)):
            raise Refusal("it treats elements in different ways", _REPAIR)
        return op, at.axis

    return row


def _along_channels(op: Any, at: Places, *values: Tensor | None) -> Made:
    if at.axis == 1 and any(v is not None and len(v) != 1 for v in values):
        raise Refusal("it treats elements in different ways", _REPAIR)
    return op, at.axis


@one_at_a_time(Ladder)
def _ladder(op: Ladder, at: Places) -> Made:
    line = op.line
    return _along_channels(op, at, op.rungs, None if line is None else line.threshold)


@one_at_a_time(Readout)
def _readout(op: Readout, at: Places) -> Made:
    return _along_channels(op, at, op.factors)


one_at_a_time(Add)(_alike(lambda op: op.factors))
one_at_a_time(ScaleShift)(_alike(lambda op: (op.gain, op.shift)))
