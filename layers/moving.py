"""What ops do by their trait, where they do not say: those that move numbers, pool, or hold weights."""

from collections.abc import Sequence
from itertools import accumulate
from typing import TypeVar

import torch
from torch import Tensor

from spikemorph.graph import Op
from spikemorph.graph.calls import Refusal
from spikemorph.graph.stages import CANONICAL, FLOAT, INTEGER, PREPARED, Seat
from spikemorph.graph.tables import (
    hands_scale_on,
    on_increments,
    on_integers,
    on_ranges,
    on_scales,
    opens,
)
from spikemorph.graph.traits import Moves, Pools, Shape, Weighted

from .affine import ScaleShift, per_channel, rises, shrunk
from .ranges import Range

Each = TypeVar("Each")  # what there is one of for each channel, or one for all


@on_integers(Moves)
@on_increments(Moves)
def _same(op: Moves, *inputs: Tensor) -> Tensor:
    return op(*inputs)


@on_integers(Weighted)
def _on_integers(op: Weighted, x: Tensor) -> Tensor:
    return op(x)


@on_increments(Weighted)
def _on_increments(op: Weighted, x: Tensor) -> Tensor:
    return op.products(x)


@on_ranges(Moves)
def _on_ranges(op: Moves, *sources: Range) -> Range:
    """Any number may come to stand anywhere."""
    wholes = [source.whole() for source in sources]
    low = torch.stack([whole.low for whole in wholes]).min(0).values
    high = torch.stack([whole.high for whole in wholes]).max(0).values
    return Range(low, high, max(whole.load for whole in wholes))


@FLOAT(Weighted)
def _has_features(op: Weighted, seat: Seat) -> None:
    if not all(seat.shapes):
        raise Refusal("it reads single numbers, without an axis of features", "check the model")


@CANONICAL(Weighted)
def _opened(op: Weighted, seat: Seat) -> None:
    _has_features(op, seat)
    if type(op) in opens and opens[type(op)](op, *seat.shapes) is not None:
        raise Refusal("it is applied at positions", "bring the graph to canonical form")


@INTEGER(Weighted)
def _features_first(op: Weighted, seat: Seat) -> None:
    """Ladders and scales look for channels on axis 1."""
    _has_features(op, seat)
    (shape,) = seat.shapes
    if op.reads % len(shape) != 0:
        reason = (
            f"it is applied at positions along several axes (a linear layer over {len(shape)} axes)"
        )
        repair = "reshape to at most three axes of positions, and bring the graph to canonical form"
        raise Refusal(reason, repair)


@PREPARED(Weighted)
def _reads_spikes(op: Weighted, seat: Seat) -> None:
    _features_first(op, seat)
    if not all(seat.spikes):
        raise Refusal("it reads sums", "put a relay before it (spikemorph.quant)")


@hands_scale_on(Moves)
def _past_moves(
    op: Moves, scale: ScaleShift, shapes: Sequence[Shape], index: int
) -> ScaleShift | None:
    """The numbers' own gains and shifts move with them; zeros that are added have none."""
    if len(shapes) > 1:
        return None
    ones = torch.ones(1, *shapes[0], dtype=torch.float64)
    if scale.gain.dim() == scale.shift.dim() == 0 and bool((op(ones) == 1).all()):
        return scale
    gain, shift = (op(t.double().expand_as(ones))[0] for t in (scale.gain, scale.shift))
    return ScaleShift(shrunk(gain), shrunk(shift))


@hands_scale_on(Pools)
def _past_pools(
    op: Pools, scale: ScaleShift, shapes: Sequence[Shape], index: int
) -> ScaleShift | None:
    """A greatest number commutes with what never falls, a sum with a gain for each channel."""
    if op.picks:
        return scale if rises(scale) else None
    if per_channel(scale.gain) is None:
        return None
    shift = op(scale.shift.double().expand(shapes[0])[None])[0]
    return ScaleShift(scale.gain.double(), shrunk(shift))


def widened(scale: tuple[Each, ...], channels: int) -> tuple[Each, ...]:
    """A value per channel, with one entry for every channel."""
    return scale * channels if len(scale) == 1 else scale


@on_scales(Moves, Pools)
def moved(
    op: Op, scales: Sequence[tuple[Each, ...]], shapes: Sequence[Shape]
) -> tuple[Each, ...] | None:
    """A value per channel after an op that moves or pools numbers; None where channels mix.

    `scales` has the values of every input, `shapes` one sample's shape of each. What mixes may do so
    where all values are one.
    """
    if len({value for scale in scales for value in scale}) == 1:
        return scales[0][:1]
    sources = channel_sources(op, shapes)
    if sources is None:
        return None
    every = [v for s, shape in zip(scales, shapes, strict=True) for v in widened(s, shape[0])]
    return tuple(every[int(i)] for i in sources)


def channel_sources(op: Op, shapes: Sequence[Shape]) -> Tensor | None:
    """The input channel that every output channel is made of; None where some mix at one place.

    Channels are counted through all inputs, of one sample's `shapes`. Zeros that an op adds have no
    scale: they mix with nothing, and a channel of zeros alone is as good as the first.
    """
    if isinstance(op, Pools):
        return torch.arange(shapes[0][0])
    starts = accumulate((shape[0] for shape in shapes[:-1]), initial=1)
    marks = (
        torch.arange(start, start + shape[0]).reshape(-1, *[1] * (len(shape) - 1)).expand(shape)
        for start, shape in zip(starts, shapes, strict=True)
    )
    out = op(*(mark[None] for mark in marks))[0]
    flat = out.reshape(len(out), -1)
    source = flat.amax(1, keepdim=True)
    alone = bool(((flat == source) | (flat == 0)).all())
    return (source[:, 0] - 1).clamp(min=0) if alone else None
