"""Magnitude pruning: the smallest weights go, at once or step by step."""

from dataclasses import dataclass

import torch

from spikemorph.graph import Graph
from spikemorph.train import GraphModule
from spikemorph.train.companion import Moment

from .allocation import Allocation, Lamp, Uniform
from .masked import Masked, pruned, train_masked
from .methods import methods
from .task import PruneTask


@methods("magnitude")
def prune_by_magnitude(task: PruneTask) -> Graph:
    """One shot by ``|w|``, by layer unless the task says otherwise, then training under the mask."""
    masks = task.allocated(task.magnitudes(), Uniform())
    if task.lesson is None:
        return pruned(task.graph, masks)
    return train_masked(task.graph, masks, task.lesson)


@dataclass(frozen=True)
class Gradual:
    """Raise the sparsity while training: ``s_t = s (1 - (1 - t / end)^3)`` (Zhu and Gupta, 2017).

    Masks are drawn anew from all weights' magnitudes every `every` steps until the share `end` of
    the run; removed weights are zero and stay out.
    """

    task: PruneTask
    allocation: Allocation
    every: int = 50
    end: float = 0.6

    def before_update(self, moment: Moment) -> bool:
        return True

    @torch.no_grad()
    def after_update(self, moment: Moment) -> None:
        """Prune further, when it is time."""
        last = max(1, int(moment.steps * self.end))
        due = moment.step % self.every == 0 and moment.step < last
        if not due and moment.step != last:
            return
        module = moment.model
        assert isinstance(module, GraphModule)
        sparsity = self.task.sparsity * (1 - (1 - moment.step / last) ** 3)
        scores = {n: module.weight(n).detach().double().abs() for n in self.task.weights()}
        for name, mask in self.task.checked(self.allocation.masks(scores, sparsity)).items():
            transform, weight = module.transform(name), module.weight(name)
            assert isinstance(transform, Masked)
            transform.mask.copy_(mask)
            weight.mul_(mask)
            momentum = moment.optimizer.state[weight].get("momentum_buffer")
            if momentum is not None:
                momentum.mul_(mask)


@methods("gradual")
def prune_gradually(task: PruneTask) -> Graph:
    """Magnitude pruning on the cubic schedule, ranked over all layers (LAMP) unless told otherwise."""
    lesson = task.taught("gradual")
    dense = {n: torch.ones_like(w, dtype=torch.bool) for n, w in task.weights().items()}
    allocation = task.allocation or Lamp()
    task.checked(allocation.masks(task.magnitudes(), task.sparsity))  # refuse before training
    return train_masked(task.graph, dense, lesson, Gradual(task, allocation))
