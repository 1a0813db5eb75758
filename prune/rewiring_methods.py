"""The methods whose masks move while a network is trained: RigL, SET, DEEP R, Bayesian sampling.

RigL and SET differ in where they grow, DEEP R and Bayesian connectivity sampling in how lost
connections are shared; each pair is one method otherwise.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.distributed as processes
from torch import Generator, Tensor

from spikemorph.graph import Graph, InputError
from spikemorph.train.masked import Masked

from .allocation import ErdosRenyi
from .deepr_connections import Sharing, Signed, Walk, signed_module
from .masked import train_module
from .methods import methods
from .rewiring import Growth, Rewiring, rewired
from .task import PruneTask


@dataclass(frozen=True)
class Rewires:
    """Drop each layer's smallest weights and grow as many elsewhere, now and then. ERK by default.

    Parameters
    ----------
    every : int
        Steps between two rewirings.
    share : float
        Of a layer's weights that is moved at first, 0..1.
    end : float
        Share of the run, 0..1, after which the masks stay.
    """

    name: ClassVar[str]
    grows: ClassVar[Growth]
    every: int = 100
    share: float = 0.3
    end: float = 0.75

    def __call__(self, task: PruneTask) -> Graph:
        growth = type(self).grows
        return rewired(self, task, Rewiring(growth, self.every, self.share, self.end))


def by_gradient(layer: Masked, generator: Generator) -> Tensor:
    """The size of the gradient of the loss at every position, over all processes."""
    gradient = layer.dense_gradient
    assert gradient is not None
    if processes.is_available() and processes.is_initialized():
        processes.all_reduce(gradient := gradient.clone())
    return gradient.abs()


def at_random(layer: Masked, generator: Generator) -> Tensor:
    """A score for every position, drawn from the run's generator."""
    return torch.rand(layer.mask.shape, generator=generator).to(layer.mask.device)


@dataclass(frozen=True)
class Rigl(Rewires):
    """Grow where the loss's gradient is largest, zero weights included (Evci et al., ICML 2020)."""

    name = "rigl"
    grows = by_gradient


@dataclass(frozen=True)
class Set(Rewires):
    """Grow anywhere, all positions alike (sparse evolutionary training, Mocanu et al., 2018)."""

    name = "set"
    grows = at_random


@dataclass(frozen=True)
class Walks:
    """Rewire by a random walk of strengths whose signs stay: those that would cross zero disconnect.

    Started from the largest of the given weights; ERK unless the task says otherwise.

    Parameters
    ----------
    noise : float
        Standard deviation of the random step, times the learning rate; the paper's step
        ``sqrt(2 rate T)`` has the temperature ``T = rate noise^2 / 2``.
    l1 : float
        How fast strengths shrink, times the learning rate.
    """

    name: ClassVar[str]
    noise: float
    l1: float

    def __post_init__(self) -> None:
        if self.noise < 0 or self.l1 < 0:
            raise InputError(f"{self}: give a noise and an l1 of 0 or more")

    def sharing(self, task: PruneTask) -> Sharing:
        """How connections that layers lost are given back."""
        raise NotImplementedError

    def __call__(self, task: PruneTask) -> Graph:
        lesson = task.taught(self)
        masks = task.allocated(task.magnitudes(), ErdosRenyi())
        module = signed_module(task.graph, masks, task.generator())
        walk = Walk(tuple(masks), self.noise, self.l1, self.sharing(task))
        return train_module(module, masks, lesson, walk)


@dataclass(frozen=True)
class DeepR(Walks):
    """Deep rewiring (Bellec et al., ICLR 2018) with a fixed number of connections in every layer."""

    name = "deepr"
    noise: float = 1e-5
    l1: float = 1e-5

    def sharing(self, task: PruneTask) -> Sharing:
        return in_place


@dataclass(frozen=True)
class Bcs(Walks):
    """Posterior sampling of connections (Ozdenizci and Legenstein, ICML 2021).

    What layers lose is shared among all of them in proportion to their sizes, so that their
    sparsities are found in training; the sum stays. A layer that lost everything gets one
    connection back before the rest is shared, unless the task lets layers be empty. Published with
    an `l1` of 0: weight decay alone.
    """

    name = "bcs"
    noise: float = 1e-6
    l1: float = 0.0

    def sharing(self, task: PruneTask) -> Sharing:
        return Budget(at_least=0 if task.allow_empty else 1)


def in_place(
    layers: Mapping[str, Signed], stays: Mapping[str, Tensor], generator: Generator
) -> dict[str, int]:
    """Every layer gets back what it lost."""
    return {name: int(layer.mask.sum()) - int(stays[name].sum()) for name, layer in layers.items()}


@dataclass(frozen=True)
class Budget:
    """Shares lost connections among layers by a draw in proportion to their sizes."""

    at_least: int  # connections in every layer

    def __call__(
        self, layers: Mapping[str, Signed], stays: Mapping[str, Tensor], generator: Generator
    ) -> dict[str, int]:
        before = torch.tensor([int(layer.mask.sum()) for layer in layers.values()])
        left = torch.tensor([int(stays[name].sum()) for name in layers])
        size = torch.tensor([layer.mask.numel() for layer in layers.values()])
        first = (self.at_least - left).clamp(min=0)
        rest = int((before - left).sum() - first.sum())
        given = first + shares(size, size - left - first, rest, generator)
        return dict(zip(layers, given.tolist(), strict=True))


def shares(size: Tensor, room: Tensor, count: int, generator: Generator) -> Tensor:
    """Whole numbers that sum to `count`, drawn in proportion to `size`, none above its room."""
    given = torch.zeros_like(size)
    while (missing := count - int(given.sum())) > 0:
        chances = size * (given < room).to(torch.float64)
        drawn = torch.multinomial(chances, missing, replacement=True, generator=generator)
        given = torch.minimum(given + torch.bincount(drawn, minlength=len(size)), room)
    return given


for method in (Rigl(), Set(), DeepR(), Bcs()):
    methods(method.name)(method)
