"""DEEP R: rewire by a random walk, every layer at its own number of connections."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Generator, Tensor

from spikemorph.graph import Graph, InputError

from .allocation import ErdosRenyi
from .deepr_connections import Signed, Walk, signed_module
from .masked import train_module
from .methods import methods
from .task import PruneTask


@dataclass(frozen=True)
class DeepR:
    """Deep rewiring (Bellec et al., ICLR 2018) with a fixed number of connections in every layer.

    Started from the largest of the given weights, whose signs stay; ERK unless the task says
    otherwise.

    Parameters
    ----------
    noise : float
        Standard deviation of the random step, times the learning rate; the paper's step
        ``sqrt(2 rate T)`` has the temperature ``T = rate noise^2 / 2``.
    l1 : float
        How fast strengths shrink, times the learning rate.
    """

    name: ClassVar[str] = "deepr"
    noise: float = 1e-5
    l1: float = 1e-5

    def __post_init__(self) -> None:
        if self.noise < 0 or self.l1 < 0:
            raise InputError(f"{self}: give a noise and an l1 of 0 or more")

    def __call__(self, task: PruneTask) -> Graph:
        lesson = task.taught(self)
        masks = task.allocated(task.magnitudes(), ErdosRenyi())
        module = signed_module(task.graph, masks, task.generator())
        walk = Walk(tuple(masks), self.noise, self.l1, in_place)
        return train_module(module, masks, lesson, walk)


def in_place(
    layers: Mapping[str, Signed], stays: Mapping[str, Tensor], generator: Generator
) -> dict[str, int]:
    """Every layer gets back what it lost."""
    return {name: int(layer.mask.sum()) - int(stays[name].sum()) for name, layer in layers.items()}


methods(DeepR.name)(DeepR())
