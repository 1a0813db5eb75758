"""SET: sparse evolutionary training, rewiring at random (Mocanu et al., 2018)."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from spikemorph.graph import Graph
from spikemorph.train.masked import Masked

from .methods import methods
from .rewiring import Rewiring, rewired
from .task import PruneTask


@dataclass(frozen=True)
class Set:
    """Drop the smallest weights and grow anywhere, all positions alike. ERK by default.

    Parameters
    ----------
    every : int
        Steps between two rewirings.
    share : float
        Of a layer's weights that is moved at first, 0..1.
    end : float
        Share of the run, 0..1, after which the masks stay.
    """

    name: ClassVar[str] = "set"
    every: int = 100
    share: float = 0.3
    end: float = 0.75

    def __call__(self, task: PruneTask) -> Graph:
        return rewired(self, task, Rewiring(at_random, self.every, self.share, self.end))


def at_random(layer: Masked, generator: torch.Generator) -> Tensor:
    """A score for every position, drawn from the run's generator."""
    return torch.rand(layer.mask.shape, generator=generator).to(layer.mask.device)


methods(Set.name)(Set())
