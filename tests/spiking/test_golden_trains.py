"""Golden spike trains: one small network, every spike of it, written down once by the reference.

``python tests/spiking/test_golden_trains.py`` writes them again; a change of any spike must be meant.
"""

import hashlib
import json
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from spikemorph.convert import certify, to_spiking
from spikemorph.graph import Graph, Input, Node
from spikemorph.graph.grid import Grid
from spikemorph.graph.interpret import run_integers
from spikemorph.layers.convolution import Convolution
from spikemorph.layers.joining import Add
from spikemorph.layers.ladder import Ladder, Line
from spikemorph.layers.linear import Linear
from spikemorph.layers.pooling import MaxPool
from spikemorph.layers.readout import Readout
from spikemorph.layers.shape import Reshape
from spikemorph.spiking import DenseEngine, Neuron, ReferenceEngine, SpikingNetwork
from spikemorph.spiking.neurons import STBIF, pow2

GOLDEN = Path(__file__).parents[1] / "data" / "golden_trains.json"
NEURONS: tuple[Neuron, ...] = (pow2(), STBIF())


def counted(*shape: int, step: int, modulus: int) -> Tensor:
    """Whole numbers around zero that depend on nothing but their place."""
    size = int(torch.Size(shape).numel())
    place = torch.arange(size)
    return ((place * place * step + place) % modulus - modulus // 2).reshape(shape)


def ladder(threshold: int, smin: int, smax: int) -> Ladder:
    line = Line(*(torch.tensor([n]) for n in (threshold, 1, threshold // 2)))
    return Ladder(line.rungs(smin, smax), smin, smax, Fraction(1), line)


def small_network(neuron: Neuron) -> tuple[SpikingNetwork, Tensor]:
    """A residual block, an overlapping max-pool, a signed layer; two inputs of 2 x 4 x 4."""
    one, same = (1, 1), ((1, 1), (1, 1))
    conv = Convolution(
        counted(2, 2, 3, 3, step=5, modulus=7), counted(2, step=3, modulus=5), one, same, one
    )
    back = Convolution(counted(2, 2, 3, 3, step=4, modulus=9), None, one, same, one)
    nodes = (
        Node("x", Input((2, 4, 4), Grid(Fraction(1), 0, 15))),
        Node("conv", conv, ("x",)),
        Node("a", ladder(2, 0, 15), ("conv",)),
        Node("back", back, ("a",)),
        Node("sum", Add((torch.tensor(1), torch.tensor(4))), ("back", "a")),
        Node("b", ladder(12, 0, 15), ("sum",)),
        Node("pool", MaxPool((3, 3), (1, 1), same, one), ("b",)),
        Node("flat", Reshape((32,)), ("pool",)),
        Node("mix", Linear(counted(4, 32, step=7, modulus=11), None), ("flat",)),
        Node("c", ladder(4, -7, 8), ("mix",)),
        Node("out", Linear(counted(3, 4, step=5, modulus=9), None), ("c",)),
        Node("read", Readout(torch.tensor([1, 2, 1]), Fraction(1)), ("out",)),
    )  # fmt: skip
    graph = Graph(nodes, ("x",), ("read",))
    return to_spiking(graph, neuron), counted(2, 2, 4, 4, step=3, modulus=13) + 6


def events(train: Tensor) -> list[list[int]]:
    """(step, sample, place, spike) of every spike, in order."""
    flat = train.flatten(2)
    return [[*place, int(flat[tuple(place)])] for place in flat.nonzero().tolist()]


def record(engine: Any, neuron: Neuron) -> dict[str, Any]:
    """All there is to know of one run, and its SHA-256."""
    network, x = small_network(neuron)
    required = certify(network).steps_required
    assert required is not None
    trace = engine(network).run(x.float(), required + 1, record=True)
    content = {
        "outputs": trace.outputs.tolist(),
        "settled": trace.settled.tolist(),
        "events": {name: events(train) for name, train in trace.trains.items()},
    }
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    return {**content, "sha256": digest}


def golden(neuron: Neuron) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(GOLDEN.read_text())[neuron.name]
    return found


@pytest.mark.parametrize("engine", [ReferenceEngine, DenseEngine])
@pytest.mark.parametrize("neuron", NEURONS, ids=lambda n: n.name)
def test_every_spike_is_where_it_was(engine: Callable[..., Any], neuron: Neuron) -> None:
    found, wanted = record(engine, neuron), golden(neuron)
    assert found["events"] == wanted["events"]
    assert found == wanted


@pytest.mark.parametrize("neuron", NEURONS, ids=lambda n: n.name)
def test_the_written_trains_add_up(neuron: Neuron) -> None:
    """The file by itself: its hash fits, and its last outputs are the integer pass's."""
    written = golden(neuron)
    digest = written.pop("sha256")
    assert hashlib.sha256(json.dumps(written, sort_keys=True).encode()).hexdigest() == digest
    network, x = small_network(neuron)
    assert written["outputs"][-1] == run_integers(network.graph, x).tolist()
    spikes = [event[3] for layer in written["events"].values() for event in layer]
    assert min(spikes) < 0 < max(spikes)  # retractions too


if __name__ == "__main__":
    content = {neuron.name: record(ReferenceEngine, neuron) for neuron in NEURONS}
    GOLDEN.write_text(json.dumps(content, separators=(",", ":"), sort_keys=True) + "\n")
