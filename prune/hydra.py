"""HYDRA: learn which weights to keep while the weights themselves stand still (NeurIPS 2020)."""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from spikemorph.graph import Graph
from spikemorph.train import GraphModule, fit

from .allocation import Uniform
from .masked import pruned, train_masked
from .methods import methods
from .task import Lesson, PruneTask

SCORE_SHARE = 0.4  # of the epochs go to the scores, the rest to the weights
SCORE_RATE = 0.1  # learning rate of scores, as published
SCORE_DECAY = 1e-4


class _TopK(torch.autograd.Function):
    """1 where a score's size is among the k largest, else 0; its gradient passes straight through."""

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


class Scored(nn.Module):
    """``weight * mask``, the mask being the `kept` largest scores (HYDRA, section 3).

    Scores start at ``sqrt(6 / fan_in) w / max |w|``.
    """

    def __init__(self, weight: Tensor, kept: int) -> None:
        super().__init__()
        fan_in = math.prod(weight.shape[1:])
        start = math.sqrt(6 / fan_in) * weight.detach() / weight.detach().abs().max().clamp(1e-12)
        self.scores = nn.Parameter(start.to(torch.float32))
        self.kept = kept

    def mask(self) -> Tensor:
        """The weights kept now, bool."""
        return largest(self.scores, self.kept)

    def forward(self, weight: Tensor) -> Tensor:
        chosen: Tensor = _TopK.apply(self.scores.abs(), self.kept)  # type: ignore[no-untyped-call]
        return weight.detach() * chosen


def scored_module(graph: Graph, weights: Mapping[str, Tensor], kept: Mapping[str, int]) -> GraphModule:
    """The graph with scores to learn; weights and biases stand still, batch norms go on learning."""
    module = GraphModule(graph, {n: Scored(w, kept[n]) for n, w in weights.items()})
    still = {key for key, _ in module.named_parameters() if key.endswith(("_weight", "_bias"))}
    for key, parameter in module.named_parameters():
        parameter.requires_grad_(key not in still)
    module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing from types
    return module


@methods("hydra")
def prune_by_hydra(task: PruneTask) -> Graph:
    """Scores learnt under the lesson's objective, then the weights trained under the final mask.

    Two fifths of the epochs go to the scores. Uniform unless the task says otherwise.
    """
    lesson = task.taught("hydra")
    first = task.allocated(task.magnitudes(), Uniform())
    kept = {name: int(mask.sum()) for name, mask in first.items()}
    module = scored_module(task.graph, task.weights(), kept)
    scoring = lesson.phase("scores", SCORE_SHARE)
    learn_scores(module, scoring)
    masks = {}
    for name in kept:
        transform = module.transform(name)
        assert isinstance(transform, Scored)
        masks[name] = transform.mask()
    graph = pruned(module.to_graph(), masks)
    return train_masked(graph, task.checked(masks), lesson.phase("weights", 1 - SCORE_SHARE))


def learn_scores(module: GraphModule, lesson: Lesson) -> None:
    """Train what is not frozen, at the published rate and decay of scores."""
    settings = lesson.settings
    own = replace(settings, rate=SCORE_RATE, decay=SCORE_DECAY)
    fit(
        module,
        lesson.train,
        own,
        objective=lesson.objective,
        augment=lesson.augment,
        checkpoint=lesson.checkpoint,
        on_epoch=lesson.on_epoch,
        fabric=lesson.fabric,
    )
