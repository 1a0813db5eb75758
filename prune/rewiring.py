"""Sparse training whose masks move: drop the smallest weights, grow others elsewhere."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from spikemorph.graph import Graph, InputError
from spikemorph.graph.brief import brief_repr
from spikemorph.train import GraphModule
from spikemorph.train.companion import Moment
from spikemorph.train.masked import Masked

from .allocation import ErdosRenyi, best
from .masked import keep_only, masked_module, train_module
from .task import Method, PruneTask

Growth = Callable[[Masked, torch.Generator], Tensor]  # a score for every position that may grow


@dataclass(frozen=True)
class Rewiring:
    """Every `every` steps, a share of each layer's weights is dropped and as many are grown.

    The share falls as half a cosine from `share` to 0 at the share `end` of the run (RigL, ICML
    2020, section 3). Grown weights start at zero, without momentum; the step's own weight update is
    left out, as there. A weight that was just dropped is not grown again in the same step.
    """

    growth: Growth
    every: int
    share: float
    end: float

    __repr__ = brief_repr

    def __post_init__(self) -> None:
        if self.every < 1 or not 0 <= self.share <= 1 or not 0 < self.end <= 1:
            raise InputError(
                f"rewiring every {self.every} steps a share of {self.share:g} until {self.end:g} "
                "of the run: give every >= 1, 0 <= share <= 1 and 0 < end <= 1"
            )

    def before_update(self, moment: Moment) -> bool:
        """Rewire when it is time."""
        last = moment.steps * self.end
        if self.every >= last and self.share > 0:
            raise InputError(
                f"a run of {moment.steps} steps is too short to rewire every {self.every} of them "
                f"until {self.end:g} of the run: train longer, or (Python) give a smaller every"
            )
        if moment.step % self.every or moment.step >= last:
            return True
        share = self.share * (1 + math.cos(math.pi * moment.step / last)) / 2
        for layer, weight in _layers(moment):
            self._rewire(layer, weight, share, moment)
        return False

    def after_update(self, moment: Moment) -> None:
        """Forget this step's gradient; what was dropped gets none, so it stays zero."""
        for layer, _ in _layers(moment):
            layer.forget()

    @torch.no_grad()
    def _rewire(self, layer: Masked, weight: Tensor, share: float, moment: Moment) -> None:
        old = layer.mask
        count = min(int(share * int(old.sum())), int((~old).sum()))
        if count == 0:
            return
        sizes = torch.where(old, weight.abs(), -1.0)
        stays = best(sizes, int(old.sum()) - count)
        scores = torch.where(old, -1.0, self.growth(layer, moment.generator))
        grown = best(scores, count)
        layer.mask.copy_(stays | grown)
        keep_only(moment, weight, stays)


def _layers(moment: Moment) -> list[tuple[Masked, Tensor]]:
    """The masks that move, each with the weight that is learnt under it."""
    module = moment.model
    assert isinstance(module, GraphModule)
    found = []
    for key, layer in module.transforms.items():
        assert isinstance(layer, Masked)
        found.append((layer, getattr(module, key)))
    return found


def rewired(method: Method, task: PruneTask, rewiring: Rewiring) -> Graph:
    """The graph trained while it is rewired, started from the largest of the given weights."""
    lesson = task.taught(method)
    masks = task.allocated(task.magnitudes(), ErdosRenyi())
    module = masked_module(task.graph, masks, noting=True)
    return train_module(module, masks, lesson, rewiring)
