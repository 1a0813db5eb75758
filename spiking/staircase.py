"""Climb a ladder fast: one multiplication and a rounding, proved equal to the ladder beforehand.

``floor(a C + b)`` in floating point never falls when C grows, because rounding is monotone. So if it
gives the ladder's level at both sides of every rung, ``tau_k - 1`` and ``tau_k``, it gives it for every
integer between them, and so for all. That check is made here for each channel, with room for the
roundings of any processor; where it fails, the rungs are compared one by one.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from spikemorph.layers.ladder import Ladder, along_channels, climb
from spikemorph.layers.ranges import Range

MOST_RUNGS = 4096  # checking more takes longer than it saves


@dataclass(frozen=True)
class Staircase:
    """One ladder, ready to climb in one number type; see `staircase`."""

    ladder: Ladder
    slope: Tensor | None
    offset: Tensor | None
    capped: bool

    def __call__(self, sums: Tensor) -> Tensor:
        """The level of every sum, in the number type of `sums` (channels on axis 1)."""
        if self.slope is not None and self.offset is not None:
            slope, offset = (along_channels(t, sums) for t in (self.slope, self.offset))
            level = torch.addcmul(offset, sums, slope).floor_()
            return level.clamp_(self.ladder.smin, self.ladder.smax)
        if not self.capped and self.ladder.line is not None:
            return self.ladder.line(sums.long()).clamp(min=self.ladder.smin).to(sums.dtype)
        return climb(self.ladder, sums.long()).to(sums.dtype)


def staircase(ladder: Ladder, bound: Range, kind: torch.dtype, *, capped: bool) -> Staircase:
    """The fastest way to climb a ladder whose sums lie within `bound`, carried in `kind`."""
    slow = Staircase(ladder, None, None, capped)
    rungs = ladder.rungs
    usable = kind is torch.float32 and ladder.line is not None and capped
    if not usable or rungs is None or rungs.shape[1] > MOST_RUNGS:
        return slow
    line = ladder.line
    assert line is not None
    slope = line.scale.double() / line.threshold.double()
    # The offset puts every crossing half a unit below its rung, as far from both sides as can be.
    offset = line.start.double() / line.threshold.double()
    middle = slope * (rungs[:, 0].double() - 0.5) + offset
    offset = offset - (middle - (ladder.smin + 1)) / 2
    fast = Staircase(ladder, slope.float(), offset.float(), capped)
    return fast if _proved(fast, bound) else slow


def _proved(fast: Staircase, bound: Range) -> bool:
    """Whether the formula gives the ladder's level on both sides of every rung, however rounded.

    The value is computed in float64 and moved by more than any order of rounding in float32 could,
    fused or not, so that the proof holds on every processor.
    """
    ladder, slope, offset = fast.ladder, fast.slope, fast.offset
    assert ladder.rungs is not None and slope is not None and offset is not None
    channels = max(len(ladder.rungs), len(bound.low))
    low, high = (end.long().expand(channels)[:, None] for end in (bound.low, bound.high))
    rungs = ladder.rungs.expand(channels, -1)
    places = torch.cat([rungs - 1, rungs, low, high], 1)
    places = torch.minimum(torch.maximum(places, low), high).t()  # what lies beyond cannot occur
    product, shift = places.double() * slope.double(), offset.double()
    doubt = (product.abs() + shift.abs()) * 2.0**-22
    wanted = climb(ladder, places)
    ends = (torch.floor(product + shift + side * doubt) for side in (-1, 1))
    return all(bool((end.clamp(ladder.smin, ladder.smax) == wanted).all()) for end in ends)
