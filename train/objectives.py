"""What a training step makes small."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from spikemorph.graph.tasks import Task


class Objective(Protocol):
    """A scalar loss of one batch; random starts are drawn from `generator`, so runs resume."""

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, generator: Generator) -> Tensor:
        """The loss of `model` on samples `x` with labels `y`."""
        ...


@runtime_checkable
class Scheduled(Protocol):
    """An objective that changes on the way: each step has one of its own, a value like any other."""

    def at(self, progress: float) -> Objective:
        """The objective of a step before which this share of the run has passed, 0 to 1."""
        ...


def now(objective: Objective, progress: float) -> Objective:
    """What a step makes small."""
    return objective.at(progress) if isinstance(objective, Scheduled) else objective


@dataclass(frozen=True)
class CrossEntropy:
    """-log p(label), the label holding 1 - smoothing and all classes sharing the rest."""

    smoothing: float = 0.0

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, generator: Generator) -> Tensor:
        """The mean over the batch."""
        return F.cross_entropy(model(x), y, label_smoothing=self.smoothing)


@dataclass(frozen=True)
class TaskLoss:
    """The loss of a task's own answers; see `Task.loss`."""

    task: Task
    smoothing: float = 0.0

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, generator: Generator) -> Tensor:
        """The mean over the batch."""
        return self.task.loss(model(x).float(), y, self.smoothing)


@dataclass(frozen=True)
class TwoSided:
    """An objective of classes for a network of one logit, which it sees as two; see `Task`."""

    objective: Objective
    task: Task

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, generator: Generator) -> Tensor:
        """The mean over the batch."""
        return self.objective(TwoSidedModule(model, self.task), x, y, generator)


class TwoSidedModule(nn.Module):
    """A module whose output has a logit for each class."""

    def __init__(self, model: nn.Module, task: Task) -> None:
        super().__init__()
        self.model, self.task = model, task
        self.training = model.training

    def forward(self, x: Tensor) -> Tensor:
        return self.task.two_sided(self.model(x))


@dataclass(frozen=True)
class Distillation:
    """``(1 - share) CE(label) + share t^2 KL(teacher || model)``, both softened by t.

    Hinton, Vinyals and Dean, 2015, section 2: a sparse network learns from the dense one it was cut
    from. The teacher is read in evaluation mode and left as it is.
    """

    teacher: nn.Module
    share: float = 0.9
    temperature: float = 4.0
    smoothing: float = 0.0

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, generator: Generator) -> Tensor:
        """The mean over the batch."""
        with torch.no_grad():
            wanted = F.log_softmax(self.teacher(x).float() / self.temperature, 1)
        logits = model(x).float()
        found = F.log_softmax(logits / self.temperature, 1)
        apart = F.kl_div(found, wanted, reduction="batchmean", log_target=True)
        clean = F.cross_entropy(logits, y, label_smoothing=self.smoothing)
        return (1 - self.share) * clean + self.share * self.temperature**2 * apart
