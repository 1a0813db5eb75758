"""What an input gradient of the exact twin costs, by rule, beside one of the float network."""

import time
from collections.abc import Callable
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.table import Table
from torch import Tensor

from spikemorph import load_graph
from spikemorph.convert import canonical
from spikemorph.graph import run
from spikemorph.graph.grid import Grid
from spikemorph.quant import Quantisation, quantise_graph
from spikemorph.quant.twin import IntegerTwin
from spikemorph.quant.twin_rules import Smoothed, StraightThrough
from spikemorph.zoo import load_data

RULES = (StraightThrough(), Smoothed(1.0), Smoothed(2.0))
GRID = Grid.of(0.0, 1.0, 12)


def gradient(logits: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """One step's gradient of an attack."""
    image = x.clone().requires_grad_()
    (found,) = torch.autograd.grad(logits(image).logsumexp(1).sum(), image)
    return found


def main(
    samples: Annotated[int, typer.Option(help="Images a step.")] = 64,
    rounds: Annotated[int, typer.Option(help="Turns; the fastest counts.")] = 5,
) -> None:
    """Processor seconds of one step, taken by turns."""
    x = load_data("fashion-mnist:train").values()[: 100 + samples]
    graph = canonical(load_graph("zoo:fashion_vgg").graph)
    twin = IntegerTwin(quantise_graph(graph, x[:100], GRID, Quantisation()))
    ways: dict[str, Callable[[Tensor], Tensor]] = {"float network": lambda x: run(graph, x)}
    ways |= {str(rule): lambda x, rule=rule: twin(x, rule) for rule in RULES}
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, logits in ways.items():
            began = time.process_time()
            gradient(logits, x[100:])
            taken[name].append(time.process_time() - began)
    table = Table("gradient of", "ms", "over the float network's")
    for name, times in taken.items():
        ratio = min(times) / min(taken["float network"])
        table.add_row(name, f"{1000 * min(times):.0f}", f"{ratio:.2f}x")
    Console(width=90).print(table)


if __name__ == "__main__":
    typer.run(main)
