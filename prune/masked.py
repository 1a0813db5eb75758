"""Train a graph under masks that stay or move, and prove after every epoch that they were kept."""

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from spikemorph.graph import Graph, GraphError
from spikemorph.layers.masks import mask_hash, weight_of, weighted_nodes, with_masks
from spikemorph.train import GraphModule, fit
from spikemorph.train.companion import Companion
from spikemorph.train.loop import EpochRecord

from .task import Lesson


class Masked(nn.Module):
    """``weight * mask``: gradients are masked on their way back, so before the momentum is formed.

    The last gradient of all positions, kept or not, is left in `dense_gradient`.
    """

    mask: Tensor

    def __init__(self, mask: Tensor) -> None:
        super().__init__()
        self.register_buffer("mask", mask.clone())
        self.dense_gradient: Tensor | None = None

    def forward(self, weight: Tensor) -> Tensor:
        used = weight * self.mask
        if used.requires_grad:
            used.register_hook(self._note)
        return used

    def _note(self, gradient: Tensor) -> None:
        self.dense_gradient = gradient.detach()


def masked_module(graph: Graph, masks: Mapping[str, Tensor]) -> GraphModule:
    """The graph as a module whose weights are masked, and zero outside their masks."""
    module = GraphModule(graph, {name: Masked(mask) for name, mask in masks.items()})
    for name, mask in masks.items():
        with torch.no_grad():
            module.weight(name).mul_(mask)
    module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing from types
    return module


def masks_in(module: GraphModule, names: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The masks that a masked module holds now."""
    found = {}
    for name in names:
        transform = module.transform(name)
        assert isinstance(transform, Masked)
        found[name] = transform.mask.clone()
    return found


def train_masked(
    graph: Graph, masks: Mapping[str, Tensor], lesson: Lesson, companion: Companion | None = None
) -> Graph:
    """The graph after training under masks, which only a companion may move.

    Raises
    ------
    GraphError
        If, after an epoch, a weight outside its mask is not zero, or a mask that nothing may move
        is not bit for bit what it was.
    """
    module = masked_module(graph, masks)
    before = None if companion is not None else {n: mask_hash(m) for n, m in masks.items()}

    def check(record: EpochRecord) -> None:
        _check(module, masks, before, record.epoch)
        if lesson.on_epoch is not None:
            lesson.on_epoch(record)

    fit(
        module,
        lesson.train,
        lesson.settings,
        objective=lesson.objective,
        augment=lesson.augment,
        companion=companion,
        checkpoint=lesson.checkpoint,
        on_epoch=check,
        fabric=lesson.fabric,
    )
    return pruned(module.to_graph(), masks_in(module, masks))


def pruned(graph: Graph, masks: Mapping[str, Tensor]) -> Graph:
    """The graph with masks on every node that shares a masked weight."""
    owner = {id(weight_of(graph[name])): mask for name, mask in masks.items()}
    spread = {
        node.name: owner[id(weight_of(node))]
        for node in weighted_nodes(graph)
        if id(weight_of(node)) in owner
    }
    return shared_again(with_masks(graph, spread), graph)


def shared_again(masked: Graph, before: Graph) -> Graph:
    """Let nodes whose weights were one tensor before share one again."""
    first: dict[int, Tensor] = {}
    nodes = []
    for node in masked.nodes:
        if node in weighted_nodes(masked):
            weight = first.setdefault(id(weight_of(before[node.name])), weight_of(node))
            node = replace(node, op=replace(node.op, weight=weight))
        nodes.append(node)
    return masked.with_nodes(nodes)


def _check(
    module: GraphModule, masks: Mapping[str, Tensor], before: Mapping[str, str] | None, epoch: int
) -> None:
    for name, mask in masks_in(module, masks).items():
        if before is not None and mask_hash(mask) != before[name]:
            raise GraphError(f"node {name!r}: its mask moved in epoch {epoch}: this is a defect")
        if bool((module.weight(name)[~mask] != 0).any()):
            raise GraphError(
                f"node {name!r}: weights outside its mask are not zero after epoch {epoch}: "
                "this is a defect"
            )
