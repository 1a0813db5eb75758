"""Boxes of an integer network's nodes in the fastest numbers that cannot round them."""

from collections.abc import Callable
from functools import partial

import torch

from spikemorph.graph import Graph, Node
from spikemorph.graph.interpret import shapes
from spikemorph.graph.tables import on_boxes
from spikemorph.graph.traits import Recurs, Weighted
from spikemorph.layers.boxes import Box, edge_boxes, rising
from spikemorph.layers.carriers import Products, float_carrier
from spikemorph.layers.integer_pass import reached, ready
from spikemorph.layers.ladder import Ladder
from spikemorph.layers.ranges import Range, edge_ranges

CPU = torch.device("cpu")


class WholeBoxes:
    """What `edge_boxes` gives of an integer graph, exactly, in carriers (`layers.carriers`).

    Sums of a weighted layer are taken of ``lower + upper`` and ``upper - lower``, so that there are no
    halves; that takes one bit more than the layer itself.

    Raises
    ------
    GraphError
        If a node's sums may pass 52 bits; it is named. Those inside recurrent layers are the caller's
        to check.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph, self._products = graph, Products()
        self._bounds, self._sizes = edge_ranges(graph, reached), shapes(graph)
        self._rows = {node.name: self._row(node) for node in graph.nodes if node.inputs}

    def __call__(self, box: Box) -> dict[str, Box]:
        """By node, for inputs in a box of grid points."""
        visits = edge_boxes(self.graph, box, lambda node, *boxes: self._rows[node.name](*boxes))
        return {node.name: own for node, own in visits}

    def _row(self, node: Node) -> Callable[..., Box]:
        op, bound = node.op, self._bounds[node.name]
        reads, shape = [self._bounds[name] for name in node.inputs], self._sizes[node.inputs[0]]
        if isinstance(op, Ladder):
            return partial(rising, ready(node, reads, bound, shape, self._products))
        kind = float_carrier(2 * max(bound.load, bound.peak), node.name)
        kind = torch.float64 if isinstance(op, Recurs) else kind  # sums inside may be wider
        if isinstance(op, Weighted):
            return self._weighted(op, reads[0], bound, shape, kind)
        return lambda *boxes: on_boxes[type(op)](op, *(box.to(kind) for box in boxes))

    def _weighted(
        self, op: Weighted, read: Range, bound: Range, shape: tuple[int, ...], kind: torch.dtype
    ) -> Callable[[Box], Box]:
        twice = 2 * read.peak, 2 * bound.load
        signed = self._products.of(op, shape, twice, CPU)
        sizes = self._products.of(op.having(weight=op.weight.abs()), shape, twice, CPU)
        bias = None if op.bias is None else op.spread(op.bias).to(kind)

        def row(box: Box) -> Box:
            middle, reach = signed(box.lower + box.upper), sizes(box.upper - box.lower)
            lower, upper = (middle - reach).to(kind) / 2, (middle + reach).to(kind) / 2
            return Box(lower, upper) if bias is None else Box(lower + bias, upper + bias)

        return row
