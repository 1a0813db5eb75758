"""Gradual magnitude pruning: the smallest weights go step by step, while the rest is trained."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch

from spikemorph.graph import Graph, InputError
from spikemorph.train import GraphModule
from spikemorph.train.companion import Moment
from spikemorph.train.masked import mask_in

from .allocation import Allocation, Lamp
from .masked import keep_only, masked_module, train_module
from .methods import methods
from .task import PruneTask


@dataclass(frozen=True)
class Gradual:
    """Raise the sparsity while training: ``s_t = s (1 - (1 - t / end)^3)`` (Zhu and Gupta, 2017).

    Ranked over all layers (LAMP) unless the task says otherwise.

    Parameters
    ----------
    every : int
        Steps between two prunings.
    end : float
        Share of the run, 0..1, after which the masks stay.
    """

    name: ClassVar[str] = "gradual"
    every: int = 50
    end: float = 0.6

    def __post_init__(self) -> None:
        if self.every < 1 or not 0 < self.end <= 1:
            raise InputError(f"{self}: give every >= 1 steps and an end in 0 < end <= 1")

    def __call__(self, task: PruneTask) -> Graph:
        lesson = task.taught(self)
        dense = {n: torch.ones_like(w, dtype=torch.bool) for n, w in task.weights().items()}
        allocation = task.allocation or Lamp()
        task.checked(allocation.masks(task.magnitudes(), task.sparsity))  # refuse before training
        removal = _Removal(self, task, allocation)
        pruned = math.ceil(
            self.end * lesson.settings.epochs
        )  # the epoch in which the last weight goes
        module = masked_module(task.graph, dense)
        return train_module(module, dense, lesson, removal, first=max(1, pruned))


@dataclass(frozen=True)
class _Removal:
    """Draws the masks anew from all weights' magnitudes when it is time.

    Removed weights are zero and stay out.
    """

    method: Gradual
    task: PruneTask
    allocation: Allocation

    def before_update(self, moment: Moment) -> bool:
        return True

    @torch.no_grad()
    def after_update(self, moment: Moment) -> None:
        last = max(1, int(moment.steps * self.method.end))
        due = moment.step % self.method.every == 0 and moment.step < last
        if not due and moment.step != last:
            return
        module = moment.model
        assert isinstance(module, GraphModule)
        sparsity = self.task.sparsity * (1 - (1 - moment.step / last) ** 3)
        scores = {n: module.weight(n).detach().double().abs() for n in self.task.weights()}
        for name, mask in self.task.checked(self.allocation.masks(scores, sparsity)).items():
            mask_in(module, name).copy_(mask)
            keep_only(moment, module.weight(name), mask)


methods(Gradual.name)(Gradual())
