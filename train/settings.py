"""The numbers that fix a training run, and the learning rate they imply."""

import math
from dataclasses import dataclass

from spikemorph.graph.errors import InputError


@dataclass(frozen=True)
class TrainSettings:
    """Stochastic gradient descent with Nesterov momentum, the rate rising once and falling once."""

    epochs: int
    batch: int = 128
    rate: float = 0.1  # the highest learning rate
    warmup: float = 0.2  # share of the run in which the rate rises
    momentum: float = 0.9
    decay: float = 5e-4  # L2 penalty on all weights
    seed: int = 0
    clip: float = 0.0  # largest norm of all gradients together; 0 clips nothing

    def __post_init__(self) -> None:
        for name in ("epochs", "batch"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; give 1 or more")
        for name in ("rate", "momentum", "decay", "clip"):
            if not 0 <= getattr(self, name) < math.inf:
                raise InputError(f"{name} is {getattr(self, name)}; give 0 or more, not infinite")
        if not 0 <= self.warmup < 1:
            raise InputError(f"warmup is {self.warmup}; give a share of the run, 0 <= warmup < 1")

    def rate_at(self, progress: float) -> float:
        """The learning rate after this share of the run: a straight rise, then half a cosine."""
        if progress < self.warmup:
            return self.rate * progress / self.warmup
        fallen = (progress - self.warmup) / (1 - self.warmup)
        return self.rate * (1 + math.cos(math.pi * fallen)) / 2
