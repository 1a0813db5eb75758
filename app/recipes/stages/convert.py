"""Make a spiking network of a float one, by calibration or by training under quantisation."""

from dataclasses import asdict, replace
from typing import Any

from spikemorph.convert import canonical
from spikemorph.graph.grid import Grid
from spikemorph.graph.saving import load_graph_file
from spikemorph.quant.integers import prepared
from spikemorph.quant.learning_steps import refuse_unlearnable
from spikemorph.spiking import save_network

from ...choices.settings import LEARNED
from ...conversion import conversion_settings, convert_model
from ...measures.inspection import inspect_graph
from ...sources.sampling import drawn, values
from ...training.quantisation_aware import train_converted
from ..origins import Hashes, training_by_content
from .bench import Bench, fine_tuning_lesson
from .stage import Stage

_FEW = 8  # samples, where only their shape matters


def convert(bench: Bench) -> None:
    """``network.safetensors``, ``model.json``, ``certificate.json``: the spiking network, proved."""
    graph = load_graph_file(bench.folder / "model.safetensors")
    how, seed = bench.recipe.convert, bench.recipe.seed
    if bench.network.road == LEARNED:
        shown = values(drawn(bench.train, seed), bench.model.entry)
        grid = Grid.over(bench.model.entry.interval, how.input_bits)
        lesson, _ = fine_tuning_lesson(bench, graph)
        result = train_converted(graph, shown, lesson, grid=grid, **conversion_settings(how))
    else:
        result = convert_model(replace(bench.model, graph=graph), bench.train, how, seed)
    notes = {"model": bench.network.name, "source": None, "calibration": bench.train.name}
    save_network(bench.folder / "network.safetensors", result.network, result.notes(**notes))
    about = {"Made from": bench.recipe.model, "Calibrated on": bench.train.name}
    found = inspect_graph(bench.network.name, graph)
    bench.write("model", found.to_dict() | {"about": about})
    bench.write("certificate", result.certificate.to_dict())


def _check(bench: Bench) -> None:
    conversion_settings(bench.recipe.convert)
    if bench.network.road == LEARNED:
        graph = bench.model.graph
        fine_tuning_lesson(bench, graph)
        few = values(drawn(bench.train, bench.recipe.seed, _FEW), graph.entry)
        refuse_unlearnable(*prepared(canonical(graph), few, Grid.over(graph.entry.interval))[:2])


def _depends(bench: Bench, hashes: Hashes) -> Any:
    recipe, choice = bench.recipe, bench.network
    learnt = None
    if choice.road == LEARNED:
        learnt = training_by_content(recipe.fine_tuning_of(choice), hashes)
    how = [asdict(recipe.convert), choice.road, learnt]
    return [recipe.model, hashes["training data"], recipe.seed, how]


CONVERT = Stage(
    "convert", convert, ("network.safetensors", "model.json", "certificate.json"), "prune", _depends,
    _check,
)  # fmt: skip
