"""Which channels matter least: scores of channel groups, and a choice by them for a share to remove."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

import torch
from torch import Tensor

from spikemorph.graph import InputError, Op
from spikemorph.graph.brief import brief_repr
from spikemorph.graph.nested import nested_nodes
from spikemorph.graph.traits import Weighted
from spikemorph.layers.normalisation import BatchNorm

from .channel_groups import Coupling, Stock

# (op) -> a score for every output channel of the op, (out,); None for ops that have none.
ChannelScore = Callable[[Op], Tensor | None]


@dataclass(frozen=True)
class FilterNorm:
    """The norm of a channel's weights, all that make it: ``(sum |w|^order)^(1 / order)``.

    Order 1 is that of Li et al., "Pruning filters for efficient ConvNets" (ICLR 2017).
    """

    order: float = 1

    def __call__(self, op: Op) -> Tensor | None:
        if not isinstance(op, Weighted):
            return None
        return torch.linalg.vector_norm(op.weight.detach().double().flatten(1), self.order, dim=1)


@dataclass(frozen=True)
class NormGain:
    """The size of a channel's batch norm gain (Liu et al., "Network slimming", ICCV 2017)."""

    def __call__(self, op: Op) -> Tensor | None:
        return op.gain.detach().double().abs() if isinstance(op, BatchNorm) else None


class Scope(Enum):
    """What a share of channels is taken of."""

    LAYER = "layer"  # of every layer; layers with coupled channels are one
    NETWORK = "network"  # of all layers together, the lowest mean scores first


@dataclass(frozen=True, eq=False)
class ChannelScores:
    """Scores of the groups of a coupling, (group,) float64 each.

    `total` is the sum over all of a group's channels that the score knows, `count` says how many.
    """

    total: Tensor
    count: Tensor

    __repr__ = brief_repr

    @property
    def mean(self) -> Tensor:
        """The score per channel, which is what groups of different sizes are compared by."""
        return self.total / self.count.clamp(min=1)


def channel_scores(coupling: Coupling, score: ChannelScore) -> ChannelScores:
    """Score every channel group: the sum over its channels, wherever the score knows one.

    Raises
    ------
    InputError
        If a group that could be removed has no score (no batch norm behind a layer), naming the layer.
    """
    total = torch.zeros(len(coupling.groups), dtype=torch.float64)
    count = torch.zeros_like(total)
    for name, node in nested_nodes(coupling.graph):
        values = score(node.op)
        if values is not None:
            groups = coupling.outputs[name].channels
            total.index_add_(0, groups, values)
            count.index_add_(0, groups, torch.ones_like(values))
    for number, group in enumerate(coupling.groups):
        if group.pinned is None and group.members and not count[number]:
            name = next(iter(group.members))
            raise InputError(
                f"layer {name!r}: its channels have no {type(score).__name__} score; use FilterNorm"
            )
    return ChannelScores(total, count)


def choose_channels(
    coupling: Coupling, scores: ChannelScores, share: float, scope: Scope = Scope.LAYER
) -> dict[str, tuple[int, ...]]:
    """Choose the lowest-scored channels for removal; every layer keeps one at least.

    Parameters
    ----------
    coupling : Coupling
        Of the graph that is to be pruned.
    scores : ChannelScores
        Of the same coupling.
    share : float
        Of the channels that can be removed at all, 0 to below 1. It is never exceeded: coupled
        channels go together, so that less may be reached.
    scope : Scope
        Whether the share is taken of every layer or of the network.

    Returns
    -------
    dict
        Output channels by weighted node, for `mask_channels` and `remove_channels`.

    Raises
    ------
    InputError
        If the share is outside [0, 1), or cannot be reached without emptying a layer, naming it.
    """
    if not 0 <= share < 1:
        raise InputError(f"a share of {share:g} of the channels: give 0 to below 1")
    candidates = [k for k, g in enumerate(coupling.groups) if g.pinned is None and g.members]
    layers = _layers(coupling, candidates) if scope is Scope.LAYER else [candidates]
    stock = Stock(coupling)
    found: list[int] = []
    for groups in layers:
        ranked = sorted(groups, key=lambda k: float(scores.mean[k]))
        found += _lowest(coupling, ranked, share, stock)
    return coupling.channels_of(found)


def _layers(coupling: Coupling, candidates: list[int]) -> list[list[int]]:
    """The groups by layer; layers that share a group are one."""
    layers: list[tuple[set[str], list[int]]] = []
    for group in candidates:
        names = set(coupling.groups[group].members)
        joined = [layer for layer in layers if layer[0] & names]
        layers = [layer for layer in layers if not layer[0] & names]
        together = [k for layer in joined for k in layer[1]]
        layers.append((names.union(*(layer[0] for layer in joined)), [*together, group]))
    return [groups for _, groups in layers]


def _lowest(coupling: Coupling, ranked: list[int], share: float, stock: Stock) -> list[int]:
    """The first groups, passing over those that would exceed the share or empty a node."""
    sizes = {group: coupling.groups[group].size for group in ranked}
    budget = int(share * sum(sizes.values()) + 1e-6)  # that 0.9 of 10 be 9, whatever 0.9 is
    found: list[int] = []
    spared = ""
    for group in ranked:
        if sizes[group] > budget:
            continue
        if (node := stock.emptied_by(group)) is not None:
            spared = spared or node
            continue
        stock.take(group)
        budget -= sizes[group]
        found.append(group)
    if spared and any(sizes[g] <= budget for g in ranked if g not in found):
        raise InputError(
            f"a share of {share:g} of the channels would empty layer {spared!r}; remove fewer"
        )
    return found
