"""Bayesian connectivity sampling: rewire by a random walk, one budget over all layers."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor

from spikemorph.graph import Graph, InputError

from .allocation import ErdosRenyi
from .deepr_connections import Signed, Walk, signed_module
from .masked import train_module
from .methods import methods
from .task import PruneTask


@dataclass(frozen=True)
class Bcs:
    """Posterior sampling of connections (Ozdenizci and Legenstein, ICML 2021).

    What layers lose is shared among all of them in proportion to their sizes, so that their
    sparsities are found in training; the sum stays. A layer that lost everything gets one
    connection back before the rest is shared, unless the task lets layers be empty. Started from
    the largest of the given weights, whose signs stay; ERK unless the task says otherwise.

    Parameters
    ----------
    noise : float
        Standard deviation of the random step, times the learning rate.
    l1 : float
        How fast strengths shrink, times the learning rate (published: 0, weight decay alone).
    """

    name: ClassVar[str] = "bcs"
    noise: float = 1e-6
    l1: float = 0.0

    def __post_init__(self) -> None:
        if self.noise < 0 or self.l1 < 0:
            raise InputError(f"{self}: give a noise and an l1 of 0 or more")

    def __call__(self, task: PruneTask) -> Graph:
        lesson = task.taught(self)
        masks = task.allocated(task.magnitudes(), ErdosRenyi())
        module = signed_module(task.graph, masks, task.generator())
        sharing = Budget(at_least=0 if task.allow_empty else 1)
        return train_module(module, masks, lesson, Walk(tuple(masks), self.noise, self.l1, sharing))


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


methods(Bcs.name)(Bcs())
