"""Which channels of a network must be removed together, and which cannot be.

Channels are coupled where one cannot go without the other: joined by a sum, read and made by one group
of a grouped (or depthwise) convolution, served by one tensor of a layer that is called twice, or moved
to one position by a reshape. Flattening and concatenation couple nothing: columns and offsets follow.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from spikemorph.graph import Graph, InputError, Node
from spikemorph.graph.brief import brief_repr
from spikemorph.graph.nested import nested_nodes, read_by
from spikemorph.graph.stages import FLOAT, require
from spikemorph.layers.masks import weighted_ops

from .channel_rows import Cut, cuts
from .channel_tracing import Carried, Tracing
from .recurrent_units import follow

Channels = Mapping[
    str, Collection[int]
]  # qualified name of a weighted node -> numbers of its output channels


@dataclass(frozen=True)
class ChannelGroup:
    """Channels that are removed together or not at all.

    `members` are output channels by weighted node; `pinned` says why the group must stay, None where it
    can be removed.
    """

    members: Mapping[str, tuple[int, ...]]
    pinned: str | None

    @property
    def size(self) -> int:
        """How many channels of weighted layers it holds."""
        return sum(len(channels) for channels in self.members.values())


@dataclass(frozen=True, eq=False)
class Coupling:
    """The channel groups of a graph, and where its nodes carry them.

    `outputs` says for every node, by qualified name, which group (a position in `groups`) each channel
    of its output is in.
    """

    graph: Graph
    outputs: Mapping[str, Carried]
    groups: tuple[ChannelGroup, ...]

    __repr__ = brief_repr

    def sources(self, name: str, node: Node) -> tuple[Carried, ...]:
        """The groups of the inputs of the node of a qualified name."""
        return tuple(self.outputs[source] for source in read_by(name, node))

    def cuts(self, name: str, node: Node) -> tuple[Cut, ...]:
        """The tensors of a node that hold a value for each channel, with the channels' groups."""
        return _cuts(name, node, self.outputs)

    def resolve(self, removed: Channels) -> frozenset[int]:
        """The groups of some channels: with each channel go all that are coupled to it.

        Raises
        ------
        InputError
            If a name is no weighted node's, a channel does not exist, or its group must stay.
        """
        found: set[int] = set()
        weighted = weighted_ops(self.graph)
        for name, channels in removed.items():
            if name not in weighted:
                raise InputError(
                    f"node {name!r} is no convolution or linear layer: name the layer that makes "
                    "the channels"
                )
            owned = self.outputs[name].channels
            for channel in channels:
                if not 0 <= channel < len(owned):
                    raise InputError(
                        f"layer {name!r} has no channel {channel}; it has 0 to {len(owned) - 1}"
                    )
                group = int(owned[channel])
                if (reason := self.groups[group].pinned) is not None:
                    raise InputError(
                        f"channel {channel} of layer {name!r} cannot be removed: {reason}; leave it "
                        "out"
                    )
                found.add(group)
        return frozenset(found)

    def kept(self, removed: Collection[int]) -> Tensor:
        """One bool for every group: whether it stays."""
        kept = torch.ones(len(self.groups), dtype=torch.bool)
        kept[torch.tensor(sorted(removed), dtype=torch.int64)] = False
        return kept

    def emptied(self, removed: Collection[int]) -> list[str]:
        """The nodes that carry no channel any more; a layer that makes them comes first."""
        kept = self.kept(removed)
        return [n for n, carried in self.outputs.items() if not bool(kept[carried.channels].any())]

    def channels_of(self, groups: Collection[int]) -> dict[str, tuple[int, ...]]:
        """The channels of groups, by the weighted nodes that make them, in running order."""
        kept = self.kept(groups)
        found: dict[str, tuple[int, ...]] = {}
        for name in weighted_ops(self.graph):
            channels = (~kept[self.outputs[name].channels]).nonzero()[:, 0].tolist()
            if channels:
                found[name] = tuple(channels)
        return found


class Stock:
    """How many channels every node has left while groups are taken one by one."""

    def __init__(self, coupling: Coupling) -> None:
        self._left: dict[str, int] = {}
        self._places: list[dict[str, int]] = [{} for _ in coupling.groups]
        for name, carried in coupling.outputs.items():
            groups, counts = carried.channels.unique(return_counts=True)
            self._left[name] = len(carried.channels)
            for group, count in zip(groups.tolist(), counts.tolist(), strict=True):
                self._places[group][name] = count

    def emptied_by(self, group: int) -> str | None:
        """The first node that would lose its last channel with a group."""
        places = self._places[group]
        return next((name for name, count in places.items() if self._left[name] == count), None)

    def take(self, group: int) -> None:
        """Take a group away."""
        for name, count in self._places[group].items():
            self._left[name] -= count


def couple_channels(graph: Graph) -> Coupling:
    """Find the channel groups of a float graph, as a reader gives it.

    The network's inputs and outputs (its classes) are pinned; so are channels that pass through an op
    that does not make zero of zero, or whose channels cannot be followed. Units of recurrent layers
    are channels: gates that are multiplied with what would be zero need not be.

    Raises
    ------
    GraphError
        If it is no float graph, has not one input, or its shapes do not fit.
    """
    require(graph, FLOAT)
    tracing = Tracing()
    traced = follow(tracing, graph, {})
    for name in graph.outputs:
        reason = traced[name].spoilt or f"node {name!r} is an output of the network"
        tracing.pin(traced[name].channels, reason)
    _tie(tracing, graph, traced)
    number, reasons = tracing.groups()
    outputs = {n: replace(c, channels=number[c.channels]) for n, c in traced.items()}
    members: list[dict[str, tuple[int, ...]]] = [{} for _ in reasons]
    for name in weighted_ops(graph):
        for channel, group in enumerate(outputs[name].channels.tolist()):
            members[group][name] = (*members[group].get(name, ()), channel)
    groups = (ChannelGroup(m, reason) for m, reason in zip(members, reasons, strict=True))
    return Coupling(graph, outputs, tuple(groups))


def place(tensor: Tensor) -> tuple[object, ...]:
    """Where a tensor's numbers lie: the same for tensors that are one."""
    return tensor.data_ptr(), tensor.device, tensor.dtype, tensor.shape, tensor.stride()


def tensor_at(node: Node, cut: Cut) -> Tensor:
    """The tensor that a cut goes through."""
    value = getattr(node.op, cut.field)
    tensor: Tensor = value if cut.item is None else value[cut.item]
    return tensor


def _tie(tracing: Tracing, graph: Graph, traced: Mapping[str, Carried]) -> None:
    """Couple what one tensor serves in two places, so that it can be cut once for both."""
    seen: dict[tuple[object, ...], Tensor] = {}
    for name, node in nested_nodes(graph):
        for cut in _cuts(name, node, traced):
            key = (*place(tensor_at(node, cut)), cut.axis)
            tracing.unite(cut.channels, seen.setdefault(key, cut.channels))


def _cuts(name: str, node: Node, outputs: Mapping[str, Carried]) -> tuple[Cut, ...]:
    if type(node.op) not in cuts:
        return ()
    sources = [outputs[source] for source in read_by(name, node)]
    return cuts[type(node.op)](node.op, sources, outputs[name])
