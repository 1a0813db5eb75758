"""Backward rules for ladders: what a staircase's gradient is said to be."""

import math
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from spikemorph.layers.ladder import Ladder, along_channels

from .exact_floats import position

_FAR = 2.0**52  # rungs beyond are below or above every sum


class Rule(Protocol):
    """How gradients pass a ladder; frozen."""

    @property
    def exact(self) -> bool:
        """Whether the forward pass is the ladder itself."""
        ...

    def __call__(self, op: Ladder, sums: Tensor, place: Tensor | None, level: Tensor) -> Tensor:
        """Levels for `sums`, with a gradient.

        `level` has the ladder's own, bit for bit; `place` says where among its rungs sums are, rung k
        at k, if it has a line.
        """
        ...


class _Sloped(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, sums: Tensor, levels: tuple[Tensor], slope: Tensor) -> Tensor:
        ctx.save_for_backward(slope)
        ctx.dtype = sums.dtype
        return levels[0]  # in a tuple it is no input of the function, so it need not be copied

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (slope,) = ctx.saved_tensors
        return (gradients[0] * slope).to(ctx.dtype), None, None


@dataclass(frozen=True)
class StraightThrough:
    """One level for each rung's distance, between half a rung before the first and after the last.

    The derivative of the staircase, averaged over a window of one rung's distance.
    """

    exact = True

    def __call__(self, op: Ladder, sums: Tensor, place: Tensor | None, level: Tensor) -> Tensor:
        if place is None:
            return _sloped(sums, level, _uneven_slope(op, sums, _box))
        top = math.inf if op.smax is None else op.smax
        among = (place >= op.smin + 0.5) & (place < top + 0.5)  # one box around every rung
        return _sloped(sums, level, torch.where(among, 1 / _distance(op, sums), 0.0))


@dataclass(frozen=True)
class Smoothed:
    """The derivative of the staircase, blurred: a triangular bump of area one around every rung.

    Parameters
    ----------
    width : float
        How far a bump reaches to either side, in distances between rungs. At 1 the bumps add up to
        the slope of `StraightThrough` between the first and the last rung; below 1/2 there are gaps.
    """

    width: float

    exact = True

    def __post_init__(self) -> None:
        if not 0 < self.width < math.inf:
            raise ValueError(f"a bump needs a width above zero, got {self.width}")

    def __call__(self, op: Ladder, sums: Tensor, place: Tensor | None, level: Tensor) -> Tensor:
        if place is None:
            return _sloped(sums, level, _uneven_slope(op, sums, self._bump))
        slope = _even_slope(op, place, self._bump, self.width) / _distance(op, sums)
        return _sloped(sums, level, slope)

    def _bump(self, distance: Tensor) -> Tensor:
        return (1 - distance.abs() / self.width).clamp_min(0) / self.width


@dataclass(frozen=True)
class Unrounded:
    """No rounding at all: the real activation in place of the ladder, so not the network itself.

    Parameters
    ----------
    clipped : bool
        Whether the top level bounds it, as it bounds the ladder; else evenly spaced ladders have no
        upper end, as ReLU has none.
    """

    clipped: bool = True

    exact = False

    def __call__(self, op: Ladder, sums: Tensor, place: Tensor | None, level: Tensor) -> Tensor:
        if op.line is None:
            return _ramps(op, sums)
        real = position(op.line, sums) - 0.5  # halfway between rungs it is the level itself
        return real.clamp(op.smin, op.smax if self.clipped else None)


def _box(distance: Tensor) -> Tensor:
    return ((distance >= -0.5) & (distance < 0.5)).to(distance.dtype)


def _sloped(sums: Tensor, level: Tensor, slope: Tensor) -> Tensor:
    """The levels, with this gradient (float32 is enough)."""
    result: Tensor = _Sloped.apply(sums, (level,), slope)  # type: ignore[no-untyped-call]
    return result


def _distance(op: Ladder, sums: Tensor) -> Tensor:
    """How many units of the sums a line's rungs are apart, float32, with the channels along axis 1."""
    assert op.line is not None
    distance = op.line.threshold.double() / op.line.scale.double()
    return along_channels(distance, sums).float()


@torch.no_grad()
def _even_slope(op: Ladder, place: Tensor, bump: Any, reach: float) -> Tensor:
    """``d level / d place``: the sum of ``bump(place - rung)`` over the rungs that reach there."""
    below = torch.floor(place)
    inside, below = (place - below).float(), below.float()
    total = torch.zeros_like(inside)
    for offset in range(1 - math.ceil(reach), math.ceil(reach) + 1):
        rung = below + offset
        there = (rung > op.smin) if op.smax is None else (rung > op.smin) & (rung <= op.smax)
        total += bump(inside - offset) * there
    return total


def _spread(op: Ladder) -> tuple[Tensor, Tensor]:
    """Rungs and the mean distance to the rungs beside each, (channel, k) float64; 0 for no such rung.

    Rungs that coincide are one unit apart; a single rung is as far from others as from zero.
    """
    assert op.rungs is not None
    rungs = op.rungs.double()
    real = rungs.abs() < _FAR
    gaps = (rungs[:, 1:] - rungs[:, :-1]) * (real[:, 1:] & real[:, :-1])
    none = torch.zeros_like(rungs[:, :1])
    before, after = torch.cat([none, gaps], 1), torch.cat([gaps, none], 1)
    beside = (before > 0).double() + (after > 0).double()
    distance = ((before + after) / beside.clamp(min=1)).clamp(min=1.0)
    lonely = (beside == 0) & real
    distance = torch.where(lonely, rungs.abs().clamp(min=1.0), distance)
    return rungs, torch.where(real, distance, 0.0)


@torch.no_grad()
def _uneven_slope(op: Ladder, sums: Tensor, bump: Any) -> Tensor:
    rungs, distance = _spread(op)
    wide = sums.double()
    total = torch.zeros_like(wide)
    for rung, apart in zip(rungs.unbind(1), distance.unbind(1), strict=True):
        size = along_channels(apart, wide)
        away = (wide - along_channels(rung, wide)) / size.clamp(min=1.0)
        total += torch.where(size > 0, bump(away) / size.clamp(min=1.0), 0.0)
    return total


def _ramps(op: Ladder, sums: Tensor) -> Tensor:
    """Each step drawn out to a ramp over its distance: the integral of the straight-through slope."""
    rungs, distance = _spread(op)
    wide = sums.double()
    total = torch.full_like(wide, float(op.smin))
    for rung, apart in zip(rungs.unbind(1), distance.unbind(1), strict=True):
        size, at = along_channels(apart, wide), along_channels(rung, wide)
        ramp = ((wide - at) / size.clamp(min=1.0) + 0.5).clamp(0, 1)
        total = total + torch.where(size > 0, ramp, (wide >= at).double())
    return total
