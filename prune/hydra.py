"""HYDRA: learn which weights to keep while the weights themselves stand still (NeurIPS 2020)."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from spikemorph.graph import Graph, InputError
from spikemorph.train import GraphModule
from spikemorph.train.companion import Companion

from .allocation import Uniform
from .masked import learn, pruned, train_masked
from .methods import methods
from .task import Lesson, PruneTask


@dataclass(frozen=True)
class Scoring:
    """How scores are learnt, before the weights are.

    Parameters
    ----------
    share : float
        Of the epochs that goes to the scores, 0 < share < 1; the weights get the rest.
    rate, decay : float
        Highest learning rate and weight decay of the scores, in place of the lesson's.
    """

    share: float = 0.4
    rate: float = 0.1
    decay: float = 1e-4

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise InputError(
                f"the scores' share of the epochs is {self.share:g}: give 0 < share < 1"
            )


@dataclass(frozen=True)
class Hydra:
    """Scores learnt under the lesson's objective, then the weights trained under the final mask.

    Uniform unless the task says otherwise.
    """

    name: ClassVar[str] = "hydra"
    scoring: Scoring = Scoring()

    def __call__(self, task: PruneTask) -> Graph:
        lesson = task.taught(self)
        first = task.allocated(task.magnitudes(), Uniform())
        weights = task.weights()
        transforms = {n: Scored(weights[n], int(mask.sum())) for n, mask in first.items()}
        module = scored_module(task.graph, transforms)
        learn_scores(module, lesson, self.scoring)
        masks = {name: transform.mask() for name, transform in transforms.items()}
        graph = pruned(module.to_graph(), masks)
        return train_masked(graph, task.checked(masks), weights_phase(lesson, self.scoring))


class _TopK(torch.autograd.Function):
    """1 where a score is among the k largest, else 0; its gradient passes straight through."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor, kept: int) -> Tensor:
        return largest(scores, kept).to(scores)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0], None


def largest(scores: Tensor, kept: int) -> Tensor:
    """The mask of the scores that are largest in size (faster than a full, stable order)."""
    flat = scores.detach().abs().reshape(-1)
    mask = torch.zeros_like(flat, dtype=torch.bool)
    mask[flat.topk(kept, sorted=False).indices] = True
    return mask.reshape(scores.shape)


def first_scores(weight: Tensor) -> nn.Parameter:
    """``sqrt(6 / fan_in) w / max |w|`` (HYDRA, equation 4), float32."""
    fan_in = math.prod(weight.shape[1:])
    start = math.sqrt(6 / fan_in) * weight.detach() / weight.detach().abs().max().clamp(1e-12)
    return nn.Parameter(start.to(torch.float32))


class Scored(nn.Module):
    """``weight * mask``, the mask being the `kept` scores that are largest in size.

    The mask's gradient g reaches a score s as ``g sign(s)``, through its absolute value.
    """

    def __init__(self, weight: Tensor, kept: int) -> None:
        super().__init__()
        self.scores = first_scores(weight)
        self.kept = kept

    def mask(self) -> Tensor:
        """The weights kept now, bool."""
        return largest(self.scores, self.kept)

    def forward(self, weight: Tensor) -> Tensor:
        chosen: Tensor = _TopK.apply(self.scores.abs(), self.kept)  # type: ignore[no-untyped-call]
        return weight.detach() * chosen


def scored_module(graph: Graph, transforms: Mapping[str, nn.Module]) -> GraphModule:
    """The graph with scores to learn; weights and biases stand still, batch norms go on learning."""
    module = GraphModule(graph, transforms)
    still = {key for key, _ in module.named_parameters() if key.endswith(("_weight", "_bias"))}
    for key, parameter in module.named_parameters():
        parameter.requires_grad_(key not in still)
    return module


def learn_scores(
    module: GraphModule, lesson: Lesson, scoring: Scoring, companion: Companion | None = None
) -> None:
    """Train what is not frozen, at the rate and decay of scores."""
    phase = lesson.phase("scores", scoring.share)
    own = replace(phase.settings, rate=scoring.rate, decay=scoring.decay)
    learn(module, replace(phase, settings=own), companion)


def weights_phase(lesson: Lesson, scoring: Scoring) -> Lesson:
    """What is left of a lesson for the weights."""
    return lesson.phase("weights", 1 - scoring.share)


methods(Hydra.name)(Hydra())
