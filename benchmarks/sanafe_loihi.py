"""SANA-FE's energy of a pruned network on its Loihi, beside our price list on our own counts.

    OMP_NUM_THREADS=1 python benchmarks/sanafe_loihi.py --json sanafe.json

SANA-FE is GPL-3.0 software: who wants it installs it (`pip install sanafe==2.2.9`).
"""

import json
import platform
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from replay import Fed, Replay
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from spikemorph.convert import to_spiking
from spikemorph.energy import Widths, count
from spikemorph.energy.prices.chips import LOIHI_SANAFE
from spikemorph.energy.prices.workload import Spikes, SpikingColumn
from spikemorph.graph import Graph, Input, Node
from spikemorph.graph.grid import Grid
from spikemorph.layers.convolution import Convolution
from spikemorph.layers.ladder import Ladder, Line
from spikemorph.layers.linear import Linear
from spikemorph.layers.readout import Readout
from spikemorph.layers.shape import Reshape
from spikemorph.spiking import DenseEngine, SpikingNetwork
from spikemorph.spiking.coding import Thermometer
from spikemorph.spiking.neurons import IF
from spikemorph.zoo import load_data

try:
    import sanafe
except ImportError:
    sanafe = None

LEVELS, MOST_STEPS, NEURONS_A_CORE, TILE, INPUTS = 8, 200, 512, 4, 1024
NORTH_SOUTH = 4.2  # pJ a hop; layers stand in a column of tiles, so every packet makes one such hop
UNIT = 64  # SANA-FE's membranes are multiples of 1/64
NOTES = """\
Energies in nJ a sample. "recounted": our price list on our counts, where SANA-FE counts two things in
another way: a neuron is updated whenever its membrane is not zero, and a spike that reaches no weight
sends no packet. "plain": the same list without these changes, as reports print it, with one mean hop a
packet. Spikes, step by step and neuron by neuron, are compared too, one step later for every layer."""


def strict(threshold: int) -> Ladder:
    """Fires where the membrane is above its threshold, which is then subtracted; no top."""
    whole = [torch.tensor([number]) for number in (threshold, 1, -1)]
    return Ladder(None, 0, None, Fraction(1), Line(*whole))


def pruned(shape: tuple[int, ...], density: float, generator: torch.Generator) -> Tensor:
    """Whole-number weights; the smallest of each layer are zero."""
    weight = 12 * torch.randn(shape, generator=generator, dtype=torch.float64) + 3
    least = weight.abs().flatten().quantile(1 - density)
    return torch.where(weight.abs() >= least, weight.round(), 0).long()


def example(density: float, seed: int = 0) -> SpikingNetwork:
    """Two convolutions and a linear layer, random and pruned, on unit spikes of an 8x8 image."""
    generator = torch.Generator().manual_seed(seed)
    same = ((1, 1), (1, 1))
    first, second = (pruned(s, density, generator) for s in ((8, 1, 3, 3), (12, 8, 3, 3)))
    nodes = (
        Node("image", Input((1, 8, 8), Grid(Fraction(1, LEVELS), 0, LEVELS))),
        Node("conv1", Convolution(first, None, (1, 1), same, (1, 1)), ("image",)),
        Node("spikes1", strict(32), ("conv1",)),
        Node("conv2", Convolution(second, None, (2, 2), same, (1, 1)), ("spikes1",)),
        Node("spikes2", strict(48), ("conv2",)),
        Node("flat", Reshape((192,)), ("spikes2",)),
        Node("linear", Linear(pruned((10, 192), density, generator), None), ("flat",)),
        Node("spikes3", strict(64), ("linear",)),
        Node("end", Readout(torch.tensor([1]), Fraction(1)), ("spikes3",)),
    )
    graph = Graph(nodes, ("image",), ("end",))
    return to_spiking(graph, IF(capped=False), Thermometer(LEVELS))


@dataclass(frozen=True, eq=False)
class Layer:
    """One layer of neurons as a chip sees it.

    `synapses` are (source, target, weight) of weights that are not zero; `events` and `spikes` are
    (step, cell) 0 or 1, read and sent; `potentials` (step, cell) the membranes after each step. On the
    chip it runs `delay` steps late.
    """

    name: str
    delay: int
    threshold: int
    synapses: tuple[Tensor, Tensor, Tensor]
    events: Tensor
    spikes: Tensor
    potentials: Tensor

    @property
    def packets(self) -> int:
        """Events that reach a weight."""
        sends = torch.zeros(self.events.shape[1], dtype=torch.bool)
        sends[self.synapses[0]] = True
        return int(self.events[:, sends].sum())

    @property
    def updates(self) -> int:
        """Neuron-steps that find a membrane that is not zero, or to which an event comes; chip time."""
        sources, targets, _ = self.synapses
        linked = torch.zeros(self.events.shape[1], self.spikes.shape[1], dtype=torch.float64)
        linked[sources, targets] = 1
        reached = self.events.double() @ linked > 0
        before = torch.cat([torch.zeros_like(self.potentials[:1]), self.potentials[:-1]])
        return int((reached | (before != 0))[: -self.delay].sum())


def layer_of(fed: Fed, node: Node, spikes: Tensor, delay: int) -> Layer:
    """What the chip is told of one layer, and what it should do; `spikes` are (step, *shape)."""
    assert isinstance(node.op, Ladder) and node.op.line is not None
    events = torch.stack([x[0].flatten() for x in fed.inputs])
    matrix = matrix_of(fed.module, fed.inputs[0].shape[1:])
    sources, targets = matrix.nonzero().T
    threshold, sent = int(node.op.line.threshold), spikes.flatten(1)
    potentials = (events @ matrix).cumsum(0) - threshold * sent.cumsum(0)
    synapses = (sources, targets, matrix[sources, targets])
    return Layer(node.name, delay, threshold, synapses, events, sent, potentials)


def matrix_of(module: nn.Module, shape: tuple[int, ...]) -> Tensor:
    """A layer as (input cell, output cell): what it makes of every unit vector."""
    cells = torch.Size(shape).numel()
    with torch.no_grad():
        made: Tensor = module(torch.eye(cells, dtype=torch.float64).reshape(cells, *shape))
    return made.flatten(1)


def simulate(layers: list[Layer], steps: int) -> dict[str, Any]:
    """What SANA-FE makes of the layers: its result, with every spike's group and number."""
    arch, net = sanafe.load_loihi(), sanafe.Network()
    cores, train = arch.cores(), layers[0].events.int()
    before = net.create_neuron_group("image", train.shape[1], soma_hw_name="loihi_inputs")
    for index, neuron in enumerate(before.neurons):
        neuron.set_attributes(
            soma_hw_name=f"loihi_inputs[{index % INPUTS}]",
            model_attributes={"spikes": train[:, index].tolist()},
        )
        neuron.map_to_core(cores[0])
    for layer in layers:
        group = net.create_neuron_group(
            layer.name, layer.spikes.shape[1],
            model_attributes={
                "threshold": layer.threshold / UNIT, "reset_mode": "soft", "leak_decay": 1.0,
            },
            soma_hw_name="loihi_lif", default_synapse_hw_name="loihi_sparse_synapse",
            default_dendrite_hw_name="loihi_dendrites", log_spikes=True,
        )  # fmt: skip
        if layer.spikes.shape[1] > NEURONS_A_CORE:
            raise SystemExit(f"{layer.name}: more than {NEURONS_A_CORE} neurons, one core's share")
        sources, targets, weights = layer.synapses
        pairs = list(zip(sources.tolist(), targets.tolist(), strict=True))
        before.connect_neurons_sparse(group, {"w": (weights / UNIT).tolist()}, pairs)
        for neuron in group.neurons:
            neuron.map_to_core(cores[TILE * layer.delay])
        before = group
    chip = sanafe.SpikingChip(arch)
    chip.load(net)
    return dict(chip.sim(steps, spike_trace=True, perf_trace=True))


def differing_spikes(layers: list[Layer], trace: list[list[Any]]) -> int:
    """Spikes that only one side has; on the chip a layer's are one step later than those it reads."""
    theirs = {(step, a.group_name, a.neuron_offset) for step, now in enumerate(trace) for a in now}
    ours = set()
    for layer in layers:
        places = layer.spikes.nonzero().tolist()
        ours |= {(step + layer.delay, layer.name, cell) for step, cell in places}
    return len(ours ^ theirs)


@dataclass(frozen=True)
class Row:
    """One image: counts and energies (nJ) of both sides."""

    density: float
    steps: int
    synops: int
    spikes: int
    packets: int
    updates: int
    their_synops: int
    their_spikes: int
    their_packets: int
    their_updates: int
    their_hops: int
    differing_spikes: int
    recounted: float
    simulated: float
    plain: float

    @property
    def error(self) -> float:
        """Relative difference of the two energies."""
        return abs(self.recounted / self.simulated - 1)

    @property
    def equal(self) -> bool:
        """Whether all counts are the same, and energies to 1e-6."""
        ours = (self.synops, self.spikes, self.packets, self.updates, self.packets)
        theirs = (self.their_synops, self.their_spikes, self.their_packets, self.their_updates,
                  self.their_hops)  # fmt: skip
        return ours == theirs and self.differing_spikes == 0 and self.error < 1e-6


def recount(loads: list[Spikes], layers: list[Layer]) -> Iterator[Spikes]:
    """Our loads with updates and packets counted as SANA-FE does."""
    neurons = iter(layers)
    readers = iter(layers)
    for load in loads:
        if load.layer.neurons:
            yield replace(load, driven=next(neurons).updates)
        elif load.analog_events:
            yield replace(load, analog_events=next(readers).packets)
        elif load.layer.weights:
            yield replace(load, spikes_in=next(readers).packets)
        else:
            yield load


def measure(density: float, x: Tensor) -> Row:
    """One image (1, *shape) on both sides."""
    network = example(density)
    names = [node for node in network.graph.nodes if isinstance(node.op, Ladder)]
    settled = int(DenseEngine(network, most_steps=MOST_STEPS).run(x, MOST_STEPS).settled)
    if settled < 0:
        raise SystemExit(f"not settled after {MOST_STEPS} steps")
    steps = settled + len(names) + 1  # in the chip every layer is one step late
    replay, counts = Replay(network, x, steps), count(network, x, steps)
    trains = replay.trace.trains
    layers = [
        layer_of(fed, node, trains[node.name][:, 0].double(), delay)
        for delay, (fed, node) in enumerate(zip(replay.fed(), names, strict=True), 1)
    ]
    found = simulate(layers, steps)
    loads, widths = SpikingColumn("snn", masked=True).loads(counts), Widths()
    column = LOIHI_SANAFE.having(hop=NORTH_SOUTH)
    own = column.of_spikes(list(recount(loads, layers)), widths)
    plain = LOIHI_SANAFE.of_spikes(loads, widths)
    assert own is not None and plain is not None
    inputs = int(layers[0].events.sum())  # SANA-FE counts them as updated, and as spikes, too
    return Row(
        density, steps, counts.synops + counts.total("analog_macs"), counts.spikes,
        sum(layer.packets for layer in layers), sum(layer.updates for layer in layers),
        found["spikes"], found["neurons_fired"] - inputs, found["packets_sent"],
        found["neurons_updated"] - inputs, int(sum(found["perf_trace"]["hops"])),
        differing_spikes(layers, found["spike_trace"]),
        sum(parts.total for parts in own) / 1e3, found["energy"]["total"] * 1e9,
        sum(parts.total for parts in plain) / 1e3,
    )  # fmt: skip


def table(rows: list[Row]) -> Table:
    """Both sides, a row for every density; one number where they are equal."""
    out = Table(title="A small network, one image: ours, and SANA-FE's Loihi", title_justify="left")
    for head in ("density", "steps", "synops", "spikes", "packets", "updates", "spikes off",
                 "recounted", "SANA-FE", "rel. diff.", "plain"):  # fmt: skip
        out.add_column(head, justify="right", no_wrap=True)
    for row in rows:
        pairs = ((row.synops, row.their_synops), (row.spikes, row.their_spikes),
                 (row.packets, row.their_packets), (row.updates, row.their_updates))  # fmt: skip
        out.add_row(
            f"{row.density:g}", str(row.steps),
            *(f"{a:,}" if a == b else f"{a:,} / {b:,}" for a, b in pairs),
            str(row.differing_spikes), f"{row.recounted:.3f}", f"{row.simulated:.3f}",
            f"{row.error:.0e}", f"{row.plain:.3f}",
        )  # fmt: skip
    return out


def main(
    json_file: Annotated[Path | None, typer.Option("--json", help="File for the numbers.")] = None,
) -> None:
    """Compare on one image at four densities; exit with 1 where the sides differ."""
    if sanafe is None:
        raise SystemExit("SANA-FE is not installed; pip install sanafe==2.2.9 (GPL-3.0)")
    x = load_data("digits:test").take(1).values()
    rows = [measure(density, x) for density in (1.0, 0.3, 0.1, 0.05)]
    console = Console(width=150, highlight=False)
    console.print(table(rows))
    console.print(NOTES)
    if json_file is not None:
        versions = {name: version(name) for name in ("sanafe", "torch")}
        content = {"versions": versions | {"python": platform.python_version()}}
        content["rows"] = [asdict(row) for row in rows]
        json_file.write_text(json.dumps(content, indent=1) + "\n")
    raise typer.Exit(code=int(not all(row.equal for row in rows)))


if __name__ == "__main__":
    typer.run(main)
