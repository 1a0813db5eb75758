"""Climb a ladder fast: one multiplication and a rounding, proved equal to the ladder beforehand.

``floor(a C + b)`` in floating point never falls when C grows, because rounding is monotone. So if it
gives the ladder's level at both sides of every rung, ``tau_k - 1`` and ``tau_k``, it gives it for every
integer between them, and so for all. That check is made here for each channel, with room for the
roundings of any processor; where it fails, the rungs are compared one by one.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from spikemorph.graph.brief import brief_repr

from .ladder import Ladder, along_channels, climb
from .ranges import Range

MOST_RUNGS = 4096  # checking more takes longer than it saves


@dataclass(frozen=True)
class Staircase:
    """One ladder, ready to climb; `slope` and `offset` are (channel,) in the number type used."""

    ladder: Ladder
    slope: Tensor | None
    offset: Tensor | None
    capped: bool

    __repr__ = brief_repr

    def __call__(self, sums: Tensor) -> Tensor:
        """The level of every sum (sample, channel, ...), in a floating type where it was proved."""
        if self.slope is not None and self.offset is not None:
            slope, offset = (along_channels(t, sums) for t in (self.slope, self.offset))
            level = torch.mul(sums.to(slope.dtype), slope).add_(offset).floor_()
            return level.clamp_(self.ladder.smin, self.ladder.smax)
        if not self.capped and self.ladder.line is not None:
            return self.ladder.line(sums.long()).clamp(min=self.ladder.smin)
        return climb(self.ladder, sums.long())


def staircase(ladder: Ladder, bound: Range, kind: torch.dtype, *, capped: bool) -> Staircase:
    """The fastest way to climb a ladder whose sums lie within `bound`, carried in `kind`."""
    slow = Staircase(ladder, None, None, capped)
    rungs, line = ladder.rungs, ladder.line
    if line is None or not capped or rungs is None or rungs.shape[1] > MOST_RUNGS:
        return slow
    slope = line.scale.double() / line.threshold.double()
    offset = _centred(slope, line.start.double() / line.threshold.double(), rungs, ladder.smin)
    kinds = (kind, torch.float64) if kind is torch.float32 else (torch.float64,)
    for used in kinds:
        fast = Staircase(ladder, slope.to(used), offset.to(used), capped)
        if _proved(fast, rungs, bound):
            return fast
    return slow


def top_level(ladder: Ladder, sums: Tensor) -> int:
    """The highest level that sums (channel,) reach when the ladder has no top."""
    rows = ladder.rungs if ladder.line is None else ladder.line.threshold
    assert rows is not None
    wide = sums.to(torch.int64).expand(max(len(rows), len(sums)))[None]
    return int((climb(ladder, wide) if ladder.line is None else ladder.line(wide)).max())


def _centred(slope: Tensor, offset: Tensor, rungs: Tensor, smin: int) -> Tensor:
    """The offset that keeps both sides of every crossing as far from the whole numbers as can be."""
    level = torch.arange(smin + 1, smin + 1 + rungs.shape[1], dtype=torch.float64)
    above = (slope[:, None] * rungs + offset[:, None] - level).amin(1)
    below = (level - slope[:, None] * (rungs - 1) - offset[:, None]).amin(1)
    return offset + (below - above) / 2


def _proved(fast: Staircase, rungs: Tensor, bound: Range) -> bool:
    """Whether the formula gives the ladder's level on both sides of every rung, however rounded.

    The value is moved by more than two roundings of the type used, fused or not, could move it, so
    the proof, made once on the CPU, holds on every processor.
    """
    ladder, slope, offset = fast.ladder, fast.slope, fast.offset
    assert slope is not None and offset is not None
    channels = max(len(rungs), len(bound.low))
    low, high = (end.long().expand(channels)[:, None] for end in (bound.low, bound.high))
    places = torch.cat([t.expand(channels, -1) for t in (rungs - 1, rungs, low, high)], 1)
    places = torch.minimum(torch.maximum(places, low), high).t()  # what lies beyond cannot occur
    product, shift = places.double() * slope.double(), offset.double()
    doubt = (product.abs() + shift.abs()) * 4 * torch.finfo(slope.dtype).eps
    wanted = climb(ladder, places)
    ends = (torch.floor(product + shift + side * doubt) for side in (-1, 1))
    return all(bool((end.clamp(ladder.smin, ladder.smax) == wanted).all()) for end in ends)
