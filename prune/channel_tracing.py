"""Which channel every number of a network belongs to, and which channels are tied to each other.

A channel is made by a weighted layer, as one of its outputs, and carried on by the nodes behind it until
the next weighted layer reads it.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from spikemorph.graph.brief import brief_repr

Shape = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Carried:
    """Which channel stands at each position along one axis of a node's output.

    Parameters
    ----------
    shape : tuple of int
        One sample's shape.
    axis : int
        Counts one sample's axes from 0. Along all other axes the channel is the same.
    channels : Tensor
        (size of that axis,) int64: numbers of channels while tracing, of groups afterwards.
    spoilt : str, optional
        Why removed channels would not be zero here: a sigmoid stands before. Only a product with what
        would be zero mends that.
    """

    shape: Shape
    axis: int
    channels: Tensor
    spoilt: str | None = None

    __repr__ = brief_repr

    def everywhere(self) -> Tensor:
        """The channel of every number of a sample: int64, of the sample's shape."""
        wide = self.channels.reshape(-1, *[1] * (len(self.shape) - 1 - self.axis))
        return wide.expand(self.shape) if self.shape else self.channels.reshape(())

    def along(self, axis: int) -> Tensor:
        """The channels along any axis; where it is not their own, all are one and are repeated."""
        return self.channels if axis == self.axis else self.channels[:1].expand(self.shape[axis])


class Tracing:
    """The channels met so far while walking a graph: which are coupled, and which must stay."""

    def __init__(self) -> None:
        self._parents: list[int] = []
        self._reasons: dict[int, str] = {}

    def fresh(self, count: int) -> Tensor:
        """New channels, (count,) int64."""
        first = len(self._parents)
        self._parents.extend(range(first, first + count))
        return torch.arange(first, first + count)

    def unite(self, left: Tensor, right: Tensor) -> None:
        """Couple channels pair by pair; the tensors have one shape, or broadcast."""
        count = len(self._parents)
        for pair in (left * count + right).unique().tolist():
            low, high = sorted((self._root(pair // count), self._root(pair % count)))
            self._parents[high] = low
            if low != high and high in self._reasons:
                self._reasons.setdefault(low, self._reasons.pop(high))

    def pin(self, channels: Tensor, reason: str) -> None:
        """Say why channels cannot be removed; a group keeps the first reason."""
        for channel in channels.unique().tolist():
            self._reasons.setdefault(self._root(channel), reason)

    def along(self, source: Carried, axis: int) -> Tensor:
        """The channels along an axis whose positions an op treats apart.

        Where channels lie along another axis, every position of this one holds them all: they are
        coupled into one.
        """
        if axis != source.axis:
            self.unite(source.channels, source.channels[:1])
        return source.along(axis)

    def settled(self, everywhere: Tensor) -> Carried:
        """The channels of every number of a sample, brought to one axis.

        It is the axis that keeps most channels apart; channels that share a position are coupled.
        """
        shape = tuple(everywhere.shape)
        names = torch.tensor([self._root(k) for k in range(len(self._parents))])
        full = names[everywhere if shape else everywhere.reshape(1)]
        best = max(range(full.dim()), key=lambda axis: (_kept_apart(full, axis), -axis))
        slices = full.movedim(best, 0).reshape(full.shape[best], -1)
        self.unite(slices, slices[:, :1])
        return Carried(shape, best, slices[:, 0].clone())

    def groups(self) -> tuple[Tensor, list[str | None]]:
        """The group of every channel, (channel,) int64; for every group, why it must stay."""
        roots = [self._root(k) for k in range(len(self._parents))]
        number = {root: k for k, root in enumerate(dict.fromkeys(roots))}
        reasons = [self._reasons.get(root) for root in number]
        return torch.tensor([number[root] for root in roots], dtype=torch.int64), reasons

    def _root(self, channel: int) -> int:
        while self._parents[channel] != channel:
            self._parents[channel] = self._parents[self._parents[channel]]
            channel = self._parents[channel]
        return channel


def _kept_apart(full: Tensor, axis: int) -> int:
    """How many channels stay apart where all that share a position of the axis are made one."""
    names, local = full.unique(return_inverse=True)
    slices = local.movedim(axis, 0).reshape(full.shape[axis], -1)
    trial = Tracing()
    trial.fresh(len(names))
    trial.unite(slices, slices[:, :1])
    return len(trial.groups()[1])
