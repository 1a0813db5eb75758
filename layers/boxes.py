"""Boxes: lower and upper ends of what every number of a tensor may be, and how ops pass them on.

A row of `on_boxes` gives a box that holds what its op makes of anything in the boxes that it reads. Each
number of it is as tight as can be where an op's inputs vary apart from each other. Rows compute in the
number type of their boxes: with gradients on reals, where ends are as good as rounding leaves them; and
without any rounding on whole numbers in float64, where sums of absolute values stay below ``2**51``
(halves appear, of numbers below it).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from spikemorph.graph import Graph, GraphError, Input, Node, Op
from spikemorph.graph.brief import brief_repr
from spikemorph.graph.interpret import flow, require_rows
from spikemorph.graph.tables import on_boxes
from spikemorph.graph.traits import Fires, Moves, Pools, Weighted


@dataclass(frozen=True, eq=False)
class Box:
    """All tensors between two, number by number: both are (sample, *shape), ``lower <= upper``."""

    lower: Tensor
    upper: Tensor

    __repr__ = brief_repr

    @property
    def middle(self) -> Tensor:
        """Half way between the ends."""
        return (self.lower + self.upper) / 2

    @property
    def radius(self) -> Tensor:
        """How far each end is from the middle."""
        return (self.upper - self.lower) / 2

    def to(self, kind: torch.dtype) -> "Box":
        """The same in another number type."""
        return Box(self.lower.to(kind), self.upper.to(kind))

    def holds(self, x: Tensor) -> Tensor:
        """(sample,) bool: whether every number of `x` lies inside."""
        return ((x >= self.lower) & (x <= self.upper)).flatten(1).all(1)


def rising(function: Callable[..., Tensor], *boxes: Box) -> Box:
    """What a function that falls in none of its numbers makes of boxes."""
    return Box(function(*(b.lower for b in boxes)), function(*(b.upper for b in boxes)))


def monotone(function: Callable[[Tensor], Tensor], box: Box) -> Box:
    """What a function of single numbers makes of a box, if each place rises, or each falls."""
    ends = rising(function, box)
    return Box(torch.minimum(ends.lower, ends.upper), torch.maximum(ends.lower, ends.upper))


@on_boxes(Moves, Pools, Fires)
def _rising(op: Op, *boxes: Box) -> Box:
    return rising(op, *boxes)


@on_boxes(Weighted)
def _weighted(op: Weighted, box: Box) -> Box:
    """``W m + b`` with ``|W| r`` to either side, of a middle m and a radius r."""
    middle = op.products(box.middle)
    if op.bias is not None:
        middle = middle + op.spread(op.bias).to(middle)
    reach = op.having(weight=op.weight.abs()).products(box.radius)
    return Box(middle - reach, middle + reach)


def of_node(node: Node, *boxes: Box) -> Box:
    """A node's box by its op's row."""
    found: Box = on_boxes[type(node.op)](node.op, *boxes)
    return found


def edge_boxes(
    graph: Graph, box: Box, compute: Callable[..., Box] = of_node
) -> Iterator[tuple[Node, Box]]:
    """Every node with its box, where the graph reads something in `box`.

    Parameters
    ----------
    graph : Graph
        Of one input, which is in the units of the graph's own nodes: whole numbers of the grid for an
        integer graph.
    box : Box
        Of the input.
    compute : callable
        ``compute(node, *boxes)`` gives the box of a node that is not the input; rows by its op if not
        given. For ops as a module has learnt them: ``on_boxes[type(op)](op, *boxes)``.

    Raises
    ------
    GraphError
        If the graph has several inputs, or the box another shape than it.
    UnsupportedError
        Naming every node whose op passes no boxes.
    """
    require_rows(graph, on_boxes, "bounds do not pass it; certify a network without it")
    if (shape := tuple(box.lower.shape[1:])) != graph.entry.shape:
        raise GraphError(f"the input has shape {graph.entry.shape}, the box {shape}")

    def enter(node: Node, *boxes: Box) -> Box:
        return box if isinstance(node.op, Input) else compute(node, *boxes)

    yield from flow(graph, enter)
