"""Bounds on what an integer edge can carry: the smallest and largest value, channel by channel."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from spikemorph.graph import Graph, Input, Node
from spikemorph.graph.brief import brief_repr
from spikemorph.graph.tables import on_ranges

_FAR = 2.0**100  # no sum this large is ever certified: as good as infinite, and still a number


@dataclass(frozen=True)
class Range:
    """Bounds of every integer an edge may carry; zero always lies inside.

    Parameters
    ----------
    low, high : Tensor
        (channel,) or (1,), float64. Integers up to 2**53 are exact in it.
    load : float
        An upper bound of the sum of absolute values formed while computing the edge, in any order.

    Bounds beyond ``2**100`` are kept as that.
    """

    low: Tensor
    high: Tensor
    load: float

    __repr__ = brief_repr

    def __post_init__(self) -> None:
        object.__setattr__(self, "low", self.low.clamp(min=-_FAR))
        object.__setattr__(self, "high", self.high.clamp(max=_FAR))
        object.__setattr__(self, "load", min(self.load, _FAR))

    @classmethod
    def of(cls, low: float, high: float) -> "Range":
        """The same bounds for every channel."""
        low, high = min(low, 0), max(high, 0)
        edge = torch.tensor([low, high], dtype=torch.float64)
        return cls(edge[:1], edge[1:], max(-low, high))

    @property
    def peak(self) -> float:
        """The largest absolute value."""
        return float(torch.maximum(-self.low, self.high).max())

    @property
    def increments(self) -> "Range":
        """Bounds of how far a value may move from one time to another, and of what makes it move."""
        reach = self.high - self.low
        return Range(-reach, reach, 2 * max(self.load, self.peak))

    def whole(self) -> "Range":
        """The bounds that hold for all channels at once."""
        return Range(self.low.min()[None], self.high.max()[None], self.load)

    def scaled(self, factor: Tensor) -> "Range":
        """Bounds after multiplying by a factor per channel, or one for all."""
        factor = factor.to(torch.float64).reshape(-1)
        ends = torch.stack([self.low * factor, self.high * factor])
        low, high = ends.min(0).values, ends.max(0).values
        return Range(low, high, self.load * float(factor.abs().max()))


def bits(bound: Range) -> int:
    """How wide an accumulator must be: bits of a signed integer that holds every value.

    >>> bits(Range.of(-8, 7)), bits(Range.of(0, 8))
    (4, 5)
    """
    low, high = int(bound.low.min()), int(bound.high.max())
    return 1 + max((-low - 1).bit_length() if low < 0 else 0, high.bit_length())


def by_row(node: Node, *sources: Range) -> Range:
    """The bounds of a node's values from those of what it reads, by its op's row."""
    if isinstance(node.op, Input):
        assert node.op.grid is not None
        return Range.of(node.op.grid.low, node.op.grid.high)
    found: Range = on_ranges[type(node.op)](node.op, *sources)
    return found


def edge_ranges(graph: Graph, of_node: Callable[..., Range] = by_row) -> dict[str, Range]:
    """The bounds of every node's values in an integer graph; ``of_node(node, *sources)`` gives one's."""
    found: dict[str, Range] = {}
    for node in graph.nodes:
        found[node.name] = of_node(node, *(found[name] for name in node.inputs))
    return found


def total(ranges: list[Range]) -> Range:
    """Bounds of a sum."""
    low = torch.stack(torch.broadcast_tensors(*(r.low for r in ranges))).sum(0)
    high = torch.stack(torch.broadcast_tensors(*(r.high for r in ranges))).sum(0)
    return Range(low, high, sum(r.load for r in ranges))


def weighted(weight: Tensor, source: Range, groups: int, bias: Tensor | None) -> Range:
    """Bounds of ``weight * source + bias``; the weight is (out, in / groups, ...), any taps left out.

    Since zero lies inside the source's range, padded and skipped taps are covered.
    """
    taps = weight.to(torch.float64).flatten(2) if weight.dim() > 2 else weight.double()[:, :, None]
    out, inside = taps.shape[:2]
    channels = inside * groups
    low, high = (
        end.expand(channels).reshape(groups, 1, inside, 1) for end in (source.low, source.high)
    )
    parts = taps.reshape(groups, out // groups, inside, -1)
    positive, negative = parts.clamp(min=0), parts.clamp(max=0)
    least = (positive * low + negative * high).sum((2, 3)).reshape(out)
    most = (positive * high + negative * low).sum((2, 3)).reshape(out)
    load = (parts.abs() * torch.maximum(-low, high)).sum((2, 3)).max()
    if bias is None:
        return Range(least, most, float(load))
    flat = bias.to(torch.float64).reshape(out, -1)
    least = least + flat.min(1).values.clamp(max=0)
    most = most + flat.max(1).values.clamp(min=0)
    return Range(least, most, float(load + flat.abs().max()))
