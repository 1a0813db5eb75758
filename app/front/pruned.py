"""A model that was pruned, and how commands and `spikemorph.prune` make it."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from spikemorph.graph import Graph
from spikemorph.graph.saving import save_graph
from spikemorph.prune import PruneTask
from spikemorph.train import GraphModule
from spikemorph.train.loop import EpochRecord
from spikemorph.zoo import Samples

from ..choices import by_name
from ..choices.settings import TrainingChoice
from ..sources.models import Model
from ..training.extra import Extra
from ..training.prune import PruneResult, prune_model
from ..training.settings import lesson_of

_CPU = torch.device("cpu")
_TRAINING = TrainingChoice()


@dataclass(frozen=True)
class Pruned:
    """A model that was pruned, its masks in its graph, and what that did."""

    model: Model
    result: PruneResult

    def __repr__(self) -> str:
        return repr(self.result)

    @property
    def graph(self) -> Graph:
        """The float graph."""
        return self.model.graph

    def module(self) -> GraphModule:
        """A torch module that computes it."""
        return GraphModule(self.graph).eval()

    def save(self, path: str | Path) -> None:
        """Save it as a ``.safetensors`` file, which is a model to every command.

        Raises
        ------
        InputError
            If it cannot be written.
        """
        save_graph(Path(path), self.graph)


def prune_samples(
    model: Model,
    sparsity: float,
    samples: Samples | None = None,
    training: TrainingChoice = _TRAINING,
    *,
    method: str = "magnitude",
    allocation: str | None = None,
    seed: int = 0,
    allow_empty: bool = False,
    extra: Extra | None = None,
    checkpoint: Path | None = None,
    device: torch.device = _CPU,
    tell: Callable[[EpochRecord], None] | None = None,
) -> Pruned:
    """What ``prune`` and `spikemorph.prune` do with a model; without samples nothing is trained.

    Raises
    ------
    InputError
        If a name or number is none, the data does not fit, or the method cannot do without.
    """
    spread, lesson, validation = by_name.allocation(allocation), None, None
    if samples is not None:
        lesson, validation = lesson_of(
            training, samples, model, seed, extra=extra, checkpoint=checkpoint, device=device, tell=tell
        )  # fmt: skip
    task = PruneTask(model.graph, sparsity, spread, lesson, seed, allow_empty)
    graph, result = prune_model(model.name, by_name.method(method), task, validation)
    return Pruned(replace(model, graph=graph), result)
