"""What one cell that is not zero sets off in each op: the weights it reaches, the windows it is in.

All counts are dot products. A cell of a layer's input reaches a fixed number of weights (its *fan-out*,
smaller at the border, where taps fall on padding, and where weights are zero); so the synaptic operations
of a step are the sum of the fan-outs of the cells that are not zero. The same numbers serve the network
in time, cell by cell and step by step, and the integer network's one pass.

Conventions. An event behind a sum pool counts once for every pooled cell that is not zero and reaches a
weight; the pool's own additions (a max pool's comparisons) are counted apart, one for every cell and
window. A join adds every term that is not zero, except sums of a weighted layer: these are accumulated
where they arrive. A product with a constant that is neither a weight nor 0, 1 or -1 is a scaling. A
product of two computed values adds once for every event at either factor, for every cell it reaches.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor

from spikemorph.graph import Op
from spikemorph.graph.brief import brief_repr
from spikemorph.graph.tables import Table, on_integers
from spikemorph.graph.traits import Fires, Moves, Pools, Shape, Weighted
from spikemorph.layers.affine import ScaleShift
from spikemorph.layers.joining import Add
from spikemorph.layers.ladder import along_channels
from spikemorph.layers.multiply import Multiply
from spikemorph.layers.readout import Readout


@dataclass(frozen=True)
class Reach:
    """How much work one cell that is not zero makes, for every cell of each input.

    Each tuple is empty, or holds an int64 tensor of one sample's shape for every input: weights that
    are not zero, all weights, additions, scalings. ``once`` counts scalings made once an inference.
    """

    masked: tuple[Tensor, ...] = ()
    dense: tuple[Tensor, ...] = ()
    adds: tuple[Tensor, ...] = ()
    scalings: tuple[Tensor, ...] = ()
    once: int = 0

    __repr__ = brief_repr


# (op, *shapes of one sample's inputs) -> Reach. Key: op class.
reaches: Table[Callable[..., Any]] = Table("energy.counting.fan_out.reaches")

# How a flag on cells passes an op that holds no weights: (op, *bool (1, *shape)) -> bool.
flags_through: Table[Callable[..., Tensor]] = Table("energy.counting.fan_out.flags_through")


def fan_out(op: Weighted, shape: Shape, kept: Tensor) -> Tensor:
    """How many weights, of those in `kept` (bool, shaped like the weight), each input cell reaches.

    The layer is linear: the derivative of the sum of its outputs, with ones for weights, by an input
    cell is that number; in 64-bit floats it is exact.
    """
    ones = op.having(weight=kept.to(torch.float64), bias=None)
    with torch.enable_grad():
        x = torch.zeros(1, *shape, dtype=torch.float64, requires_grad=True)
        (found,) = torch.autograd.grad(ones.products(x).sum(), x)
    return found[0].round().to(torch.int64)


@reaches(Weighted)
def _weighted(op: Weighted, shape: Shape) -> Reach:
    everything = torch.ones_like(op.weight, dtype=torch.bool)
    return Reach((fan_out(op, shape, op.weight != 0),), (fan_out(op, shape, everything),))


@reaches(Pools)
def _pool(op: Pools, shape: Shape) -> Reach:
    return Reach(adds=(op.windows(shape),))


@reaches(Add)
def _join(op: Add, *shapes: Shape) -> Reach:
    factors = [_spread(f, shape) for f, shape in zip(op.factors, shapes, strict=True)]
    adds = tuple((f != 0).to(torch.int64) for f in factors)
    return Reach(adds=adds, scalings=tuple(_scales(f) for f in factors))


@reaches(Multiply)
def _product(op: Multiply, *shapes: Shape) -> Reach:
    made = torch.broadcast_shapes(*shapes)
    each = (torch.full(s, prod(made) // prod(s), dtype=torch.int64) for s in shapes)
    return Reach(adds=tuple(each))


@reaches(ScaleShift)
def _scale(op: ScaleShift, shape: Shape) -> Reach:
    return Reach(scalings=(_scales(_spread(op.gain, shape)),))


@reaches(Readout)
def _read_out(op: Readout, shape: Shape) -> Reach:
    cells = torch.zeros(1, *shape, dtype=torch.int64)
    factors = along_channels(op.factors, cells).expand_as(cells)
    return Reach(once=int(_scales(factors).sum()))


@reaches(Fires, Moves)
def _nothing(op: Op, *shapes: Shape) -> Reach:
    return Reach()


def _spread(constant: Tensor, shape: Shape) -> Tensor:
    return constant.expand(shape)


def _scales(constant: Tensor) -> Tensor:
    return (constant.abs() > 1).to(torch.int64)


@flags_through(Moves, Pools)
def _moved(op: Op, *flags: Tensor) -> Tensor:
    return on_integers[type(op)](op, *(flag.to(torch.int64) for flag in flags)) > 0


@flags_through(Add)
def _any(op: Add, *flags: Tensor) -> Tensor:
    return torch.stack(flags).any(0)


@flags_through(Multiply)
def _either(op: Multiply, *flags: Tensor) -> Tensor:
    a, b = flags
    return a | b


@flags_through(ScaleShift, Readout)
def _same(op: Op, flag: Tensor) -> Tensor:
    return flag
