"""RigL: rewire towards the largest gradients (Evci et al., ICML 2020)."""

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.distributed as processes
from torch import Tensor

from spikemorph.graph import Graph
from spikemorph.train.masked import Masked

from .methods import methods
from .rewiring import Rewiring, rewired
from .task import PruneTask


@dataclass(frozen=True)
class Rigl:
    """Grow where the loss's gradient is largest, zero weights included. ERK by default.

    Parameters
    ----------
    every : int
        Steps between two rewirings.
    share : float
        Of a layer's weights that is moved at first, 0..1.
    end : float
        Share of the run, 0..1, after which the masks stay.
    """

    name: ClassVar[str] = "rigl"
    every: int = 100
    share: float = 0.3
    end: float = 0.75

    def __call__(self, task: PruneTask) -> Graph:
        return rewired(self, task, Rewiring(by_gradient, self.every, self.share, self.end))


def by_gradient(layer: Masked, generator: torch.Generator) -> Tensor:
    """The size of the gradient of the loss at every position, over all processes."""
    gradient = layer.dense_gradient
    assert gradient is not None
    if processes.is_available() and processes.is_initialized():
        processes.all_reduce(gradient := gradient.clone())
    return gradient.abs()


methods(Rigl.name)(Rigl())
