"""Train all weights of a model on data, under the masks that it has, and measure before and after."""

import time

from spikemorph.graph import Graph, InputError
from spikemorph.graph.errors import Repair
from spikemorph.layers.masks import masks_of
from spikemorph.layers.masks import sparsity as zeros_of
from spikemorph.prune import PruneTask, layer_sparsities
from spikemorph.prune.masked import train_masked
from spikemorph.prune.reinitialise import fresh
from spikemorph.train import DataTensors

from ..choices.settings import TRAIN
from .prune import PruneResult, right, unit_of
from .settings import meant_for


def train_model(
    name: str, task: PruneTask, validation: DataTensors | None = None, *, from_fresh: bool = False
) -> tuple[Graph, PruneResult]:
    """Train by the task's lesson and objective; with `from_fresh`, from new weights without masks.

    Raises
    ------
    InputError
        If the task has no lesson.
    GraphError
        If a weight outside a mask is not zero after an epoch.
    """
    if task.lesson is None:
        raise InputError(
            f"{name}: training learns from data", Repair("data", words="give training data: {}")
        )
    began = time.perf_counter()
    graph = fresh(task.graph, task.generator()) if from_fresh else task.graph
    lesson = meant_for(task.lesson, "all weights, new ones" if from_fresh else "all weights")
    trained = train_masked(graph, masks_of(graph), lesson)
    result = PruneResult(
        model=name,
        method=TRAIN,
        sparsity=0.0,
        zeros=zeros_of(trained),
        weights_before=sum(weight.numel() for weight in task.weights().values()),
        layers=layer_sparsities(trained),
        validation_before=right(graph, validation, task.lesson),
        validation_after=right(trained, validation, task.lesson),
        epochs=task.lesson.settings.epochs,
        seconds=round(time.perf_counter() - began, 1),
        unit=unit_of(task.lesson),
    )
    return trained, result
