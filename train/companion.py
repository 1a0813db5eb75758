"""What goes along with training, step by step: rewiring, schedules, noise on weights."""

from dataclasses import dataclass
from typing import Protocol

from torch import Generator, nn
from torch.optim import Optimizer


@dataclass(frozen=True)
class Moment:
    """One step of a run, as a companion sees it."""

    model: nn.Module
    optimizer: Optimizer
    generator: Generator  # the run's own: what is drawn from it resumes with the run
    step: int  # counted from 1 over the whole run
    steps: int  # of the whole run
    rate: float  # learning rate


class Companion(Protocol):
    """Called at every step; what it has to remember it keeps in buffers of the model."""

    def before_update(self, moment: Moment) -> bool:
        """Gradients are there, weights not yet changed; False leaves this update out."""
        ...

    def after_update(self, moment: Moment) -> None:
        """Weights have been changed."""
        ...
