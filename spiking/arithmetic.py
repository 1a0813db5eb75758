"""Carry integers in the fastest number type that cannot round them.

A float whose mantissa has m bits holds every integer up to ``2**m``, and adds and multiplies them
without rounding as long as no sum of absolute values, in any order, passes ``2**m``. That bound is
proved from the weights (`Range.load`). What the proof cannot see, a library that computes products in
another way (Winograd transforms, TF32, bfloat16), is checked by a probe at the extreme values.
"""

import torch
from torch import Tensor

from spikemorph.graph import GraphError, Op
from spikemorph.graph.tables import on_increments, on_integers
from spikemorph.layers.convolution import Convolution
from spikemorph.layers.linear import Linear
from spikemorph.layers.ranges import Range

SINGLE, DOUBLE = 2.0**24, 2.0**53
_CPU = torch.device("cpu")


def increment_load(bound: Range) -> float:
    """The largest sum of absolute values that an edge's increments form: differences of two sums.

    The edge is kept exactly where this is below `DOUBLE`.
    """
    return 2 * max(bound.load, bound.peak)


def carrier(bound: Range, device: torch.device, name: str) -> torch.dtype:
    """The number type for a node whose sums are bounded by `bound`, increments included.

    Raises
    ------
    GraphError
        If the sums may pass ``2**53``; the node is named.
    """
    load = increment_load(bound)
    if load < SINGLE:
        return torch.float32
    if load < DOUBLE:
        return torch.int64 if device.type == "cpu" else torch.float64
    raise GraphError(
        f"node {name!r}: its sums may reach {load:.3g}, beyond the 53 bits that are kept exactly; "
        "use fewer weight bits or a coarser input grid"
    )


def probed(
    op: Op,
    sources: list[Range],
    shape: tuple[int, ...],
    kind: torch.dtype,
    device: torch.device = _CPU,
) -> torch.dtype:
    """`kind`, if the op computes extreme increments exactly in it on `device`; else int64 or float64.

    `shape` is one sample's input shape.
    """
    if kind is not torch.float32 or not isinstance(op, Convolution | Linear):
        return kind
    generator = torch.Generator().manual_seed(len(shape))
    low, high = (int(end) for end in (sources[0].low.min(), sources[0].high.max()))
    widest = high - low  # the largest increment
    x = torch.randint(-widest, widest + 1, (1, *shape), generator=generator)
    exact = on_integers[type(op)](op, x) - on_integers[type(op)](op, torch.zeros_like(x))
    found = on_increments[type(op)](op, x.to(device, torch.float32)).cpu()
    if bool((found == exact.to(torch.float32)).all()):
        return kind
    return torch.int64 if device.type == "cpu" else torch.float64


def nearest_powers(residual: Tensor) -> Tensor:
    """For float32 whole numbers, the power of two nearest to each, with its sign; 0 for 0.

    The nearest power to a, the smaller of two, is the least one above ``(a - 1/4) / 1.5``; clearing a
    float's mantissa bits gives the greatest power that is not above it.
    """
    level = residual.abs().sub_(0.25).mul_(2 / 3)
    power = level.view(torch.int32).bitwise_and_(0x7F800000).view(torch.float32)
    return power.mul_(2).mul_(residual.sign())
