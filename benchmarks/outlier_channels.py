"""Accuracy where channels differ in scale: hidden channels multiplied, and divided again behind.

The float network stays what it is; a converter that takes one step for a layer does not. Rows that are in
the JSON file already are not measured again.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from relu_batchnorm import HELD, network
from rich.console import Console
from rich.table import Table
from safetensors.torch import load_file
from torch import Tensor, nn

from spikemorph.conversion import convert_graph, convert_rate_coded
from spikemorph.convert import canonical, read_torch
from spikemorph.graph import Graph, Node, run
from spikemorph.graph.grid import Grid
from spikemorph.graph.interpret import run_integers, shapes
from spikemorph.layers.activation import Activation
from spikemorph.layers.affine import ScaleShift
from spikemorph.quant import Quantisation, RateCoding
from spikemorph.sources.models import load_graph
from spikemorph.sources.sampling import labels_of
from spikemorph.spiking import DenseEngine
from spikemorph.spiking.neurons import IF
from spikemorph.train import DataTensors, TrainSettings, fit
from spikemorph.zoo import Samples, load_data

GRID = Grid.of(0.0, 1.0)
SCALES = ("1", "10", "30", "1000", "1e-3..1e3")
RATE_STEPS = 64
Scaling = Callable[[int], Tensor]  # from how many channels to a factor each


class SideBySide(nn.Module):
    """Two convolutions of one input, concatenated; then a third."""

    def __init__(self) -> None:
        super().__init__()
        self.near, self.far = nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(1, 8, 5, padding=2)
        self.both, self.pool = nn.Conv2d(16, 16, 3, padding=1), nn.MaxPool2d(2)
        self.last = nn.Linear(16 * 4, 10)

    def forward(self, x: Tensor) -> Tensor:
        """(sample, 1, 8, 8) images to (sample, 10) logits."""
        x = self.pool(torch.cat([self.near(x).relu(), self.far(x).relu()], 1))
        logits: Tensor = self.last(self.pool(self.both(x).relu()).flatten(1))
        return logits


def concat() -> Graph:
    """The network above, trained on the digits' training images."""
    torch.manual_seed(0)
    data = load_data("digits:train")
    model = SideBySide()
    fit(model, DataTensors(data.values(), labels_of(data)), TrainSettings(20, rate=0.05, seed=0))
    return read_torch(model, torch.zeros(1, 1, 8, 8))


NETWORKS: dict[str, Callable[[], Graph]] = {
    "CNN": lambda: load_graph("zoo:digits_cnn").graph,
    "MLP": lambda: load_graph("zoo:digits_mlp").graph,
    "residual": lambda: load_graph("zoo:digits_resnet").graph,
    "concat": concat,
}


def scaling(name: str) -> Scaling:
    """Two of sixteen channels (one at least) by a factor, or every channel by one of its own."""
    if name == "1e-3..1e3":
        draws = torch.Generator().manual_seed(0)
        return lambda n: 10 ** (6 * torch.rand(n, generator=draws, dtype=torch.float64) - 3)

    def some(channels: int) -> Tensor:
        by = torch.ones(channels, dtype=torch.float64)
        by[1 :: max(1, channels // max(1, channels // 8))] = float(name)
        return by

    return some


def scaled(graph: Graph, factors: Scaling) -> tuple[Graph, int]:
    """The same function with other scales in every hidden layer where layers can trade them; how many."""
    graph, done = canonical(graph), 0
    for node in graph.nodes:
        if isinstance(node.op, Activation) and node.name not in graph.outputs:
            shape = shapes(graph)[node.name]
            by = factors(shape[0]).reshape(-1, *[1] * (len(shape) - 1))
            changed = canonical(_between(graph, node.name, by))
            if not any(isinstance(n.op, ScaleShift) for n in changed.nodes):
                graph, done = changed, done + 1
    return graph, done


def _between(graph: Graph, name: str, by: Tensor) -> Graph:
    """The graph with an activation's input multiplied, and its output divided."""
    node, nodes = graph[name], []
    for old in graph.nodes:
        if old.name == name:
            zero = torch.tensor(0.0)
            nodes.append(Node("more", ScaleShift(by, zero), node.inputs))
            nodes.append(replace(node, inputs=("more",)))
            nodes.append(Node("less", ScaleShift(1 / by, zero), (name,)))
        else:
            reads = tuple("less" if i == name else i for i in old.inputs)
            nodes.append(replace(old, inputs=reads))
    return graph.with_nodes(nodes)


def share(outputs: Tensor, y: Tensor) -> float:
    """The share of outputs whose largest is the label's, in %."""
    return 100 * float((outputs.argmax(1) == y).double().mean())


@torch.no_grad()
def measured(graph: Graph, x: Tensor, samples: Samples, *, rate: bool) -> dict[str, Any]:
    """Accuracy of the float network, of the integer one at default options, and rate-coded."""
    made = convert_graph(graph, x, grid=GRID, quantisation=Quantisation())
    values, y = samples.values(), labels_of(samples)
    batches = values.split(250)
    floats = torch.cat([run(graph, batch) for batch in batches])
    whole = torch.cat([run_integers(made.network.graph, GRID.to_integers(b)) for b in batches])
    row: dict[str, Any] = {"float": share(floats, y), "integer": share(whole, y)}
    if rate:
        counted = convert_rate_coded(graph, x, grid=GRID, rates=RateCoding(), neuron=IF()).network
        ends = DenseEngine(counted).run(values, RATE_STEPS).real_outputs(counted)[-1]
        row["rate"] = share(ends, y)
    row["certificate"] = made.certificate.level
    return row


def digits(done: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every network at every scale that is not measured yet."""
    train, test = load_data("digits:train"), load_data("digits:test")
    for name, make in NETWORKS.items():
        missing = [scale for scale in SCALES if f"{name} {scale}" not in done]
        graph = make() if missing else None
        for scale in missing:
            assert graph is not None
            other, layers = scaled(graph, scaling(scale))
            row = measured(other, train.values(), test, rate=True)
            yield f"{name} {scale}", {"layers": layers, **row}


def cifar(weights: Path) -> dict[str, Any]:
    """The trained network of `relu_batchnorm.py`, calibrated on images it was not trained on."""
    model = network()
    model.load_state_dict(load_file(weights))
    graph = read_torch(model.eval(), torch.zeros(1, 3, 32, 32))
    held, test = load_data("cifar10:train").values()[-HELD:], load_data("cifar10:test")
    return measured(graph, held[:1000], test, rate=False)


def main(
    json_file: Annotated[Path, typer.Option("--json", help="Rows, kept from run to run.")],
    weights: Annotated[
        Path | None, typer.Option(help="Of relu_batchnorm.py: also that network, on CIFAR-10.")
    ] = None,
) -> None:
    """Measure what is missing, and print the table."""
    rows: dict[str, Any] = json.loads(json_file.read_text()) if json_file.exists() else {}

    def keep(name: str, row: dict[str, Any]) -> None:
        rows[name] = row
        json_file.write_text(json.dumps(rows, indent=1) + "\n")

    for name, row in digits(rows):
        keep(name, row)
    if weights is not None and "CIFAR-10 Conv-ReLU-BatchNorm" not in rows:
        keep("CIFAR-10 Conv-ReLU-BatchNorm", cifar(weights))
    table = Table(
        "network, scale", "layers", "float %", "integer %", f"rate-coded T={RATE_STEPS} %", "level"
    )
    for name, row in rows.items():
        numbers = (
            "-" if row.get(k) is None else f"{row[k]:.2f}" for k in ("float", "integer", "rate")
        )
        table.add_row(name, str(row.get("layers", "-")), *numbers, str(row["certificate"]))
    Console(width=110).print(table)


if __name__ == "__main__":
    typer.run(main)
