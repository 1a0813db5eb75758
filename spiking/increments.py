"""How increments pass a node that is no neuron: for the dense engine, and for counting what flows.

A linear node passes increments on as it would sums, but for what it adds of its own, which enters at
the first step (at every step where inputs repeat). Any other forms the sums of all that it has read,
computes on them, and passes on by how much the result changed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from spikemorph.graph import Graph, Input, Node, Op
from spikemorph.graph.interpret import require_rows, shapes
from spikemorph.graph.tables import on_increments, on_integers
from spikemorph.graph.traits import Weighted
from spikemorph.layers.carriers import Product, Products, carrier
from spikemorph.layers.ladder import Ladder
from spikemorph.layers.pooling import accumulate
from spikemorph.layers.ranges import Range

Held = tuple[Tensor, ...]  # what a node carries from step to step; samples lie on axis 0


@dataclass(frozen=True, eq=False)
class Passage:
    """One node, ready for increments.

    Parameters
    ----------
    node : Node
        No neuron, no input.
    kind : torch.dtype
        What its increments, and the sums that it forms, are carried in.
    shape : tuple of int
        Of one sample of its output.
    product : Product, optional
        Of a layer with weights.
    constant : Tensor, optional
        What it adds of its own, to broadcast over (sample, *shape).
    repeats : bool
        Whether it adds that at every step, not only at the first.
    """

    node: Node
    kind: torch.dtype
    shape: tuple[int, ...]
    product: Product | None = None
    constant: Tensor | None = None
    repeats: bool = False

    @property
    def accumulates(self) -> bool:
        """Whether it forms sums."""
        return on_increments[type(self.node.op)] is accumulate

    def __call__(self, held: Held | None, *increments: Tensor) -> tuple[Held, Tensor]:
        """What comes out of (step, sample, ...) increments, and what the node holds after them.

        `held` is None for a node at rest, whose first step this is.
        """
        given = [source.to(self.kind) for source in increments]
        if self.accumulates:
            return self._accumulated(held, given)
        steps = len(given[0])
        flat = [source.flatten(0, 1) for source in given]
        if self.product is None:
            out = on_increments[type(self.node.op)](self.node.op, *flat)
        else:
            out = self._products(self.product, flat[0])
        out = out.unflatten(0, (steps, -1))
        if self.constant is not None and (held is None or self.repeats):
            out[: steps if self.repeats else 1] += self.constant
        return (), out

    def _products(self, product: Product, rows: Tensor) -> Tensor:
        """Products of the rows that are not all zero; the others' are zero."""
        busy = nonzero(rows.flatten(1))
        if bool(busy.all()):
            return product(rows).to(self.kind)
        out = torch.zeros((len(rows), *self.shape), dtype=self.kind, device=rows.device)
        if bool(busy.any()):
            out[busy] = product(rows[busy]).to(self.kind)
        return out

    def _accumulated(self, held: Held | None, given: list[Tensor]) -> tuple[Held, Tensor]:
        """What a node holds are the sums of all it has read, one for each input, and its last output.

        At rest it has made nothing, so what it makes of nothing is passed on in the first step.
        """
        op, steps = self.node.op, len(given[0])
        starts = [torch.zeros_like(g[0]) for g in given] if held is None else held[:-1]
        sums = [running_sums(*pair) for pair in zip(starts, given, strict=True)]
        values = on_integers[type(op)](op, *(s.flatten(0, 1) for s in sums))
        values = values.unflatten(0, (steps, -1))
        last = torch.zeros_like(values[0]) if held is None else held[-1]
        return (*(s[-1] for s in sums), values[-1]), values.diff(dim=0, prepend=last[None])


def nonzero(rows: Tensor) -> Tensor:
    """Whether anything along the last axis is not zero; so asked, it is asked fast."""
    return rows.amax(-1).ne(0) | rows.amin(-1).ne(0)


def running_sums(start: Tensor, increments: Tensor) -> Tensor:
    """(step, sample, ...) the sums after each step."""
    sums = torch.empty_like(increments)
    for k, increment in enumerate(increments):
        start = torch.add(start, increment, out=sums[k])
    return sums


def passages(
    graph: Graph, bounds: Mapping[str, Range], device: torch.device, *, repeats: bool
) -> dict[str, Passage]:
    """Every node that is no neuron and no input, ready for increments; by node name.

    `bounds` are of the sums that every node carries; `repeats` says whether inputs come again at
    every step.

    Raises
    ------
    GraphError
        If a node's sums may pass 62 bits.
    UnsupportedError
        Naming every node whose op has no meaning on increments.
    """
    require_rows(graph, on_increments, "add a row in layers/", but=(Ladder,))
    sizes, products = shapes(graph), Products()
    found = {}
    for node in graph.nodes:
        op, load = node.op, bounds[node.name].increments.load
        if isinstance(op, Input | Ladder):
            continue
        kind, product = carrier(load, node.name), None
        if isinstance(op, Weighted):
            (source,) = node.inputs
            peak = bounds[source].increments.peak
            product = products.of(op, sizes[source], (peak, load), device)
        constant = _constant(op, kind, [sizes[name] for name in node.inputs])
        constant = None if constant is None else constant.to(device)
        found[node.name] = Passage(node, kind, sizes[node.name], product, constant, repeats)
    return found


def _constant(op: Op, kind: torch.dtype, sizes: Sequence[tuple[int, ...]]) -> Tensor | None:
    """What a node makes of nothing, (1, *shape) or to broadcast to it; `sizes` are its inputs'."""
    if not op.adds:
        return None
    if isinstance(op, Weighted):
        return None if op.bias is None else op.spread(op.bias).to(kind)
    nothing = (torch.zeros((1, *size), dtype=kind) for size in sizes)
    made: Tensor = on_integers[type(op)](op, *nothing)
    return made
