"""Measure a network that was trained through time on test samples."""

from dataclasses import asdict
from typing import Any

from spikemorph.graph.saving import load_graph_file
from spikemorph.surrogate.folded_network import load_deployed

from ...measures.evaluation import float_answers
from ...sources.subjects import weight_counts
from ...sources.tasks import task_for
from ...training.through_time import measure_in_time
from ..origins import Hashes
from .bench import Bench
from .stage import Stage


def measure(bench: Bench) -> None:
    """``timing.json``: accuracy over time, spikes and operations of the folded network."""
    network, _ = load_deployed(bench.folder / "deployed.safetensors")
    graph = load_graph_file(bench.folder / "model.safetensors")
    x, y = bench.test_values(0)
    measured = bench.recipe.measure
    task = task_for(graph, bench.test)
    found = measure_in_time(network, x, y, measured.energy, measured.spiking, task=task)
    weights, nonzero = weight_counts(graph)
    answers, n = float_answers(graph, x, task), found["n"]
    found["whole"]["float_accuracy"] = task.share(answers, y)
    about = {
        "model": bench.network.name,
        "data": bench.test.name,
        "float_accuracy": task.share(answers[:n], None if y is None else y[:n]),
        "sparsity": 100 * (1 - nonzero / weights),
    }
    bench.write("timing", {**about, **found})


def _depends(bench: Bench, hashes: Hashes) -> Any:
    return [hashes["test data"], asdict(bench.recipe.measure)]


MEASURE_IN_TIME = Stage("measure", measure, ("timing.json",), "fine-tune", _depends)
