"""What each kind of layer does with channels: how it carries them, and what of it belongs to them.

Three tables, keyed by op class. `carries`: the channels of the output from those of the inputs; an op
without a row, or whose row refuses, keeps every channel that it reads. `cuts`: the tensors that hold a
value for each channel. `shrinks`: the settings that change when channels go.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from spikemorph.graph import Input, Op
from spikemorph.graph.brief import brief_repr
from spikemorph.graph.tables import Table
from spikemorph.graph.traits import Moves, Pools, Weighted
from spikemorph.layers.activation import Activation
from spikemorph.layers.affine import ScaleShift
from spikemorph.layers.joining import Add
from spikemorph.layers.multiply import Multiply
from spikemorph.layers.normalisation import BatchNorm
from spikemorph.layers.shape import Pad, Reshape
from spikemorph.layers.slicing import Narrow

from .channel_tracing import Carried, Shape, Tracing

Sources = Sequence[Carried]


@dataclass(frozen=True, eq=False)
class Cut:
    """One axis of one tensor of an op, with the channel that each of its positions belongs to.

    `item` picks the tensor where the field is a tuple. Removing a channel takes its positions away;
    masking it sets them to zero where `zeroed`.
    """

    field: str
    axis: int
    channels: Tensor
    item: int | None = None
    zeroed: bool = True

    __repr__ = brief_repr


@dataclass(frozen=True, eq=False)
class Change:
    """What is kept of a node's channels: one bool for every group."""

    kept: Tensor
    sources: Sources
    output: Carried

    __repr__ = brief_repr

    def of(self, channels: Tensor) -> int:
        """How many of these positions are kept."""
        return int(self.kept[channels].sum())


# Row: (op, tracing, its inputs' channels, one output sample's shape) -> its output's channels.
carries: Table[Callable[..., Carried]] = Table("carries")

# Row: (op, its inputs' channels, its output's channels) -> the cuts.
cuts: Table[Callable[..., tuple[Cut, ...]]] = Table("cuts")

# Row: (op, change) -> the op with other settings; its tensors are cut already.
shrinks: Table[Callable[..., Op]] = Table("shrinks")


@carries(Weighted)
def _weigh(op: Weighted, tracing: Tracing, sources: Sources, shape: Shape) -> Carried:
    """Every output channel is new; with groups, all channels into and out of one go together."""
    axis = op.reads % len(shape)
    inside, made = tracing.along(sources[0], axis), tracing.fresh(len(op.weight))
    if op.groups > 1:
        by_group = made.reshape(op.groups, -1)
        for channels in (inside.reshape(op.groups, -1), by_group):
            tracing.unite(channels, by_group[:, :1])
    return Carried(shape, axis, made)


@carries(BatchNorm, Pools)
def _by_channel(op: Op, tracing: Tracing, sources: Sources, shape: Shape) -> Carried:
    return Carried(shape, 0, tracing.along(sources[0], 0))


@carries(ScaleShift)
def _hand_on(op: Op, tracing: Tracing, sources: Sources, shape: Shape) -> Carried:
    return sources[0]


@carries(Activation)
def _activate(op: Activation, tracing: Tracing, sources: Sources, shape: Shape) -> Carried:
    """A channel that is zero must stay so, or meet its zero behind: as gates do."""
    at_zero = float(op(torch.zeros(1)))
    return (
        sources[0] if at_zero == 0 else replace(sources[0], spoilt=f"it makes {at_zero:g} of zero")
    )


@carries(Add)
def _add(op: Add, tracing: Tracing, sources: Sources, shape: Shape) -> Carried:
    first, *others = sources
    for other in others:
        tracing.unite(first.channels, tracing.along(other, first.axis))
    return first


@carries(Multiply)
def _multiply(op: Multiply, tracing: Tracing, sources: Sources, shape: Shape) -> Carried:
    """Zero where one factor is. A factor that is one for all channels must stay."""
    wide, other = sorted(sources, key=lambda s: -s.shape[s.axis] if s.shape else 0)
    axis = wide.axis
    if wide.shape and other.shape[axis] != wide.shape[axis]:
        tracing.pin(other.channels, "it is a factor of all channels")
        return Carried(shape, axis, wide.channels, wide.spoilt)
    tracing.unite(wide.channels, tracing.along(other, axis))
    spoilt = None if other.spoilt is None else wide.spoilt
    return Carried(shape, axis, wide.channels, spoilt)


@carries(Moves)
def _move(op: Moves, tracing: Tracing, sources: Sources, shape: Shape) -> Carried:
    if op.idle:
        return sources[0]
    return tracing.settled(op(*(source.everywhere()[None] for source in sources))[0])


@carries(Pad)
def _pad(op: Pad, tracing: Tracing, sources: Sources, shape: Shape) -> Carried:
    """Zeros around positions belong to the channel; zeros beside the channels are channels."""
    (source,) = sources
    before, after = _padding_of(op, source)
    parts = [tracing.fresh(before), source.channels, tracing.fresh(after)]
    return Carried(shape, source.axis, torch.cat(parts))


def _padding_of(op: Pad, source: Carried) -> tuple[int, int]:
    """The padding along the channels' axis."""
    index = source.axis - (len(source.shape) - len(op.padding))
    return op.padding[index] if index >= 0 else (0, 0)


@cuts(Weighted)
def _rows_and_columns(op: Weighted, sources: Sources, output: Carried) -> tuple[Cut, ...]:
    found = [Cut(field, 0, output.channels) for field in ("weight", "mask", "bias")]
    if op.groups == 1:
        columns = sources[0].along(op.reads % len(sources[0].shape))
        found += [Cut(field, 1, columns) for field in ("weight", "mask")]
    return tuple(cut for cut in found if getattr(op, cut.field) is not None)


@cuts(BatchNorm)
def _statistics(op: BatchNorm, sources: Sources, output: Carried) -> tuple[Cut, ...]:
    """A masked channel keeps its statistics: a variance of zero would be another network."""
    learnt = [Cut(field, 0, output.channels) for field in ("gain", "shift")]
    kept = [Cut(field, 0, output.channels, zeroed=False) for field in ("mean", "variance")]
    return (*learnt, *kept)


@cuts(ScaleShift)
def _constants(op: ScaleShift, sources: Sources, output: Carried) -> tuple[Cut, ...]:
    spread = (("gain", op.gain), ("shift", op.shift))
    return tuple(
        Cut(field, output.axis, output.channels) for field, t in spread if _is_spread(t, output)
    )


@cuts(Add)
def _factors(op: Add, sources: Sources, output: Carried) -> tuple[Cut, ...]:
    return tuple(
        Cut("factors", output.axis, output.channels, item, zeroed=False)
        for item, factor in enumerate(op.factors)
        if _is_spread(factor, output)
    )


def _is_spread(constant: Tensor, output: Carried) -> bool:
    """Whether a constant, () or with as many axes as a sample, has a value for each channel."""
    return constant.dim() > 0 and constant.shape[output.axis] > 1


@shrinks(Input)
def _narrower(op: Input, change: Change) -> Op:
    shape = list(op.shape)
    shape[change.output.axis] = change.of(change.output.channels)
    return replace(op, shape=tuple(shape))


@shrinks(Weighted)
def _fewer_groups(op: Weighted, change: Change) -> Op:
    if op.groups == 1:
        return op
    of_all = len(change.output.channels)
    return op.having(groups=max(1, op.groups * change.of(change.output.channels) // of_all))


@shrinks(Reshape)
def _smaller(op: Reshape, change: Change) -> Op:
    shape = list(op.shape)
    if shape:
        shape[change.output.axis] = change.of(change.output.channels)
    return replace(op, shape=tuple(shape))


@shrinks(Narrow)
def _closer(op: Narrow, change: Change) -> Op:
    (source,) = change.sources
    if source.axis != op.axis - 1:
        return op
    channels = source.channels
    start, part = channels[: op.start], channels[op.start : op.start + op.length]
    return replace(op, start=change.of(start), length=change.of(part))


@shrinks(Pad)
def _fewer_zeros(op: Pad, change: Change) -> Op:
    (source,), channels = change.sources, change.output.channels
    before, after = _padding_of(op, source)
    if not before and not after:
        return op
    padding = list(op.padding)
    end = len(channels) - after
    index = source.axis - (len(source.shape) - len(op.padding))
    padding[index] = change.of(channels[:before]), change.of(channels[end:])
    return replace(op, padding=tuple(padding))
