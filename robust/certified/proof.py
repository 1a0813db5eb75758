"""The proof for some images: by how much the true class stays ahead of each other one, at least."""

from dataclasses import dataclass

import torch
from torch import Tensor

from spikemorph.graph import Graph, GraphError
from spikemorph.graph.batches import samples_within
from spikemorph.graph.brief import brief_repr
from spikemorph.graph.interpret import require_rows, shapes
from spikemorph.graph.nested import nested_bodies
from spikemorph.graph.tables import on_boxes
from spikemorph.layers.boxes import Box, edge_boxes
from spikemorph.layers.integer_pass import reached
from spikemorph.layers.lines import Lines
from spikemorph.layers.margins import LinearEnd, margins
from spikemorph.layers.scan import nested_ranges

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

    @property
    def together(self) -> int:
        """How many samples are bounded at once."""
        return samples_within(_TOGETHER // 8, self._widest)

    @property
    def _widest(self) -> int:
        return max(torch.Size(shape).numel() for shape in shapes(self.graph).values())

    @torch.no_grad()
    def least(self, box: Box, labels: Tensor) -> tuple[Tensor, Tensor]:
        """(sample, class): what ``logit[label] - logit[j]`` is at least, in units of the read-out.

        By intervals alone, and by the method. Exactly that for all inputs in the box: every number is a
        whole one, or was rounded down. It is zero at the label; class j is refuted where it is above.
        """
        boxes = {node.name: own for node, own in edge_boxes(self.graph, box)}
        plain = margins(self.graph, boxes, labels)
        if self.method == "intervals":
            return plain, plain
        found, lines = plain.clone(), Lines(self.graph, boxes)
        own = torch.zeros_like(found).scatter(1, labels[:, None], 1.0) > 0
        which, rival = ((found <= 0) & ~own).nonzero(as_tuple=True)
        size = max(1, _TOGETHER // self._widest)
        for start in range(0, len(which), size):
            pair = which[start : start + size], rival[start : start + size]
            better = self._by_lines(lines, labels, *pair, classes=found.shape[1])
            found[pair] = torch.maximum(found[pair], better)
        return plain, found

    def _by_lines(
        self, lines: Lines, labels: Tensor, which: Tensor, rival: Tensor, *, classes: int
    ) -> Tensor:
        apart = torch.zeros(len(which), classes, dtype=torch.float64)
        apart.scatter_(1, labels[which][:, None], 1.0).scatter_(1, rival[:, None], -1.0)
        return lines.least(self.graph.outputs[0], which, apart)
