"""What a training step makes small."""

from dataclasses import dataclass
from typing import Protocol

from torch import Generator, Tensor, nn
from torch.nn import functional as F


class Objective(Protocol):
    """A scalar loss of one batch; random starts are drawn from `generator`, so runs resume."""

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, generator: Generator) -> Tensor:
        """The loss of `model` on samples `x` with labels `y`."""
        ...


@dataclass(frozen=True)
class CrossEntropy:
    """-log p(label), the label holding 1 - smoothing and all classes sharing the rest."""

    smoothing: float = 0.0

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, generator: Generator) -> Tensor:
        """The mean over the batch."""
        return F.cross_entropy(model(x), y, label_smoothing=self.smoothing)
