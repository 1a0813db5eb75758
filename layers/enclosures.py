"""What is not linear, between two linear functions that hold in a box: rows of `on_lines`."""

from collections.abc import Sequence
from itertools import product
from typing import Any

import torch
from torch import Tensor

from spikemorph.graph.tables import on_lines

from .boxes import Box
from .ladder import Ladder, climb
from .lines import Passing, TooWide, narrow
from .multiply import Multiply
from .pooling import GlobalMax, MaxPool
from .windows import pad

_MOST = 64  # rungs that are looked at one by one; a longer ladder is bounded by its ends
_FLATTEST = 2.0**-36  # of slopes: with their ten bits, levels and sums, all constants are exact
_MANTISSA = 2.0**10
_LARGEST = 2.0**42  # of coefficients: with a slope's ten bits, their products are exact


@on_lines(Ladder)
def _ladder(op: Ladder, box: Box) -> Passing:
    """Below and above the staircase, a line each: ``slope * sum + level``.

    Of a coefficient A, ``A slope`` is rounded to a whole number; what that takes from the bound, at the
    worse end of the box, goes into the constant. That is rounded down, by one unit more than needed,
    since its own products are off by less.
    """
    slopes, starts = _staircase_lines(op, box)

    def passing(which: Tensor, coefficients: Tensor) -> tuple[Sequence[Tensor], Tensor]:
        if float(coefficients.abs().max()) >= _LARGEST:
            raise TooWide
        rises = coefficients >= 0
        slope = torch.where(rises, slopes[0][which], slopes[1][which])
        start = torch.where(rises, starts[0][which], starts[1][which])
        exact = coefficients * slope
        whole = exact.round()
        rest = exact - whole
        lost = torch.minimum(rest * box.lower[which], rest * box.upper[which])
        constant = coefficients * start + lost
        narrow(constant.abs().flatten(1).sum(1))
        flat = (constant == constant.round()) & (rest == 0) & (slope == 0)  # nothing was rounded
        down = torch.where(flat, constant, constant.floor() - 1)
        return [whole], down.flatten(1).sum(1)

    return passing


def _staircase_lines(op: Ladder, box: Box) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Slopes, and starts, of a line below and a line above; each (sample, *shape)."""
    low, high = (climb(op, end.to(torch.int64)).double() for end in (box.lower, box.upper))
    slopes, starts = (torch.zeros_like(low), torch.zeros_like(low)), (low.clone(), high.clone())
    if op.rungs is None or op.rungs.shape[1] > _MOST:
        return slopes, starts
    at = (low < high).nonzero(as_tuple=True)
    rungs = op.rungs.double().expand(low.shape[1], -1)[at[1]]
    level = torch.arange(op.smin + 1, op.smin + 1 + rungs.shape[1], dtype=torch.float64)
    inside = (level > low[at][:, None]) & (level <= high[at][:, None])
    ends = box.lower[at], box.upper[at], low[at], high[at]
    below = _best(rungs - 1, level - 1, inside, (ends[1], ends[3]), ends, -1)
    above = _best(rungs, level.expand_as(rungs), inside, (ends[0], ends[2]), ends, 1)
    for k, (slope, start) in enumerate((below, above)):
        slopes[k][at], starts[k][at] = slope, start
    return slopes, starts


def _best(
    places: Tensor,
    levels: Tensor,
    inside: Tensor,
    corner: tuple[Tensor, Tensor],
    ends: tuple[Tensor, Tensor, Tensor, Tensor],
    side: int,
) -> tuple[Tensor, Tensor]:
    """The line that passes nearest to the staircase in the middle of the box, above (`side` 1) or below.

    It passes no point (places, levels) that is `inside`, nor the corner: those are where the staircase
    is farthest on that side. Its slope is one of several; its start is exact for that.
    """
    x = torch.cat([torch.where(inside, places, corner[0][:, None]), corner[0][:, None]], 1)
    y = torch.cat([torch.where(inside, levels, corner[1][:, None]), corner[1][:, None]], 1)
    lower, upper, low, high = ends
    rise, run = high - low, upper - lower
    first = torch.where(inside, places, torch.inf).amin(1)
    last = torch.where(inside, places, -torch.inf).amax(1)
    own = (last - lower) if side > 0 else (upper - first)
    between = (rise - 1) / (last - first).clamp_min(1)
    slopes = torch.stack([torch.zeros_like(rise), rise / run, rise / own.clamp_min(1), between], 1)
    slopes = _ten_bits(slopes)
    gaps = y[:, None] - slopes[..., None] * x[:, None]
    starts = side * (side * gaps).amax(2)
    middle = (lower + upper) / 2
    chosen = (side * (slopes * middle[:, None] + starts)).argmin(1, keepdim=True)
    return slopes.gather(1, chosen)[:, 0], starts.gather(1, chosen)[:, 0]


@on_lines(MaxPool, GlobalMax)
def _greatest(op: MaxPool | GlobalMax, box: Box) -> Passing:
    """A window's greatest number is no less than one of its cells, and exceeds it as others do.

    That cell is the one whose lower end is greatest; above, it is left where the greatest upper end, a
    constant, is nearer in the middle.
    """
    low, high = _cells(op, box.lower), _cells(op, box.upper)
    picked = low.argmax(0, keepdim=True)
    mine = low.gather(0, picked)[0], high.gather(0, picked)[0]
    others = high.scatter(0, picked, -torch.inf).amax(0)
    gap = (others - mine[0]).clamp_min(0)
    most = high.amax(0)
    linear = (mine[0] + mine[1]) / 2 + gap <= most
    gap = torch.where(linear, gap, most)
    shape = box.lower.shape[1:]

    def passing(which: Tensor, coefficients: Tensor) -> tuple[Sequence[Tensor], Tensor]:
        above = coefficients < 0
        constant = torch.where(above, coefficients * gap[which], 0.0)
        narrow(constant.abs().flatten(1).sum(1))
        routed = torch.where(above & ~linear[which], 0.0, coefficients)
        narrow(float(routed.abs().max()) * len(low))
        with torch.enable_grad():
            zeros = coefficients.new_zeros((len(which), *shape)).requires_grad_()
            chosen = _cells(op, zeros).gather(0, picked[:, which])[0]
            (part,) = torch.autograd.grad(chosen, zeros, routed)
        return [part], constant.flatten(1).sum(1)

    return passing


def _cells(op: MaxPool | GlobalMax, x: Tensor) -> Tensor:
    """(cell of a window, sample, channel, *output size): what every window holds."""
    if isinstance(op, GlobalMax):
        return x.flatten(2).movedim(2, 0).reshape(-1, *x.shape[:2], *[1] * (x.dim() - 2))
    x = pad(x, op.padding, -torch.inf)
    sizes = zip(x.shape[2:], op.kernel, op.stride, op.dilation, strict=True)
    counts = [(size - (k - 1) * d - 1) // s for size, k, s, d in sizes]
    found = list[Tensor]()
    for offset in product(*map(range, op.kernel)):
        starts = [o * d for o, d in zip(offset, op.dilation, strict=True)]
        along = zip(starts, counts, op.stride, strict=True)
        place: tuple[Any, ...] = tuple(slice(a, a + n * s + 1, s) for a, n, s in along)
        found.append(x[(..., *place)])
    return torch.stack(found)


@on_lines(Multiply)
def _product(op: Multiply, a: Box, b: Box) -> Passing:
    """The planes through corners (McCormick, 1976): of two on each side, the nearer in the middle."""
    shapes = a.lower.shape[1:], b.lower.shape[1:]
    low = [(a.lower, b.lower), (a.upper, b.upper)]
    high = [(a.lower, b.upper), (a.upper, b.lower)]
    middle = a.middle, b.middle

    def plane(corners: list[tuple[Tensor, Tensor]], side: int) -> tuple[Tensor, Tensor, Tensor]:
        """What `b` and `a` are multiplied with, and the constant."""
        at = [p * middle[1] + q * middle[0] - p * q for p, q in corners]
        first = side * at[0] <= side * at[1]
        (p, q), (r, s) = corners
        return torch.where(first, p, r), torch.where(first, q, s), -torch.where(first, p * q, r * s)

    below, above = plane(low, -1), plane(high, 1)

    def passing(which: Tensor, coefficients: Tensor) -> tuple[Sequence[Tensor], Tensor]:
        rises = coefficients >= 0
        of_b, of_a, start = (
            torch.where(rises, p[which], q[which]) for p, q in zip(below, above, strict=True)
        )
        constant = (coefficients * start).flatten(1)
        narrow(constant.abs().sum(1))
        parts = [coefficients * of_a, coefficients * of_b]
        narrow(max(float(part.abs().flatten(1).sum(1).max()) for part in parts))
        return [
            _onto(part, shape) for part, shape in zip(parts, shapes, strict=True)
        ], constant.sum(1)

    return passing


def _onto(part: Tensor, shape: torch.Size) -> Tensor:
    """Summed over axes along which a factor was repeated."""
    return part.sum_to_size(len(part), *shape)


def _ten_bits(slopes: Tensor) -> Tensor:
    """The nearest numbers of ten bits, so that products with sums and coefficients are exact."""
    mantissa, exponent = torch.frexp(slopes)
    short = torch.ldexp((mantissa * _MANTISSA).round() / _MANTISSA, exponent)
    return torch.where(short < _FLATTEST, 0.0, short)
