"""Take whole channels out of a network: masked, as zeros, or removed, so that it really is smaller."""

from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from spikemorph.graph import Graph, InputError, Node, Op
from spikemorph.graph.graph import Register
from spikemorph.graph.nested import nested_map, read_by
from spikemorph.graph.traits import Moves, Recurs, Weighted
from spikemorph.layers.affine import ScaleShift

from .channel_groups import Channels, Coupling, couple_channels, place
from .channel_rows import Change, Cut, shrinks
from .channel_tracing import Carried


def mask_channels(graph: Graph, removed: Channels, *, whole: bool = False) -> Graph:
    """The same network with channels that are exactly zero, and masks that say so.

    Filters, biases, gains and shifts of the channels become zero, and so do all weights that read
    them, and what registers hold of them at the start; masks that the graph has are narrowed.

    Parameters
    ----------
    graph : Graph
        A float graph, as a reader gives it.
    removed : mapping
        Output channels by weighted node. With each go all that are coupled to it (`couple_channels`).
    whole : bool
        Allow that a layer loses all its channels, where only concatenations read it.

    Raises
    ------
    InputError
        If a channel does not exist or must stay (with the reason: it is an output, a sigmoid stands
        behind it), or if a layer would lose all its channels.
    """
    coupling = couple_channels(graph)
    kept = coupling.kept(_planned(coupling, removed, whole))
    cutting = _Cutting(kept, _zeroed)

    def masked(name: str, node: Node) -> Node:
        if _untouched(name, node, coupling, kept):
            return node
        node = replace(node, op=_with_places(node.op, coupling.outputs[name]))
        return cutting.cut(node, [cut for cut in coupling.cuts(name, node) if cut.zeroed])

    return nested_map(graph, masked, lasting=cutting.lasting(coupling))


def remove_channels(graph: Graph, removed: Channels, *, whole: bool = False) -> Graph:
    """The smaller network: what `mask_channels` computes, without the channels.

    Sums lose the terms that were zero, so outputs are equal up to the rounding of sums in another
    order: exactly, where no sum rounds. Names stay, masks are cut as their weights are, a tensor that
    two nodes share is still shared. Where `whole` lets layers vanish, so do nodes that nothing reads
    any more. Parameters and errors are those of `mask_channels`.
    """
    coupling = couple_channels(graph)
    groups = _planned(coupling, removed, whole)
    kept, gone = coupling.kept(groups), set(coupling.emptied(groups))
    cutting = _Cutting(kept, _taken)

    def smaller(name: str, node: Node) -> Node:
        if name in gone or _untouched(name, node, coupling, kept):
            return node
        output, sources = coupling.outputs[name], coupling.sources(name, node)
        op = cutting.cut(node, coupling.cuts(name, node)).op
        if type(op) in shrinks:
            op = shrinks[type(op)](op, Change(kept, sources, output))
        pairs = zip(node.inputs, read_by(name, node), strict=True)
        return Node(node.name, op, tuple(short for short, full in pairs if full not in gone))

    left = nested_map(graph, smaller, lasting=cutting.lasting(coupling))
    if not gone:
        return left
    return _without_unread(left.with_nodes(node for node in left.nodes if node.name not in gone))


def _planned(coupling: Coupling, removed: Channels, whole: bool) -> frozenset[int]:
    """The groups to remove, if the network can lose them."""
    groups = coupling.resolve(removed)
    emptied = coupling.emptied(groups)
    for name in emptied:
        first = coupling.groups[int(coupling.outputs[name].channels[0])]
        fault = f"layer {next(iter(first.members), name)!r} would lose all its channels"
        if not whole:
            raise InputError(f"{fault} (at {name!r}): keep at least one")
        if name not in coupling.graph:
            raise InputError(f"{fault}, which is part of a recurrent layer: keep at least one")
        for reader in coupling.graph.users(name):
            others = isinstance(reader.op, Moves) and len(reader.inputs) > 1
            if reader.name not in emptied and not others:
                raise InputError(
                    f"{fault}, and {reader.name!r} ({type(reader.op).__name__}) reads nothing else: "
                    "keep at least one"
                )
    return groups


def _untouched(name: str, node: Node, coupling: Coupling, kept: Tensor) -> bool:
    """Whether a node loses nothing of what it reads and makes; of a body, its nodes do."""
    if isinstance(node.op, Recurs):
        return True
    around = (coupling.outputs[name], *coupling.sources(name, node))
    return all(bool(kept[carried.channels].all()) for carried in around)


class _Cutting:
    """Changes tensors along cuts; a tensor that two nodes share is changed once, and stays shared."""

    def __init__(self, kept: Tensor, change: Callable[[Tensor, int, Tensor], Tensor]) -> None:
        self._kept, self._change = kept, change
        # With what was changed beside it, so that no other tensor takes its memory.
        self._made: dict[tuple[object, ...], tuple[Tensor, Tensor]] = {}

    def cut(self, node: Node, cuts: Collection[Cut]) -> Node:
        """The node with its tensors changed; the same one where all its channels are kept."""
        changed: dict[str, Any] = {}
        for cut in cuts:
            positions = self._kept[cut.channels]
            if not bool(positions.all()):
                value = changed.get(cut.field, getattr(node.op, cut.field))
                if cut.item is None:
                    changed[cut.field] = self._once(value, cut.axis, positions)
                else:
                    items = list(value)
                    items[cut.item] = self._once(items[cut.item], cut.axis, positions)
                    changed[cut.field] = tuple(items)
        return replace(node, op=replace(node.op, **changed)) if changed else node

    def lasting(self, coupling: Coupling) -> Callable[[str, Register], Register]:
        """How registers change: where they start is cut along their node's channels."""

        def changed(name: str, register: Register) -> Register:
            carried = coupling.outputs[name]
            positions = self._kept[carried.channels]
            if bool(positions.all()):
                return register
            return replace(register, start=self._once(register.start, carried.axis, positions))

        return changed

    def _once(self, tensor: Tensor, axis: int, positions: Tensor) -> Tensor:
        key = (*place(tensor), axis, tuple(positions.tolist()))
        if key not in self._made:
            self._made[key] = tensor, self._change(tensor, axis, positions.to(tensor.device))
        return self._made[key][1]


def _zeroed(tensor: Tensor, axis: int, kept: Tensor) -> Tensor:
    return tensor.index_fill(axis, (~kept).nonzero()[:, 0], 0)


def _taken(tensor: Tensor, axis: int, kept: Tensor) -> Tensor:
    return tensor.index_select(axis, kept.nonzero()[:, 0])


def _with_places(op: Op, output: Carried) -> Op:
    """The op with a place for every value that masking sets: its mask, a shift for each channel."""
    if isinstance(op, Weighted) and op.mask is None:
        return op.having(mask=torch.ones_like(op.weight, dtype=torch.bool))
    if isinstance(op, ScaleShift) and bool((op.shift != 0).any()):
        rank, shift = len(output.shape), op.shift
        sizes = list(shift.shape or (1,) * rank)
        sizes[output.axis] = output.shape[output.axis]
        return replace(op, shift=shift.reshape(shift.shape or (1,) * rank).expand(sizes).clone())
    return op


def _without_unread(graph: Graph) -> Graph:
    """The graph without nodes that no output depends on; its inputs stay."""
    alive = {*graph.inputs, *graph.outputs}
    for node in reversed(graph.nodes):
        if node.name in alive:
            alive.update(node.inputs)
    return graph.with_nodes(node for node in graph.nodes if node.name in alive)
