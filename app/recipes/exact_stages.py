"""The stages that a recipe goes through for one network, each from files to files of its folder."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from spikemorph.convert import certify, load_certified
from spikemorph.convert.certificate import curve_steps, steps_of
from spikemorph.energy import estimate_energy
from spikemorph.graph import Graph, InputError
from spikemorph.graph.grid import Grid
from spikemorph.graph.saving import load_graph_file, save_graph, write_bytes
from spikemorph.prune import Lesson, PruneTask, layer_sparsities
from spikemorph.quant import Quantisation
from spikemorph.spiking import DenseEngine, save_network
from spikemorph.spiking.integer_pass import IntegerPass
from spikemorph.train import DataTensors
from spikemorph.zoo import Samples

from ..choices import by_name
from ..choices.settings import LEARNED, TRAIN, ConvertChoice
from ..conversion import convert_graph
from ..measures.activity import activity
from ..measures.comparison import dense_network
from ..measures.evaluation import evaluate, float_answers
from ..measures.inspection import inspect_graph
from ..sources.models import Model
from ..sources.sampling import drawn, values
from ..sources.subjects import CPU
from ..sources.tasks import task_for
from ..training.dense import train_model
from ..training.extra import Extra
from ..training.prune import prune_model, sparsity_rows
from ..training.quantisation_aware import train_converted
from ..training.settings import lesson_of
from .recipe import NetworkChoice, Recipe

Tell = Callable[[str], None]
CHECKPOINT = "checkpoint"


@dataclass(frozen=True)
class Bench:
    """What the stages of one network work with."""

    recipe: Recipe
    network: NetworkChoice
    model: Model
    train: Samples
    test: Samples
    folder: Path
    dense: Path | None  # the folder of the recipe's un-pruned network, made before this one
    tell: Tell
    start: Path | None = None  # the folder of the network that this one goes on from
    extra: Extra | None = None  # samples that trainings have a share of
    stamp: str = ""  # the hash of all that the stage at work depends on
    device: torch.device = CPU  # of trainings and attacks; what is stored is on the CPU

    @property
    def source(self) -> Graph:
        """The float graph that this network is made from."""
        if self.start is None:
            return self.model.graph
        return load_graph_file(self.start / "model.safetensors")

    def write(self, part: str, plain: Any) -> None:
        """Write one part of the run as JSON."""
        text = json.dumps(plain, indent=1) + "\n"
        write_bytes(self.folder / f"{part}.json", text.encode())

    def test_values(self, most: int) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The first test samples, all where `most` is 0."""
        samples = self.test.take(min(most, len(self.test))) if most else self.test
        return values(samples, self.model.entry), samples.y


def check(bench: Bench) -> None:
    """Refuse now what a stage would refuse only after others were done, in hours perhaps.

    Raises
    ------
    InputError
        If a name is unknown, a number outside its range, or the data does not fit the model; names
        the network.
    """
    with naming(bench):
        conversion_settings(bench.recipe.convert)
        for samples in (bench.train.take(1), bench.test.take(1)):
            values(samples, bench.model.entry)
        task_for(bench.model.graph, bench.test)
        if bench.network.method is not None:
            if bench.network.method != TRAIN:
                by_name.method(bench.network.method)
            _task(replace(bench, start=None))


@contextmanager
def naming(bench: Bench) -> Iterator[None]:
    """Say of which recipe and network an error is."""
    try:
        yield
    except InputError as error:
        reason = str(error).removeprefix("--")  # names are no options here
        raise InputError(
            f"recipe {bench.recipe.name!r}, network {bench.network.name!r}: {reason}"
        ) from error


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
    """What is to be pruned; a checkpoint is only taken up by a stage of the same stamp."""
    choice, recipe = bench.network, bench.recipe
    before = replace(bench.model, graph=bench.source)  # who teaches, unless another is named
    lesson, validation = lesson_of(
        recipe.training_of(choice), bench.train, before, recipe.seed,
        extra=bench.extra,
        checkpoint=bench.folder / f"{CHECKPOINT}-{bench.stamp[:16]}", device=bench.device,
        tell=lambda record: bench.tell(
            f"{choice.name}: epoch {record.epoch}: loss {record.loss:.4f} ({record.seconds:.0f} s)"
        ),
    )  # fmt: skip
    spread = by_name.allocation(choice.allocation)
    return PruneTask(before.graph, choice.sparsity, spread, lesson, recipe.seed), validation


def clear(bench: Bench) -> None:
    """Remove what only a stopped training needed."""
    for leftover in bench.folder.glob(f"{CHECKPOINT}-*"):
        leftover.unlink()


def conversion_settings(how: ConvertChoice) -> dict[str, Any]:
    """The arguments of `convert_graph` that a recipe chooses."""
    return {
        "quantisation": Quantisation(
            how.levels, how.weight_bits, by_name.calibrator(how.calibrator)
        ),
        "neuron": by_name.neuron(how.neuron),
        "coding": by_name.coding(how.coding),
        "schedule": by_name.schedule(how.schedule),
    }


def convert(bench: Bench) -> None:
    """``network.safetensors``, ``model.json``, ``certificate.json``: the spiking network, proved."""
    graph = load_graph_file(bench.folder / "model.safetensors")
    shown = values(drawn(bench.train, bench.recipe.seed), bench.model.entry)
    grid = Grid.over(bench.model.entry.interval, bench.recipe.convert.input_bits)
    how = conversion_settings(bench.recipe.convert)
    if bench.network.road == LEARNED:
        lesson, _ = fine_tuning_lesson(bench, graph)
        result = train_converted(graph, shown, lesson, grid=grid, **how)
    else:
        result = convert_graph(graph, shown, grid=grid, **how)
    notes = {"model": bench.network.name, "source": None, "calibration": bench.train.name}
    save_network(bench.folder / "network.safetensors", result.network, result.notes(**notes))
    about = {"Made from": bench.recipe.model, "Calibrated on": bench.train.name}
    found = inspect_graph(bench.network.name, graph)
    bench.write("model", found.to_dict() | {"about": about})
    bench.write("certificate", result.certificate.to_dict())


def fine_tuning_lesson(bench: Bench, graph: Graph) -> tuple[Lesson, DataTensors | None]:
    """What a network's weights are fine-tuned on, and the samples held out of it."""
    name = bench.network.name
    return lesson_of(
        bench.recipe.fine_tuning_of(bench.network), bench.train,
        replace(bench.model, graph=graph), bench.recipe.seed, extra=bench.extra,
        checkpoint=bench.folder / f"{CHECKPOINT}-{bench.stamp[:16]}", device=bench.device,
        tell=lambda record: bench.tell(
            f"{name}: epoch {record.epoch}: loss {record.loss:.4f} ({record.seconds:.0f} s)"
        ),
    )  # fmt: skip


def measure(bench: Bench) -> None:
    """``evaluation.json``: spikes on some test samples, float and integer accuracy on all."""
    network, certificate, _ = load_certified(bench.folder / "network.safetensors")
    graph = load_graph_file(bench.folder / "model.safetensors")
    x, y = bench.test_values(bench.recipe.measure.spiking)
    steps, task = curve_steps(certificate), task_for(graph, bench.test)
    result = evaluate(
        network, DenseEngine(network, most_steps=max(steps)), certify(network, max(steps)), x, y,
        steps=steps, names=(bench.network.name, bench.test.name), float_graph=graph,
        task=task,
    )  # fmt: skip
    whole, labels = bench.test_values(0)
    integers = task.answers(IntegerPass(network).outputs(whole))
    everything = {
        "n": len(whole),
        "float_accuracy": task.share(float_answers(graph, whole, task), labels),
        "integer_accuracy": task.share(integers, labels),
    }
    bench.write("evaluation", result.to_dict() | {"whole": everything})


def energy(bench: Bench) -> None:
    """``energy.json`` and ``activity.json``: counts, prices, memory; spikes of every layer."""
    network, certificate, _ = load_certified(bench.folder / "network.safetensors")
    path = None if bench.dense is None else bench.dense / "network.safetensors"
    dense, own_steps = dense_network(path)
    steps = steps_of(certificate)
    x, _ = bench.test_values(bench.recipe.measure.energy)
    if not len(x):
        raise InputError(f"{bench.test.name}: no samples to count energy on; give at least one")
    result = estimate_energy(
        network, x, steps, dense=dense, dense_steps=own_steps, model=bench.network.name,
        data=bench.test.name,
    )  # fmt: skip
    bench.write("energy", result.to_dict())
    engine = DenseEngine(network, most_steps=steps)
    bench.write("activity", activity(network, engine, x, steps).to_dict())
