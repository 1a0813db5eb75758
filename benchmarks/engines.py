"""How long one batch takes: each engine, one integer pass and the float network, taken in turn."""

import time
from collections.abc import Callable, Mapping
from functools import partial
from statistics import median
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.table import Table
from torch import Tensor

from spikemorph.conversion import convert_graph
from spikemorph.convert import read_torch
from spikemorph.graph.grid import Grid
from spikemorph.graph.interpret import run_integers
from spikemorph.quant import Quantisation
from spikemorph.spiking import DenseEngine, ReferenceEngine
from spikemorph.zoo import build_model, load_data

SAMPLES, ROUNDS = 32, 5
CASES = {"digits_cnn": "digits:test", "fashion_vgg": "fashion-mnist:sample"}  # first test images


def timed(runs: Mapping[str, Callable[[], object]]) -> dict[str, float]:
    """The median seconds of every run, after one to warm up; runs alternate: A B C A B C ..."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for round_ in range(1 + ROUNDS):
        for name, run in runs.items():
            began = time.perf_counter()
            run()
            if round_:
                seconds[name].append(time.perf_counter() - began)
    return {name: median(taken) for name, taken in seconds.items()}


def prepared(model: str, data: str) -> tuple[dict[str, Callable[[], object]], int]:
    """What is timed, and for how many steps; refuses engines that disagree.

    Images after the timed ones calibrate: the time does not depend on it much, and no accuracy is
    measured here.
    """
    images = load_data(data).values()
    x, module = images[:SAMPLES], build_model(model)
    made = convert_graph(
        read_torch(module, x[:1]),
        images[SAMPLES : SAMPLES + 256],
        grid=Grid.of(0.0, 1.0),
        quantisation=Quantisation(),
    )
    network, steps = made.network, made.certificate.steps_required
    assert steps is not None
    dense, reference = DenseEngine(network), ReferenceEngine(network)
    points = network.grid.to_integers(x)
    wanted = run_integers(network.graph, points)
    for engine in (dense, reference):
        if not torch.equal(engine.run(x, steps).outputs[-1], wanted):
            raise SystemExit(f"{model}: {type(engine).__name__} is not the integer pass")
    runs: dict[str, Callable[[], object]] = {
        "float network": partial(_forward, module, x),
        "one integer pass": partial(run_integers, network.graph, points),
        "DenseEngine": partial(dense.run, x, steps),
        "ReferenceEngine": partial(reference.run, x, steps),
    }
    return runs, steps


@torch.no_grad()
def _forward(module: torch.nn.Module, x: Tensor) -> Tensor:
    out: Tensor = module(x)
    return out


def main(
    models: Annotated[list[str] | None, typer.Argument(help="Of the zoo; all by default.")] = None,
) -> None:
    """Print times of one batch, as ratios to the float network and to the dense engine."""
    console = Console(width=100, highlight=False)
    for model in models or CASES:
        runs, steps = prepared(model, CASES[model])
        seconds = timed(runs)
        threads = torch.get_num_threads()
        title = f"{model}: {SAMPLES} images, {steps} steps (proved enough), {threads} thread(s)"
        table = Table(
            "run", "median ms", "/ float", "/ DenseEngine", title=title, title_justify="left"
        )
        for name, taken in seconds.items():
            ratios = (taken / seconds["float network"], taken / seconds["DenseEngine"])
            table.add_row(name, f"{1000 * taken:.1f}", *(f"{ratio:.2f}" for ratio in ratios))
        console.print(table)


if __name__ == "__main__":
    typer.run(main)
