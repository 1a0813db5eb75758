"""Measure a spiking network on test samples."""

from typing import Any

from spikemorph.convert import certify, load_certified
from spikemorph.convert.certificate import curve_steps
from spikemorph.graph.saving import load_graph_file
from spikemorph.layers.integer_pass import IntegerPass
from spikemorph.spiking.engines import engine_for

from ...measures.evaluation import evaluate, float_answers
from ...sources.tasks import task_for
from ..origins import Hashes
from .bench import Bench
from .stage import Stage


def measure(bench: Bench) -> None:
    """``evaluation.json``: spikes on some test samples, float and integer accuracy on all."""
    network, certificate, _ = load_certified(bench.folder / "network.safetensors")
    graph = load_graph_file(bench.folder / "model.safetensors")
    x, y = bench.test_values(bench.recipe.measure.spiking)
    steps, task = curve_steps(certificate), task_for(graph, bench.test)
    result = evaluate(
        network, engine_for(network, most_steps=max(steps)), certify(network, max(steps)), x, y,
        steps=steps, names=(bench.network.name, bench.test.name), float_graph=graph,
        task=task,
    )  # fmt: skip
    whole, labels = bench.test_values(0)
    integers = task.answers(IntegerPass(network.graph).outputs(whole))
    everything = {
        "n": len(whole),
        "float_accuracy": task.share(float_answers(graph, whole, task), labels),
        "integer_accuracy": task.share(integers, labels),
    }
    bench.write("evaluation", result.to_dict() | {"whole": everything})


def _depends(bench: Bench, hashes: Hashes) -> Any:
    return [hashes["test data"], bench.recipe.measure.spiking]


MEASURE = Stage("measure", measure, ("evaluation.json",), "convert", _depends)
