"""HARP: learn which weights to keep, and how many in every layer (ICLR 2023)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from spikemorph.graph import Graph, InputError
from spikemorph.train.companion import Moment

from .allocation import Allocation, Uniform, kept_of, whole_counts
from .hydra import Scoring, first_scores, largest, learn_scores, scored_module, weights_phase
from .masked import pruned, train_masked
from .methods import methods
from .task import PruneTask

_HIGHEST = 0.99  # first density of a layer: above it the sigmoid has no slope left


@dataclass(frozen=True)
class Harp:
    """HYDRA's scores and a learnt density for every layer, then training under the final mask.

    Densities start where the task's allocation (uniform, if none) puts a density of
    ``sqrt(1 - sparsity)``: a tenth where a hundredth is the target, as published. They are pushed
    down by ``gamma e`` times the hinge of `excess` in epoch e, and stand still from the step on in
    which the target is reached. The final mask has the target's count exactly.

    Parameters
    ----------
    scoring : Scoring
        How scores and densities are learnt.
    gamma : float
        Weight of the hinge in the first epoch.
    floor : float
        Least density of a layer, as a share of the target; at least one weight is kept.
    """

    name: ClassVar[str] = "harp"
    scoring: Scoring = Scoring(decay=5e-4)
    gamma: float = 0.01
    floor: float = 0.1

    def __post_init__(self) -> None:
        if not self.gamma >= 0 or not 0 <= self.floor < 1:
            raise InputError(f"{self}: give gamma >= 0 and 0 <= floor < 1")

    def __call__(self, task: PruneTask) -> Graph:
        lesson = task.taught(self)
        layers = self.layers(task)
        target = Target(
            layers, kept_of(sum(layer.size for layer in layers.values()), task.sparsity)
        )
        module = scored_module(task.graph, layers)
        phase = lesson.phase("scores", self.scoring.share)
        push = _Push(target, self.gamma, phase.settings.epochs)
        learn_scores(module, lesson, self.scoring, push)
        target.settle()
        masks = {n: largest(layers[n].scores, count) for n, count in target.counts().items()}
        graph = pruned(module.to_graph(), masks)
        return train_masked(graph, task.checked(masks), weights_phase(lesson, self.scoring))

    def layers(self, task: PruneTask) -> dict[str, "Rated"]:
        """The transforms of all weights, at their first densities."""
        density = 1 - task.sparsity
        start: Allocation = task.allocation or Uniform()
        first = start.masks(task.magnitudes(), 1 - density**0.5)
        return {
            name: Rated(weight, int(first[name].sum()) / weight.numel(), self.floor * density)
            for name, weight in task.weights().items()
        }


class _AtDensity(torch.autograd.Function):
    """1 where a score is among the largest, at a density; the mask's gradient reaches the scores
    as it is, and the density as its sum."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor, density: Tensor) -> Tensor:
        kept = max(1, round(float(density) * scores.numel()))
        return largest(scores, kept).to(scores)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        return gradients[0], gradients[0].sum()


class Rated(nn.Module):
    """``weight * mask``, the mask being the largest scores at the density
    ``k = floor + (1 - floor) sigmoid(rate)``."""

    rested: Tensor

    def __init__(self, weight: Tensor, density: float, floor: float) -> None:
        super().__init__()
        self.size = weight.numel()
        self.floor = max(floor, 1 / self.size)
        inside = (min(density, _HIGHEST) - self.floor) / (1 - self.floor) if self.size > 1 else 0.5
        self.scores = first_scores(weight)
        self.rate = nn.Parameter(torch.logit(torch.tensor(inside), eps=1e-4))
        self.register_buffer("rested", torch.tensor(False))

    def density(self) -> Tensor:
        """k, a scalar that gradients pass through, float64."""
        return self.floor + (1 - self.floor) * torch.sigmoid(self.rate.double())

    def forward(self, weight: Tensor) -> Tensor:
        chosen: Tensor = _AtDensity.apply(self.scores.abs(), self.density())  # type: ignore[no-untyped-call]
        return weight.detach() * chosen


@dataclass(frozen=True)
class Target:
    """How many weights are to be left over all layers, and how far their densities are from it.

    Raises
    ------
    InputError
        If the least that layers keep is more.
    """

    layers: Mapping[str, Rated]
    kept: int

    def __post_init__(self) -> None:
        least = sum(layer.floor * layer.size for layer in self.layers.values())
        if least > self.kept:
            raise InputError(
                f"method harp keeps at least {least:.1f} weights in {len(self.layers)} layers, and "
                f"{self.kept} are to be left: prune less, or take a lower floor"
            )

    def total(self) -> Tensor:
        """``sum of size_l k_l``, a scalar that gradients pass through."""
        return torch.stack([layer.size * layer.density() for layer in self.layers.values()]).sum()

    def excess(self) -> Tensor:
        """``max(0, total / kept - 1)``, zero as soon as less than half a weight is too many."""
        over = self.total() - self.kept
        return torch.where(over < 0.5, torch.zeros_like(over), over / self.kept)

    @torch.no_grad()
    def settle(self) -> None:
        """Move all rates by one amount, so that the densities sum to the target."""
        low, high = -64.0, 64.0
        before = {name: layer.rate.clone() for name, layer in self.layers.items()}
        for _ in range(60):
            middle = (low + high) / 2
            for name, layer in self.layers.items():
                layer.rate.copy_(before[name] + middle)
            low, high = (low, middle) if float(self.total()) > self.kept else (middle, high)

    @torch.no_grad()
    def counts(self) -> dict[str, int]:
        """The weights that every layer keeps, after `settle`; they sum to the target."""
        exact = {name: layer.size * float(layer.density()) for name, layer in self.layers.items()}
        return whole_counts(exact, {n: layer.size for n, layer in self.layers.items()}, self.kept)


@dataclass(frozen=True)
class _Push:
    """Adds the hinge's gradient to the rates', until the target is reached; then rates stand still."""

    target: Target
    gamma: float
    epochs: int

    def before_update(self, moment: Moment) -> bool:
        layers = list(self.target.layers.values())
        if not bool(layers[0].rested) and self.target.excess().item() == 0:
            self.target.settle()
            for layer in layers:
                layer.rested.fill_(True)
        if bool(layers[0].rested):
            for layer in layers:
                layer.rate.grad = None  # no step, no decay, no momentum
            return True
        epoch = (moment.step - 1) * self.epochs // moment.steps + 1
        rates = [layer.rate for layer in layers]
        for rate, pull in zip(rates, torch.autograd.grad(self.target.excess(), rates), strict=True):
            assert rate.grad is not None
            rate.grad += self.gamma * epoch * pull
        return True

    def after_update(self, moment: Moment) -> None:
        """Nothing."""


methods(Harp.name)(Harp())
