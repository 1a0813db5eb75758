"""SNIP: keep the weights that the loss feels most, found in one look at the data (ICLR 2019)."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor

from spikemorph.graph import Graph, InputError
from spikemorph.train import GraphModule

from .allocation import Ranked
from .masked import one_shot
from .methods import methods
from .task import Lesson, PruneTask


@dataclass(frozen=True)
class Snip:
    """One shot by ``|w dL/dw|``, ranked over all layers unless the task says otherwise.

    L is the lesson's objective on one batch, in training mode: batch norms use the batch's own
    statistics. The weights are taken as they are given; to prune at initialisation, as published,
    give the task a graph of first weights (`fresh`).

    Parameters
    ----------
    samples : int
        In the batch, drawn by the task's seed; all there are, where there are fewer.
    """

    name: ClassVar[str] = "snip"
    samples: int = 128

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise InputError(f"snip on {self.samples} samples: give 1 or more")

    def __call__(self, task: PruneTask) -> Graph:
        lesson = task.taught(self)
        felt = connection_sensitivity(task, lesson, self.samples)
        return one_shot(self, task, task.allocated(felt, Ranked()))


def connection_sensitivity(task: PruneTask, lesson: Lesson, samples: int) -> dict[str, Tensor]:
    """``|w dL/dw|`` of every weight, float64.

    Raises
    ------
    InputError
        If the loss or a gradient is no finite number.
    """
    generator: Generator = task.generator()
    module = GraphModule(task.graph).train()
    order = torch.randperm(len(lesson.train), generator=generator)
    batch = lesson.train.rows(order[:samples])
    device = torch.device("cpu") if lesson.fabric is None else lesson.fabric.device
    module.to(device)
    lesson.objective(module, batch.x.to(device), batch.y.to(device), generator).backward()
    felt = {}
    for name, weight in task.weights().items():
        learnt = module.weight(name)
        gradient = torch.zeros_like(learnt) if learnt.grad is None else learnt.grad
        felt[name] = (learnt.detach().double() * gradient.double()).abs().to(weight.device)
        if not bool(torch.isfinite(felt[name]).all()):
            raise InputError(
                f"node {name!r}: the loss's gradient is no finite number; check the inputs' range"
            )
    return felt


methods(Snip.name)(Snip())
