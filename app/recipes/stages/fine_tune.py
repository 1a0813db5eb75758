"""Train a network through time."""

from dataclasses import asdict
from typing import Any

from spikemorph.graph import InputError
from spikemorph.graph.saving import load_graph_file
from spikemorph.surrogate import SpikingModule
from spikemorph.surrogate.folded_network import save_deployed
from spikemorph.surrogate.folding import fold
from spikemorph.surrogate.trained_file import save_trained

from ...choices import by_name
from ...measures.inspection import inspect_graph
from ...training.through_time import settings_of, train_in_time
from ..origins import Hashes, training_by_content
from .bench import Bench, fine_tuning_lesson
from .stage import Stage


def fine_tune(bench: Bench) -> None:
    """``trained.safetensors``, ``deployed.safetensors``, ``model.json``: trained through time."""
    recipe, name = bench.recipe, bench.network.name
    graph = load_graph_file(bench.folder / "model.safetensors")
    lesson, validation = fine_tuning_lesson(bench, graph)
    found = train_in_time(graph, recipe.time, lesson, validation)
    notes = {
        "model": name,
        "thresholds": found.thresholds,
        "validation": [found.validation_before, found.validation_after],
    }
    save_trained(bench.folder / "trained.safetensors", found.module, notes)
    save_deployed(bench.folder / "deployed.safetensors", fold(found.module), notes)
    about = {"Made from": recipe.model, "Trained through time on": bench.train.name}
    said = {"about": about, "seconds": found.seconds}
    bench.write("model", inspect_graph(name, graph).to_dict() | said)


def _check(bench: Bench) -> None:
    objective = bench.recipe.fine_tuning_of(bench.network).objective
    if objective in by_name.BOUNDS:
        raise InputError(
            f"objective {objective}: networks through time have no bounds; choose road "
            "'quantisation-aware', or another objective"
        )
    fine_tuning_lesson(bench, bench.model.graph)
    SpikingModule(bench.model.graph, settings_of(bench.recipe.time)[0])


def _depends(bench: Bench, hashes: Hashes) -> Any:
    recipe = bench.recipe
    how = [asdict(recipe.time), training_by_content(recipe.fine_tuning_of(bench.network), hashes)]
    return [hashes["training data"], recipe.seed, how]


FINE_TUNE = Stage(
    "fine-tune", fine_tune, ("trained.safetensors", "deployed.safetensors", "model.json"), "prune",
    _depends, _check,
)  # fmt: skip
