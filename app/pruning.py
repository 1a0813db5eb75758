"""Prune a model on data: split off validation samples, prune, measure before and after."""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric

from spikemorph.graph import Graph, InputError
from spikemorph.layers.masks import sparsity as zeros_of
from spikemorph.prune import Lesson, PruneTask, layer_sparsities, prune_graph
from spikemorph.prune.task import LayerSparsity
from spikemorph.train import (
    CrossEntropy,
    DataTensors,
    FlipAndShift,
    GraphModule,
    Objective,
    TrainSettings,
    accuracy,
    hold_out,
)
from spikemorph.train.loop import EpochRecord
from spikemorph.train.objectives import Distillation
from spikemorph.zoo import Samples

from .choices import precision
from .models import Model, load_graph
from .recipe import TrainingChoice
from .sampling import labels_fit, values

_CPU = torch.device("cpu")


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

    def to_dict(self) -> dict[str, Any]:
        """The result as plain data."""
        return asdict(self) | {"layers": sparsity_rows(self.layers)}


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
        validation_before=right(task.graph, validation),
        validation_after=right(pruned, validation),
        epochs=0 if task.lesson is None else task.lesson.settings.epochs,
        seconds=round(time.perf_counter() - began, 1),
    )
    return pruned, result


def right(graph: Graph, data: DataTensors | None) -> float | None:
    """Per cent of the samples that a graph gets right; None without samples."""
    return None if data is None else accuracy(GraphModule(graph).eval(), data)


def lesson_of(
    choice: TrainingChoice,
    samples: Samples,
    model: Model,
    ends: tuple[float, float],
    seed: int,
    *,
    checkpoint: Path | None = None,
    device: torch.device = _CPU,
    tell: Callable[[EpochRecord], None] | None = None,
) -> tuple[Lesson, DataTensors | None]:
    """What a training of the user's choice learns from, and the samples held out of it.

    Raises
    ------
    InputError
        If the samples have no labels or odd ones, another shape than the model's input, or are too
        few; if a number is outside its range.
    """
    if samples.y is None:
        raise InputError(f"{samples.name}: no labels to learn from; give samples with labels")
    labels_fit(samples, model.graph)
    train = DataTensors(values(samples, ends, model.input_shape), samples.y)
    validation = None
    if choice.held_out:
        generator = torch.Generator().manual_seed(seed)
        train, validation = hold_out(train, choice.held_out, generator)
    settings = TrainSettings(
        epochs=choice.epochs, batch=choice.batch, rate=choice.rate, decay=choice.decay, seed=seed
    )
    vary = _variation(choice, model)
    arithmetic = precision(choice.precision)
    fabric = Fabric(accelerator=device.type, devices=1, precision=arithmetic)
    objective = _objective(choice, model)
    return Lesson(train, settings, objective, vary, checkpoint, tell, fabric), validation


def _variation(choice: TrainingChoice, model: Model) -> FlipAndShift | None:
    if not choice.flip and not choice.shift:
        return None
    shape = model.input_shape
    if len(shape) != 3:
        raise InputError(f"flip and shift vary images; the model takes {shape}: leave them out")
    if not 0 <= choice.shift < min(shape[1:]):
        raise InputError(f"shift {choice.shift}: give 0 to {min(shape[1:]) - 1} pixels")
    return FlipAndShift(choice.flip, choice.shift)


def _objective(choice: TrainingChoice, model: Model) -> Objective:
    if not 0 <= choice.smoothing <= 1:
        raise InputError(f"smoothing {choice.smoothing:g}: give 0 to 1")
    if not 0 <= choice.distil <= 1:
        raise InputError(f"distil {choice.distil:g}: give the teacher's share of the loss, 0 to 1")
    if choice.distil == 0:
        if choice.teacher is not None:
            raise InputError(f"teacher {choice.teacher}: it has no share; give distil above 0")
        return CrossEntropy(choice.smoothing)
    source = model if choice.teacher is None else load_graph(choice.teacher)
    if source.input_shape != model.input_shape:
        raise InputError(
            f"teacher {choice.teacher}: takes samples of shape {source.input_shape}, the model "
            f"{model.input_shape}; give a network for the same data"
        )
    teacher = GraphModule(source.graph).eval().requires_grad_(False)
    return Distillation(teacher, choice.distil, smoothing=choice.smoothing)
