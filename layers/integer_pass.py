"""One pass of an integer network, in the fastest numbers that cannot round it.

`graph.interpret.run_integers` computes everything in int64 and is the definition; this is what the
package runs. Every node computes in the carrier that its bounds prove exact (carriers.py).
"""

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

from spikemorph.graph import Graph, Node
from spikemorph.graph.batches import batch_size, pieces
from spikemorph.graph.interpret import require_rows, shapes, walk
from spikemorph.graph.tables import on_integers
from spikemorph.graph.traits import Recurs, Weighted

from .carriers import Products, carrier
from .ladder import Ladder
from .ranges import Range, by_row, edge_ranges
from .readout import Readout
from .scan import inner_ranges
from .staircase import staircase, top_level
from .streaming import require_forward

Ready = Callable[..., Tensor]  # a node's output from its inputs


class IntegerPass:
    """An integer graph, ready to run on real inputs.

    Parameters
    ----------
    graph : Graph
        With one input that has a grid, and one output.
    products : Products, optional
        Those of another pass on graphs of the same layers, so that nothing is probed twice.

    Raises
    ------
    GraphError
        If a node's sums may pass 62 bits.
    UnsupportedError
        Naming every node whose op has no meaning on integers.
    """

    def __init__(self, graph: Graph, products: Products | None = None) -> None:
        require_rows(graph, on_integers, "quantise the graph first (spikemorph.quant)")
        self.graph = graph
        products, sizes = products or Products(), shapes(graph)
        bounds = edge_ranges(graph, reached)
        self._nodes: dict[str, Ready] = {}
        for node in graph.nodes[1:]:
            reads = [bounds[name] for name in node.inputs]
            given = sizes[node.inputs[0]]
            self._nodes[node.name] = ready(node, reads, bounds[node.name], given, products)

    def edges(self, x: Tensor, lengths: Tensor | None = None) -> Iterator[tuple[Node, Tensor]]:
        """Every node with its output, whole numbers in its carrier, for real inputs (sample, *shape).

        `lengths` (sample,) says how many elements each sample has, where not all are full.

        Raises
        ------
        UnsupportedError
            If there are lengths, and nodes look behind them.
        """
        grid = self.graph.entry.grid
        assert grid is not None
        if lengths is not None:
            require_forward(self.graph)

        def compute(node: Node, *inputs: Tensor) -> Tensor:
            return self._nodes[node.name](*inputs, **given_lengths(node, lengths))

        return walk(self.graph, grid.to_integers(x), compute)

    def __call__(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """(sample, *output shape) int64 sums of the read-out; see `edges`."""
        (wanted,) = self.graph.outputs
        (out,) = [output for node, output in self.edges(x, lengths) if node.name == wanted]
        return out.to(torch.int64)

    def outputs(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """(sample, *output shape) float64 real outputs, batch by batch."""
        op = self.graph[self.graph.outputs[0]].op
        assert isinstance(op, Readout)
        parts = pieces(x, lengths, batch_size(self.graph))
        return torch.cat([op.real(self(part, ends)) for part, ends in parts])


def given_lengths(node: Node, lengths: Tensor | None) -> dict[str, Tensor]:
    """What a ready node is told beside its inputs: how long samples are, if it runs along them."""
    return {"lengths": lengths} if lengths is not None and isinstance(node.op, Recurs) else {}


def reached(node: Node, *sources: Range) -> Range:
    """As `by_row`; a ladder without a top goes up to the level that its sums reach."""
    op = node.op
    if isinstance(op, Ladder) and op.smax is None:
        return Range.of(op.smin, top_level(op, sources[0].high))
    return by_row(node, *sources)


def ready(
    node: Node, sources: list[Range], bound: Range, shape: tuple[int, ...], products: Products
) -> Ready:
    """How one node computes exactly, on inputs that hold whole numbers in any number type.

    `shape` is a sample's of its first input.

    Raises
    ------
    GraphError
        If its sums may pass 62 bits.
    """
    op, kind = node.op, carrier(max(bound.load, bound.peak), node.name)
    if isinstance(op, Recurs):
        return _inside(op, sources, products)
    if isinstance(op, Weighted):
        bounds = (sources[0].peak, bound.load)
        product = products.of(op, shape, bounds, torch.device("cpu"))
        bias = None if op.bias is None else op.spread(op.bias).to(kind)
        return partial(_weighted, product, kind, bias)
    if isinstance(op, Ladder):
        coming = carrier(max(sources[0].load, sources[0].peak), node.inputs[0])
        stairs = staircase(op, sources[0], coming, capped=op.smax is not None)
        return lambda sums: stairs(sums).to(kind)
    row = on_integers[type(op)]
    return lambda *inputs: row(op, *(i.to(kind) for i in inputs))


def _inside(op: Recurs, sources: list[Range], products: Products) -> Ready:
    """A body whose nodes are all ready."""
    bounds, sizes = inner_ranges(op, sources), shapes(op.body)
    nodes = {
        node.name: ready(
            node,
            [bounds[i] for i in node.inputs],
            bounds[node.name],
            sizes[node.inputs[0]],
            products,
        )
        for node in op.body.nodes
        if node.inputs
    }
    return partial(op.computed, lambda node, *inputs: nodes[node.name](*inputs))


def _weighted(
    product: Callable[[Tensor], Tensor], kind: torch.dtype, bias: Tensor | None, x: Tensor
) -> Tensor:
    sums = product(x).to(kind)
    return sums if bias is None else sums.add_(bias)
