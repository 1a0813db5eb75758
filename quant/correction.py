"""Put mean errors of rounding into biases, where samples that were not measured agree that it helps."""

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from spikemorph.graph import Graph, Node, Op, run
from spikemorph.graph.grid import Grid
from spikemorph.graph.interpret import of_lengths, on_reals, shapes, walk
from spikemorph.graph.traits import Weighted
from spikemorph.layers.carriers import Products, carrier
from spikemorph.layers.integer_pass import IntegerPass, given_lengths, ready
from spikemorph.layers.ladder import along_channels
from spikemorph.layers.ranges import Range, by_row
from spikemorph.layers.readout import Readout

from .scale_plan import Plan
from .scales import as_reals, naming, narrow

CORRECTION_SAMPLES = 256


def correct_biases(
    body: Graph, integer: Graph, plan: Plan, x: Tensor, grid: Grid, lengths: Tensor | None = None
) -> Graph:
    """Put weighted layers' mean errors on samples into their biases, where that helps on others.

    The first of the samples `x` are measured, up to `CORRECTION_SAMPLES`; some behind them judge:
    channel by channel, and in the end all corrections together, by the squared error of the outputs.
    Layers before it are already corrected when a layer is measured (as in light calibration, Li et
    al., ICML 2021).
    """
    count = min(CORRECTION_SAMPLES, len(x) - len(x) // 3)
    seen = x[: count + min(CORRECTION_SAMPLES, len(x)) // 3]
    if len(seen) == count:
        return integer  # nobody could judge
    ends = None if lengths is None else lengths[: len(seen)]
    found = _Corrected(body, integer, plan, count, ends)
    with torch.no_grad():
        made = found.outputs(seen, grid)[count:]
        held, last = seen[count:], None if ends is None else ends[count:]
        wishes = run(body, held, last).double()
        before = IntegerPass(integer.map(_bare), found.products).outputs(held, last)
        after = found.readout.real(made)
    nearer = float((after - wishes).square().sum()) < float((before - wishes).square().sum())
    return found.graph() if nearer else integer


class _Corrected:
    """One pass of an integer graph in which every weighted layer is corrected as it is met."""

    def __init__(
        self, body: Graph, integer: Graph, plan: Plan, count: int, lengths: Tensor | None
    ) -> None:
        self.body, self.integer, self.plan, self.count = body, integer, plan, count
        self.lengths = lengths
        self.products, self._sizes = Products(), shapes(integer)
        self._wanted = {node.name for node in body.nodes if isinstance(node.op, Weighted)}
        self._bounds: dict[str, Range] = {}
        self._ops: dict[str, Op] = {}

    @property
    def readout(self) -> Readout:
        """The last node's op, without its analog end."""
        op = _bare(self.integer[self.integer.outputs[0]]).op
        assert isinstance(op, Readout)
        return op

    def graph(self) -> Graph:
        """The integer graph with the corrected layers."""
        return self.integer.map(lambda node: replace(node, op=self._ops.get(node.name, node.op)))

    def outputs(self, x: Tensor, grid: Grid) -> Tensor:
        """(sample, *shape) the corrected sums of the read-out, whole numbers."""
        floats = walk(self.body, x, of_lengths(on_reals, self.lengths))
        reals = (value for node, value in floats if node.name in self._wanted)
        (entry,) = self.integer.inputs
        self._bounds[entry] = by_row(self.integer[entry])
        points = grid.to_integers(x)
        edges = walk(self.integer, points, lambda node, *i: self._node(node, reals, *i))
        (out,) = [value for node, value in edges if node.name == self.integer.outputs[0]]
        return out

    def _node(self, node: Node, reals: Iterator[Tensor], *inputs: Tensor) -> Tensor:
        sources = [self._bounds[name] for name in node.inputs]
        bound, shape = by_row(node, *sources), self._sizes[node.inputs[0]]
        own = ready(node, sources, bound, shape, self.products)
        made = own(*inputs, **given_lengths(node, self.lengths))
        self._bounds[node.name] = bound
        if node.name not in self._wanted:
            return made
        unit = along_channels(as_reals(self.plan.scale(node.name)), made)
        with naming(node.name):
            step = _correction(next(reals).double() / unit - made, self.count)
        op = node.op
        assert isinstance(op, Weighted) and op.bias is not None
        shaped = step.reshape(-1, *[1] * (op.bias.dim() - 1))
        self._ops[node.name] = op.having(bias=narrow(op.bias + shaped))
        changed = replace(node, op=self._ops[node.name])
        self._bounds[node.name] = bound = by_row(changed, *sources)
        kind = carrier(max(bound.load, bound.peak), node.name)
        return made.to(kind) + along_channels(step, made).to(kind)


def _bare(node: Node) -> Node:
    """A read-out without its analog end; any other node as it is."""
    op = node.op
    return replace(node, op=replace(op, analog=())) if isinstance(op, Readout) else node


def _correction(missing: Tensor, count: int) -> Tensor:
    """(channel,) the rounded mean of what is missing in the first `count` samples.

    Zero where it does not lessen the squared error of the others.
    """
    rows = missing[:count].transpose(0, 1).flatten(1)
    others = missing[count:].transpose(0, 1).flatten(1)
    step = torch.floor(rows.mean(1) + 0.5)
    helps = (others - step[:, None]).square().sum(1) < others.square().sum(1)
    return narrow(torch.where(helps, step, 0.0)).to(torch.int64)
