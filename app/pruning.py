"""Prune a model on data: split off validation samples, prune, measure before and after."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

from spikemorph.graph import Graph
from spikemorph.layers.masks import sparsity as zeros_of
from spikemorph.prune import Lesson, PruneTask, layer_sparsities, prune_graph
from spikemorph.prune.task import LayerSparsity
from spikemorph.train import DataTensors, GraphModule, accuracy

Fit = Callable[[Lesson], Lesson]


@dataclass(frozen=True)
class PruneResult:
    """What pruning did; accuracies in per cent on samples that were held out of training."""

    model: str
    method: str
    sparsity: float  # asked for, 0..1
    zeros: float  # found: the share of weights that are zero, 0..1
    layers: tuple[LayerSparsity, ...]
    validation_before: float | None
    validation_after: float | None
    epochs: int
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """The result as plain data."""
        layers = [asdict(layer) | {"sparsity": layer.sparsity} for layer in self.layers]
        return asdict(self) | {"layers": layers}


def prune_model(
    name: str,
    method: str,
    task: PruneTask,
    validation: DataTensors | None = None,
) -> tuple[Graph, PruneResult]:
    """Prune, and measure on held-out samples; the masks are proved to have been kept.

    Raises
    ------
    InputError
        As `prune_graph` does.
    GraphError
        If a weight outside a mask is not zero at the end.
    """
    began = time.perf_counter()
    pruned = prune_graph(method, task)
    result = PruneResult(
        model=name,
        method=method,
        sparsity=task.sparsity,
        zeros=zeros_of(pruned),
        layers=layer_sparsities(pruned),
        validation_before=_right(task.graph, validation),
        validation_after=_right(pruned, validation),
        epochs=0 if task.lesson is None else task.lesson.settings.epochs,
        seconds=round(time.perf_counter() - began, 1),
    )
    return pruned, result


def _right(graph: Graph, data: DataTensors | None) -> float | None:
    return None if data is None else accuracy(GraphModule(graph).eval(), data)


def with_epochs(lesson: Lesson, epochs: int) -> Lesson:
    """The lesson with another number of epochs."""
    return replace(lesson, settings=replace(lesson.settings, epochs=epochs))
