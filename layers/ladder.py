"""The ladder: an activation on integers, as a sorted list of thresholds per channel."""

from dataclasses import dataclass
from fractions import Fraction
from typing import Annotated

import torch
from torch import Tensor

from spikemorph.graph.calls import Refusal
from spikemorph.graph.fields import WHOLE, Above, Between, Shape
from spikemorph.graph.records import Record
from spikemorph.graph.stages import INTEGER, Seat
from spikemorph.graph.tables import on_boxes, on_integers, on_ranges
from spikemorph.graph.traits import Fires

from .boxes import Box, rising
from .ranges import Range

_TOP = 2**20  # levels above zero, and below; bounds are found by counting through them


@dataclass(frozen=True, eq=False)
class Line(Record):
    """An evenly spaced ladder: ``F(C) = floor((C * scale + start) / threshold)`` before clipping.

    All are (channel,) or (1,) int64: the threshold is ``threshold / scale`` of the accumulator's
    units, the membrane potential starts at ``start / scale``.
    """

    threshold: Annotated[Tensor, WHOLE, Shape("channel"), Above(0)]
    scale: Annotated[Tensor, WHOLE, Shape("channel"), Above(0)]
    start: Annotated[Tensor, WHOLE, Shape("channel")]

    def __post_init__(self) -> None:
        if bool((self.threshold <= 0).any()) or bool((self.scale <= 0).any()):
            raise ValueError("a line needs thresholds and scales above zero")

    def __call__(self, sums: Tensor) -> Tensor:
        threshold, scale, start = (
            along_channels(t, sums) for t in (self.threshold, self.scale, self.start)
        )
        return torch.div(sums * scale + start, threshold, rounding_mode="floor")

    def rungs(self, smin: int, smax: int) -> Tensor:
        """The thresholds ``ceil((k * threshold - start) / scale)`` for k = smin + 1 .. smax."""
        k = torch.arange(smin + 1, smax + 1)
        top = self.threshold[:, None] * k - self.start[:, None]
        return -torch.div(-top, self.scale[:, None], rounding_mode="floor")


@dataclass(frozen=True, eq=False)
class Ladder(Fires):
    """``F(C) = smin + #{k : C >= rungs[k]}``: what a neuron settles to (exactness.md, section 2.1).

    ``rungs`` is (channel or 1, smax - smin) int64, non-decreasing along its last axis. ``line`` is
    given where the rungs are evenly spaced; a long ladder has a line only. ``unit`` is the real value
    of one level. ``smax`` None means no upper end, as rate-coded neurons have none; it needs a line.
    """

    rungs: Annotated[Tensor, WHOLE, Shape("channel", "level")] | None
    smin: Annotated[int, Between(-_TOP, 0)]
    smax: Annotated[int, Between(0, _TOP)] | None
    unit: Annotated[Fraction, Above(0)]
    line: Line | None = None

    def __post_init__(self) -> None:
        if self.smin > 0 or (self.smax is not None and self.smax < 1 - (self.smin < 0)):
            raise ValueError(f"zero must lie in the ladder's range {self.smin}..{self.smax}")
        if self.rungs is None:
            if self.line is None:
                raise ValueError("a ladder needs rungs or a line")
            return
        if self.smax is None or self.rungs.shape[1] != self.smax - self.smin:
            raise ValueError("a ladder needs one rung for every step from smin to smax")
        if bool((self.rungs[:, 1:] < self.rungs[:, :-1]).any()):  # a difference could overflow
            raise ValueError("the rungs of a ladder must not fall")

    @property
    def agrees(self) -> bool:
        """Whether rungs and line, where it has both, say the same."""
        if self.rungs is None or self.line is None or self.smax is None:
            return True
        rungs, line = self.rungs.cpu(), self.line
        columns = torch.stack(torch.broadcast_tensors(line.threshold, line.scale, line.start), 1)
        wanted = [
            [-((start - k * threshold) // scale) for k in range(self.smin + 1, self.smax + 1)]
            for threshold, scale, start in columns.tolist()  # whole numbers that cannot overflow
        ]
        size = max(len(wanted), len(rungs))
        if {len(wanted), len(rungs)} - {1, size}:
            return False
        return rungs.expand(size, -1).tolist() == (wanted * size if len(wanted) == 1 else wanted)

    @property
    def levels(self) -> int | None:
        """How many values the ladder can take."""
        return None if self.smax is None else self.smax - self.smin + 1


@on_integers(Ladder)
def climb(op: Ladder, sums: Tensor) -> Tensor:
    """The level that every sum reaches, int64."""
    if op.rungs is None:
        assert op.line is not None
        return op.line(sums).clamp(op.smin, op.smax)
    rungs = op.rungs.to(sums.device)
    if rungs.shape[1] > 64:
        return op.smin + _search(rungs, sums)
    reached = torch.zeros(sums.shape, dtype=torch.uint8, device=sums.device)
    for rung in rungs.unbind(1):
        reached += (sums >= along_channels(rung, sums)).view(torch.uint8)
    return op.smin + reached.to(torch.int64)


@INTEGER(Ladder)
def _allowed(op: Ladder, seat: Seat) -> None:
    """It makes spikes of sums, so it passes no increments on."""
    if not op.agrees:
        raise Refusal("its rungs are not those of its line", "build the ladder again")


def _search(rungs: Tensor, sums: Tensor) -> Tensor:
    """How many rungs each sum has reached, by binary search, channel by channel."""
    if len(rungs) == 1:
        return torch.searchsorted(rungs[0], sums.contiguous(), right=True)
    by_channel = sums.transpose(0, 1)
    flat = by_channel.reshape(len(rungs), -1).contiguous()
    found = torch.searchsorted(rungs, flat, right=True)
    return found.reshape(by_channel.shape).transpose(0, 1)


def along_channels(values: Tensor, like: Tensor) -> Tensor:
    """(channel,) values, shaped to broadcast along axis 1 of a batched tensor."""
    return values.to(like.device).reshape(1, -1, *[1] * (like.dim() - 2))


@on_ranges(Ladder)
def _on_ranges(op: Ladder, source: Range) -> Range:
    if op.smax is None:
        raise ValueError("a ladder without an upper end has no bounds of its own")
    return Range.of(op.smin, op.smax)


@on_boxes(Ladder)
def _on_boxes(op: Ladder, box: Box) -> Box:
    return rising(lambda sums: climb(op, sums.to(torch.int64)).to(sums), box)
