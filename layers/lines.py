"""Linear bounds in whole numbers, passed backwards from outputs to what they are made of.

``sum over nodes of A value + c <= what is bounded`` for all inputs of a box (CROWN, Zhang et al., NeurIPS
2018). Coefficients and constants are whole numbers of units ``2**-fine``, so products with whole weights
are exact in float64 while they stay narrow, which is checked. What is not linear is enclosed: by slopes
that may be any numbers, since the constants that make them hold are found exactly for the slopes taken,
and rounded down (`enclosures.py`). So a bound holds as it stands, with no error to be added.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from spikemorph.graph import Graph, Node
from spikemorph.graph.tables import on_boxes, on_increments, on_lines

from .boxes import Box
from .margins import is_linear, on_floats

WIDEST = 2.0**50  # of sums as computed: then the true ones, halves among them, are exact
_BITS = 30  # of the largest coefficient at the start
_COARSER = 6  # bits less at each try that was too wide

# Of pairs (pair,) of samples and coefficients (pair, *shape) of an op's output: those of each of its
# inputs, and a constant (pair,).
Passing = Callable[[Tensor, Tensor], tuple[Sequence[Tensor], Tensor]]


class TooWide(Exception):
    """Sums that float64 may round: to be tried in coarser units."""


def narrow(load: Tensor | float) -> None:
    """Raise `TooWide` unless every sum of absolute values is exact."""
    if float(load if isinstance(load, float) else load.max()) >= WIDEST:
        raise TooWide


@dataclass(frozen=True, eq=False)
class Lines:
    """Linear lower bounds on a graph whose nodes have these boxes.

    Parameters
    ----------
    graph : Graph
        An integer graph.
    boxes : mapping
        (sample, *shape) of every node, by name: whole numbers in float64.
    """

    graph: Graph
    boxes: Mapping[str, Box]

    def __post_init__(self) -> None:
        object.__setattr__(self, "_known", {})

    def least(self, node: str, which: Tensor, coefficients: Tensor) -> Tensor:
        """(pair,) the best lower bound found of ``sum of coefficients * value`` of a node.

        Parameters
        ----------
        node : str
            Its name.
        which : Tensor
            (pair,) int64: the sample of each pair.
        coefficients : Tensor
            (pair, *shape) whole numbers, float64.

        Never below what the boxes of the nodes on the way give. Minus infinity where sums are too wide
        in any units.
        """
        largest = max(1.0, float(coefficients.abs().max()))
        fine = _BITS - int(torch.tensor(largest, dtype=torch.float64).log2().ceil())
        while fine >= 0:
            try:
                return self._backwards(node, which, coefficients * 2.0**fine) / 2.0**fine
            except TooWide:
                fine -= _COARSER
        return torch.full((len(which),), -torch.inf, dtype=torch.float64)

    def _backwards(self, start: str, which: Tensor, coefficients: Tensor) -> Tensor:
        live, constant = {start: coefficients}, coefficients.new_zeros(len(which))
        best = self._met(live, which, constant)
        for node in reversed(self.graph.nodes):
            passing = self._passing(node) if node.name in live else None
            if passing is None:
                continue
            if not is_linear(node.op):
                best = torch.maximum(best, self._met(live, which, constant))
            parts, more = passing(which, live.pop(node.name))
            constant = constant + more
            narrow(constant.abs())
            for name, part in zip(node.inputs, parts, strict=True):
                live[name] = live[name] + part if name in live else part
        return torch.maximum(best, self._met(live, which, constant))

    def _met(self, live: Mapping[str, Tensor], which: Tensor, constant: Tensor) -> Tensor:
        """What the bound is at least, where every node that it reads is in its box."""
        total, load = constant, constant.abs()
        for name, part in live.items():
            middle, radius = (t[which] for t in (self.boxes[name].middle, self.boxes[name].radius))
            reach = (part.abs() * radius).flatten(1).sum(1)
            load = load + (part * middle).abs().flatten(1).sum(1) + reach
            total = total + (part * middle).flatten(1).sum(1) - reach
        narrow(load)
        return total

    def _passing(self, node: Node) -> Passing | None:
        """How bounds pass a node; None where they stop, at its box."""
        known: dict[str, Passing | None] = self._known  # type: ignore[attr-defined]
        if node.name not in known:
            boxes = [self.boxes[name] for name in node.inputs]
            if is_linear(node.op):
                known[node.name] = _linear(node, *boxes)
            else:
                row = on_lines.get(type(node.op))
                known[node.name] = row and row(node.op, *boxes)
        return known[node.name]


def _linear(node: Node, *boxes: Box) -> Passing:
    """Of an op that is linear but for what it adds."""
    shapes, op = [box.lower.shape[1:] for box in boxes], node.op
    with torch.enable_grad():
        ones = [torch.ones(1, *s, dtype=torch.float64, requires_grad=True) for s in shapes]
        spread = on_boxes[type(op)](op, *(Box(-r, r) for r in ones)).radius
        gains = torch.autograd.grad(spread.sum(), ones)
    gain = max(float(g.max()) for g in gains)
    added = on_floats(node, *(torch.zeros_like(r) for r in ones)).detach()

    def passing(which: Tensor, coefficients: Tensor) -> tuple[Sequence[Tensor], Tensor]:
        narrow(float(coefficients.abs().max()) * max(1.0, gain))
        with torch.enable_grad():
            zeros = [coefficients.new_zeros((len(which), *s)).requires_grad_() for s in shapes]
            made = on_increments[type(op)](op, *zeros)
            parts = torch.autograd.grad(made, zeros, coefficients)
        load = (coefficients * added).flatten(1)
        narrow(load.abs().sum(1))
        return parts, load.sum(1)

    return passing
