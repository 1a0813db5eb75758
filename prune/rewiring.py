"""Sparse training whose masks move: drop the smallest weights, grow others (SET, RigL)."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from spikemorph.graph import Graph
from spikemorph.train import GraphModule
from spikemorph.train.companion import Moment

from .allocation import ErdosRenyi, best
from .masked import Masked, train_masked
from .methods import methods
from .task import PruneTask

Growth = Callable[[Masked, torch.Generator], Tensor]  # a score for every position that may grow


def by_gradient(layer: Masked, generator: torch.Generator) -> Tensor:
    """RigL: where the loss's gradient is largest, zero weights included."""
    assert layer.dense_gradient is not None
    return layer.dense_gradient.abs()


def at_random(layer: Masked, generator: torch.Generator) -> Tensor:
    """SET: anywhere, all alike."""
    return torch.rand(layer.mask.shape, generator=generator).to(layer.mask.device)


@dataclass(frozen=True)
class Rewiring:
    """Every `every` steps, a share of each layer's weights is dropped and as many are grown.

    The share falls as half a cosine from `share` to 0 at the share `end` of the run (RigL, ICML
    2020, section 3). Grown weights start at zero, without momentum; the step's own weight update is
    left out, as there.
    """

    names: tuple[str, ...]
    growth: Growth
    every: int = 100
    share: float = 0.3
    end: float = 0.75

    def before_update(self, moment: Moment) -> bool:
        """Rewire when it is time."""
        module = moment.model
        assert isinstance(module, GraphModule)
        last = moment.steps * self.end
        if moment.step % self.every or moment.step >= last:
            return True
        share = self.share * (1 + math.cos(math.pi * moment.step / last)) / 2
        for name in self.names:
            layer = module.transform(name)
            assert isinstance(layer, Masked)
            self._rewire(layer, module.weight(name), share, moment)
        return False

    def after_update(self, moment: Moment) -> None:
        """Nothing: what was dropped gets no gradient, so it stays zero."""

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
        weight.mul_(stays)
        momentum = moment.optimizer.state[weight].get("momentum_buffer")
        if momentum is not None:
            momentum.mul_(stays)


def _rewired(task: PruneTask, method: str, growth: Growth) -> Graph:
    lesson = task.taught(method)
    masks = task.allocated(task.magnitudes(), ErdosRenyi())
    return train_masked(task.graph, masks, lesson, Rewiring(tuple(masks), growth))


@methods("rigl")
def prune_by_rigl(task: PruneTask) -> Graph:
    """RigL (Evci et al., ICML 2020), started from the largest of the given weights."""
    return _rewired(task, "rigl", by_gradient)


@methods("set")
def prune_by_set(task: PruneTask) -> Graph:
    """SET (Mocanu et al., 2018), started from the largest of the given weights."""
    return _rewired(task, "set", at_random)
