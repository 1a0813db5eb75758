"""Prune a network's weights, or train them all."""

from dataclasses import replace
from typing import Any

from spikemorph.graph.saving import save_graph
from spikemorph.prune import PruneTask, layer_sparsities
from spikemorph.train import DataTensors

from ...choices import by_name
from ...choices.settings import TRAIN
from ...training.dense import train_model
from ...training.prune import prune_model, sparsity_rows
from ..origins import Hashes, training_by_content
from .bench import Bench, lesson_on, stamps_of
from .stage import Stage


def prune(bench: Bench) -> None:
    """``model.safetensors`` and ``sparsity.json``: the float network, pruned and trained."""
    choice, graph = bench.network, bench.source
    if choice.method is None:
        save_graph(bench.folder / "model.safetensors", graph)
        bench.write("sparsity", {"layers": sparsity_rows(layer_sparsities(graph)), "method": None})
        return
    task, validation = _task(bench)
    if choice.method == TRAIN:
        pruned, result = train_model(bench.model.name, task, validation, from_fresh=choice.fresh)
    else:
        method = by_name.method(choice.method)
        pruned, result = prune_model(bench.model.name, method, task, validation)
    save_graph(bench.folder / "model.safetensors", pruned)
    bench.write("sparsity", result.to_dict() | {"target": 100 * choice.sparsity})


def _task(bench: Bench) -> tuple[PruneTask, DataTensors | None]:
    """What is to be pruned, and the samples held out of it."""
    choice, recipe, graph = bench.network, bench.recipe, bench.source
    lesson, validation = lesson_on(bench, recipe.training_of(choice), graph)
    spread = by_name.allocation(choice.allocation)
    return PruneTask(graph, choice.sparsity, spread, lesson, recipe.seed), validation


def _check(bench: Bench) -> None:
    if bench.network.method is not None:
        if bench.network.method != TRAIN:
            by_name.method(bench.network.method)
        _task(replace(bench, start=None))


def _depends(bench: Bench, hashes: Hashes) -> Any:
    choice, recipe = bench.network, bench.recipe
    source = hashes["model"] if bench.start is None else stamps_of(bench.start)["prune"]
    if choice.method is None:
        return source
    training = training_by_content(recipe.training_of(choice), hashes)
    how = [choice.method, choice.sparsity, choice.allocation, training]
    return [source, hashes["training data"], recipe.seed, how, choice.fresh]


PRUNE = Stage("prune", prune, ("model.safetensors", "sparsity.json"), None, _depends, _check)
