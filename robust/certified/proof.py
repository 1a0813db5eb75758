"""The proof for some images: by how much the true class stays ahead of each other one, at least."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from spikemorph.graph import Graph, GraphError
from spikemorph.graph.batches import samples_within
from spikemorph.graph.brief import brief_repr
from spikemorph.graph.interpret import require_rows, shapes
from spikemorph.graph.nested import nested_bodies
from spikemorph.graph.tables import on_boxes
from spikemorph.layers.boxes import Box
from spikemorph.layers.integer_pass import reached
from spikemorph.layers.lines import Lines
from spikemorph.layers.margins import LinearEnd, margins
from spikemorph.layers.scan import nested_ranges

from .boxes import WholeBoxes

METHODS = ("intervals", "lines")
_TOGETHER = 2**23  # numbers of the widest edge, for all samples or pairs that are bounded at once
_BITS = 51  # of sums, less one for each linear node at the end: rows of weights that are multiplied
# there are at most twice the sums that each node alone may have, and their differences twice that


@dataclass(frozen=True, eq=False)
class Prover:
    """Bounds an integer network's answers, exactly.

    Parameters
    ----------
    graph : Graph
        An integer graph that ends in one logit for each class.
    method : str
        ``intervals``: a box for every node, from the input on. ``lines``: then, for classes that these
        leave open, linear bounds from the outputs back; each is the better of both.

    Raises
    ------
    UnsupportedError
        Naming every node that bounds do not pass.
    GraphError
        Naming the node whose sums may be too wide to be exact, or whose outputs are no classes.
    """

    graph: Graph
    method: str = "lines"

    __repr__ = brief_repr

    def __post_init__(self) -> None:
        for graph in (self.graph, *(body for _, body in nested_bodies(self.graph))):
            require_rows(graph, on_boxes, "certify a network without it")
        (last,) = self.graph.outputs
        bits = _BITS - LinearEnd(self.graph).depth
        for name, bound in nested_ranges(self.graph, reached).items():
            if (load := max(bound.load, bound.peak)) >= 2.0**bits:
                raise GraphError(
                    f"node {name!r}: its sums may reach {load:.3g}, beyond the {bits} bits in which "
                    "bounds are exact; use fewer weight bits or a coarser input grid"
                )
        if len(shape := shapes(self.graph)[last]) != 1 or shape[0] < 2:
            raise GraphError(
                f"node {last!r}: outputs of shape {shape} are no classes, one logit each"
            )

    @cached_property
    def boxes(self) -> WholeBoxes:
        """Of all nodes."""
        return WholeBoxes(self.graph)

    @property
    def together(self) -> int:
        """How many samples are bounded at once."""
        return samples_within(_TOGETHER // 8, self._widest)

    @property
    def _widest(self) -> int:
        return max(torch.Size(shape).numel() for shape in shapes(self.graph).values())

    @torch.no_grad()
    def verdict(self, box: Box, labels: Tensor) -> "Verdict":
        """What is proved of all inputs in a box, exactly: every bound is whole, or was rounded down."""
        boxes = {name: own.to(torch.float64) for name, own in self.boxes(box).items()}
        least = margins(self.graph, boxes, labels)
        own = torch.zeros_like(least).scatter(1, labels[:, None], 1.0) > 0
        least = least.masked_fill(own, torch.inf)
        plain = (least > 0).all(1)
        if self.method == "lines":
            lines = Lines(self.graph, boxes)
            known, rivals = least.sort(1)
            left = torch.arange(len(labels))
            for turn in range(rivals.shape[1] - 1):  # the worst rival first: who fails it is done
                left = left[known[left, turn] <= 0]
                pair = left, rivals[left, turn]
                least[pair] = torch.maximum(least[pair], self._by_lines(lines, labels, *pair))
                failed = least[pair] <= 0
                least[left[failed]] = torch.where(  # what was not tried says nothing
                    torch.arange(least.shape[1]) == pair[1][failed][:, None],
                    least[left[failed]],
                    torch.inf,
                )
                left = left[~failed]
        worst = least.min(1)
        return Verdict(plain, worst.values > 0, worst.indices, worst.values)

    def _by_lines(self, lines: Lines, labels: Tensor, which: Tensor, rival: Tensor) -> Tensor:
        (last,) = self.graph.outputs
        apart = torch.zeros(len(which), *shapes(self.graph)[last], dtype=torch.float64)
        apart.scatter_(1, labels[which][:, None], 1.0).scatter_(1, rival[:, None], -1.0)
        size = max(1, _TOGETHER // self._widest)
        parts = zip(which.split(size), apart.split(size), strict=True)
        return torch.cat(
            [lines.least(last, *part) for part in parts if len(part[0])] or [apart[:, 0]]
        )


@dataclass(frozen=True, eq=False)
class Verdict:
    """What is proved of some images.

    Parameters
    ----------
    intervals, proved : Tensor
        (sample,) bool: by intervals alone; by the method.
    rival : Tensor
        (sample,) int64: the class that stands in the way of the proof, or comes nearest to it.
    least : Tensor
        (sample,) float64: what the label's logit is ahead of the rival's, at least, in units of the
        read-out: above zero where it is proved.
    """

    intervals: Tensor
    proved: Tensor
    rival: Tensor
    least: Tensor

    __repr__ = brief_repr
