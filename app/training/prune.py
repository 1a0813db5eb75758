"""Prune a model on data: split off validation samples, prune, measure before and after."""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from spikemorph.graph import Graph
from spikemorph.graph.tasks import Kind
from spikemorph.layers.masks import sparsity as zeros_of
from spikemorph.prune import Lesson, PruneTask, layer_sparsities, prune_graph
from spikemorph.prune.task import LayerSparsity
from spikemorph.train import DataTensors, GraphModule
from spikemorph.train.measure import score


@dataclass(frozen=True)
class PruneResult:
    """What pruning did; accuracies in per cent on samples that were held out of training."""

    model: str
    method: str
    sparsity: float  # asked for, 0..1
    zeros: float  # found: the share of weights that are zero, 0..1
    weights_before: int  # removing channels leaves fewer
    layers: tuple[LayerSparsity, ...]
    validation_before: float | None
    validation_after: float | None
    epochs: int
    seconds: float
    unit: str = "%"  # of what was measured on held-out samples; "rmse" of numbers

    def to_dict(self) -> dict[str, Any]:
        """The result as plain data."""
        return asdict(self) | {"layers": sparsity_rows(self.layers)}

    def __repr__(self) -> str:
        kept = f"{self.model} pruned by {self.method}: {100 * self.zeros:.2f} % of the weights are zero"
        if self.validation_after is None:
            return kept
        sign = " rmse" if self.unit == "rmse" else " %"
        return f"{kept}; held out {self.validation_before:.4g} -> {self.validation_after:.4g}{sign}"


def sparsity_rows(layers: Sequence[LayerSparsity]) -> list[dict[str, Any]]:
    """Rows of layers as plain data."""
    return [asdict(layer) | {"sparsity": layer.sparsity} for layer in layers]


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
        weights_before=sum(weight.numel() for weight in task.weights().values()),
        layers=layer_sparsities(pruned),
        validation_before=right(task.graph, validation, task.lesson),
        validation_after=right(pruned, validation, task.lesson),
        epochs=0 if task.lesson is None else task.lesson.settings.epochs,
        seconds=round(time.perf_counter() - began, 1),
        unit=unit_of(task.lesson),
    )
    return pruned, result


def right(graph: Graph, data: DataTensors | None, lesson: Lesson | None) -> float | None:
    """Per cent of the samples that a graph gets right, or its error; None without samples."""
    task = None if lesson is None else lesson.task
    return None if data is None else score(GraphModule(graph).eval(), data, task)


def unit_of(lesson: Lesson | None) -> str:
    """What held-out samples are judged in."""
    values = lesson is not None and lesson.task is not None and lesson.task.kind is Kind.VALUES
    return "rmse" if values else "%"
