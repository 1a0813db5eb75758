"""Where work is done: every node of a network with what is known of it before any sample is seen."""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from spikemorph.graph import Graph, Input, Node
from spikemorph.graph.brief import brief_repr
from spikemorph.graph.interpret import require_rows, shapes
from spikemorph.graph.tables import on_increments, on_integers, on_ranges
from spikemorph.graph.traits import Pools, Weighted
from spikemorph.layers.joining import Add
from spikemorph.layers.ladder import Ladder
from spikemorph.layers.multiply import Multiply
from spikemorph.layers.ranges import Range, by_row
from spikemorph.spiking import SpikingNetwork

from .counts import LayerCounts
from .fan_out import Reach, flags_through, reaches


@dataclass(frozen=True)
class Site:
    """One node that computes.

    Parameters
    ----------
    node : Node
        The node.
    still : LayerCounts
        Its counts that no sample changes.
    reach : Reach
        What one cell that is not zero sets off.
    analog : tuple of Tensor
        For every input, which cells (*shape) have passed no neuron: bool.
    """

    node: Node
    still: LayerCounts
    reach: Reach
    analog: tuple[Tensor, ...]

    __repr__ = brief_repr


def sites(network: SpikingNetwork, steps: int, spiking: Collection[str] = ()) -> dict[str, Site]:
    """The site of every node but the inputs and those that only move numbers, in running order.

    Inputs named in `spiking` are spikes of neurons elsewhere.

    Raises
    ------
    UnsupportedError
        Naming every node whose work cannot be counted.
    """
    graph = network.graph
    require_rows(graph, on_increments, "add a row in layers/", but=(Ladder,))
    require_rows(
        graph, reaches, "say in energy/counting/fan_out.py what one of its events sets off"
    )
    sizes, bits = shapes(graph), _edge_bits(network, steps)
    analog = _flags(graph, sizes, spiking, keep=True)
    sums = _flags(graph, sizes, spiking, keep=False)
    found: dict[str, Site] = {}
    for node in graph.nodes:
        if isinstance(node.op, Input):
            continue
        reach = reaches[type(node.op)](node.op, *(sizes[name] for name in node.inputs))
        if isinstance(node.op, Add):  # sums are accumulated where they arrive
            taken = zip(reach.adds, node.inputs, strict=True)
            reach = replace(reach, adds=tuple(a * ~sums[name][0] for a, name in taken))
        constants = _constants(node, sizes)
        if reach != Reach() or constants or isinstance(node.op, Ladder):
            still = replace(
                _still(node, sizes, reach),
                bias_cells=constants,
                input_bits=max(bits[name] for name in node.inputs),
                output_bits=bits[node.name],
            )
            flags = tuple(analog[name][0] for name in node.inputs)
            found[node.name] = Site(node, still, reach, flags)
    return found


def _still(node: Node, sizes: Mapping[str, tuple[int, ...]], reach: Reach) -> LayerCounts:
    shape = sizes[node.name]
    fixed = LayerCounts(
        node.name,
        type(node.op).__name__,
        inputs=sum(math.prod(sizes[name]) for name in node.inputs),
        outputs=math.prod(shape),
        channels=shape[0],
        kernel=_kernel(node, sizes),
        neurons=math.prod(shape) if isinstance(node.op, Ladder) else 0,
        mac_dense=_total(reach.dense),
        mac_masked=_total(reach.masked),
        adds_dense=_total(reach.adds),
        scalings_dense=_total(reach.scalings) + reach.once,
    )
    if not isinstance(node.op, Weighted):
        return fixed
    weight = node.op.weight
    return replace(
        fixed,
        weights=weight.numel(),
        nonzero_weights=int((weight != 0).sum()),
        weight_bits=int(weight.to(torch.int64).abs().max()).bit_length() + 1,
        index_bits=(weight[0].numel() - 1).bit_length(),
    )


def _total(maps: tuple[Tensor, ...]) -> int:
    return sum(int(cells.sum()) for cells in maps)


def _kernel(node: Node, sizes: Mapping[str, tuple[int, ...]]) -> int:
    op = node.op
    if isinstance(op, Weighted):
        return op.weight[0, 0].numel()
    return op.cells(sizes[node.inputs[0]]) if isinstance(op, Pools) else 0


def _constants(node: Node, sizes: Mapping[str, tuple[int, ...]]) -> int:
    """How many output cells a node adds something of its own to."""
    if not node.op.adds:
        return 0
    zero = torch.zeros((1, *sizes[node.inputs[0]]), dtype=torch.int64)
    return int((constant_of(node, zero) != 0).sum())


def constant_of(node: Node, zero: Tensor) -> Tensor:
    """What a node makes of nothing, (1, *shape): its bias or shift; int64."""
    op = node.op
    if isinstance(op, Weighted):
        slim = op.having(weight=torch.zeros_like(op.weight, dtype=torch.float64))
        return slim(zero.to(torch.float64)).to(torch.int64)  # integer convolutions are slow
    return on_integers[type(op)](op, zero)


def _flags(
    graph: Graph, sizes: Mapping[str, tuple[int, ...]], spiking: Collection[str], *, keep: bool
) -> dict[str, Tensor]:
    """Flags on every node's cells, bool (1, *shape).

    With `keep`: cells to which input has come past no neuron. Else: cells that hold sums of a
    weighted layer.
    """
    found: dict[str, Tensor] = {}
    for node in graph.nodes:
        sources = [found[name] for name in node.inputs]
        shape = (1, *sizes[node.name])
        if isinstance(node.op, Input):
            found[node.name] = torch.full(shape, keep and node.name not in spiking)
        elif isinstance(node.op, Ladder):
            found[node.name] = torch.zeros(shape, dtype=torch.bool)
        elif isinstance(node.op, Weighted):
            found[node.name] = _past(node.op, sources[0]) if keep else torch.ones(shape).bool()
        elif isinstance(node.op, Multiply) and not keep:  # what is passed on is no sum any more
            found[node.name] = torch.zeros(shape, dtype=torch.bool)
        else:
            found[node.name] = flags_through[type(node.op)](node.op, *sources)
    return found


def _past(op: Weighted, flag: Tensor) -> Tensor:
    """Output cells that a flagged input cell reaches."""
    ones = op.having(weight=torch.ones_like(op.weight, dtype=torch.float32))
    return ones.products(flag.to(torch.float32)) > 0


def _edge_bits(network: SpikingNetwork, steps: int) -> dict[str, int]:
    """Bits that hold whatever an edge of the integer network may carry, sign included.

    A rate-coded network's twin has one level more than there are steps (times its largest spike).
    """
    bounds: dict[str, Range] = {}
    for node in network.graph.nodes:
        if isinstance(node.op, Input):
            bounds[node.name] = by_row(node)
        elif isinstance(node.op, Ladder):
            most = steps * (network.neuron[node.name].up or 1)
            top = most if node.op.smax is None else node.op.smax
            bounds[node.name] = Range.of(node.op.smin, top)
        else:
            sources = (bounds[name] for name in node.inputs)
            bounds[node.name] = on_ranges[type(node.op)](node.op, *sources)
    spans = {name: float(b.high.max() - b.low.min()) for name, b in bounds.items()}
    return {name: max(1, int(span).bit_length()) for name, span in spans.items()}
