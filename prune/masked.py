"""Train a graph under masks that stay or move, and prove after every epoch that they were kept."""

from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from spikemorph.graph import Graph, Node
from spikemorph.graph.nested import nested_map
from spikemorph.graph.traits import Weighted
from spikemorph.layers.masks import weighted_ops, with_masks
from spikemorph.train import GraphModule, fit
from spikemorph.train.companion import Companion, Moment, together
from spikemorph.train.loop import EpochRecord
from spikemorph.train.masked import Masked, check_masks, mask_in, zero_outside

from .task import Lesson, Method, PruneTask


def masked_module(
    graph: Graph, masks: Mapping[str, Tensor], *, noting: bool = False
) -> GraphModule:
    """The graph as a module whose weights are masked, and zero outside their masks."""
    module = GraphModule(graph, {n: Masked(mask, noting=noting) for n, mask in masks.items()})
    zero_outside(module, masks)
    return module


@torch.no_grad()
def keep_only(moment: Moment, weight: Tensor, stays: Tensor) -> None:
    """Zero a learnt weight and its momentum, except where it stays."""
    weight.mul_(stays)
    momentum = moment.optimizer.state[weight].get("momentum_buffer")
    if momentum is not None:
        momentum.mul_(stays)


def one_shot(method: Method, task: PruneTask, masks: Mapping[str, Tensor]) -> Graph:
    """The graph under masks that were found at once, trained under them where there is a lesson."""
    lesson = task.lesson_for(method)
    return pruned(task.graph, masks) if lesson is None else train_masked(task.graph, masks, lesson)


def train_masked(graph: Graph, masks: Mapping[str, Tensor], lesson: Lesson) -> Graph:
    """The graph after training under masks that stay; see `train_module`."""
    return train_module(masked_module(graph, masks), masks, lesson)


def train_module(
    module: GraphModule,
    masks: Mapping[str, Tensor],
    lesson: Lesson,
    companion: Companion | None = None,
    *,
    first: int = 1,
) -> Graph:
    """The graph of a module whose transforms hold masks, trained; only a companion may move masks.

    Where the lesson's ending chooses an epoch, it is `first` or a later one.

    Raises
    ------
    GraphError
        If, after an epoch, a weight outside its mask is not zero, or a mask that nothing may move
        is not bit for bit what it was.
    """
    before = None if companion is not None else {n: m.clone() for n, m in masks.items()}

    def check(record: EpochRecord) -> None:
        check_masks(module, masks, record.epoch, before)

    learn_to_the_end(module, lesson, companion, check, first)
    return pruned(module.to_graph(), {name: mask_in(module, name) for name in masks})


def learn_to_the_end(
    module: nn.Module,
    lesson: Lesson,
    companion: Companion | None = None,
    check: Callable[[EpochRecord], None] | None = None,
    first: int = 1,
) -> None:
    """Train a module by a lesson, and leave it with the weights that the lesson's ending chooses.

    `check` sees every epoch before anyone else does; of epochs before `first` none is chosen.
    """

    def told(record: EpochRecord) -> None:
        if check is not None:
            check(record)
        if lesson.on_epoch is not None:
            lesson.on_epoch(record)
        if following is not None:
            following.after_epoch(record.epoch)

    ending = lesson.ending
    following = None if ending is None else ending(module, lesson.checkpoint, first)
    also = None if following is None else following.companion
    if following is None or not following.over:  # stopped between an epoch's end and its judgement
        learn(module, replace(lesson, on_epoch=told), together(companion, also))
    module.eval()
    if following is not None:
        following.finish()


def learn(module: nn.Module, lesson: Lesson, companion: Companion | None = None) -> None:
    """Train a module by a lesson; it comes back to the device that it was on."""
    home = next(module.parameters()).device
    fit(
        module,
        lesson.train,
        lesson.settings,
        objective=lesson.objective,
        augment=lesson.augment,
        companion=companion,
        checkpoint=lesson.checkpoint,
        on_epoch=lesson.on_epoch,
        fabric=lesson.fabric,
    )
    module.to(home)


def pruned(graph: Graph, masks: Mapping[str, Tensor]) -> Graph:
    """The graph with masks on every node that shares a masked weight."""
    ops = weighted_ops(graph)
    owner = {
        id(ops[name].weight): mask.clone(memory_format=torch.contiguous_format)
        for name, mask in masks.items()
    }
    spread = {name: owner[id(op.weight)] for name, op in ops.items() if id(op.weight) in owner}
    return shared_again(with_masks(graph, spread), graph)


def shared_again(masked: Graph, before: Graph) -> Graph:
    """Let nodes whose weights were one tensor before share one again."""
    first: dict[int, Tensor] = {}
    ops = weighted_ops(before)

    def sharing(name: str, node: Node) -> Node:
        if not isinstance(node.op, Weighted):
            return node
        weight = first.setdefault(id(ops[name].weight), node.op.weight)
        return replace(node, op=node.op.having(weight=weight))

    return nested_map(masked, sharing)
