"""The fast integer pass is the integer pass: equal to int64 on every sample, whatever carries it."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from spikemorph import convert_graph, load_graph
from spikemorph.graph import Graph
from spikemorph.graph.grid import Grid
from spikemorph.graph.interpret import run_integers
from spikemorph.layers.convolution import Convolution
from spikemorph.layers.integer_pass import IntegerPass
from spikemorph.layers.linear import Linear
from spikemorph.layers.readout import Readout
from spikemorph.quant import Quantisation
from spikemorph.spiking import SpikingNetwork
from spikemorph.spiking.neurons import pow2
from spikemorph.zoo import load_data


@pytest.mark.parametrize("name", ["digits_cnn", "digits_resnet"])
def test_it_equals_the_definition_on_a_converted_network(name: str) -> None:
    x = load_data("digits:train").values()
    graph = load_graph(f"zoo:{name}").graph
    network = convert_graph(
        graph, x[:200], grid=Grid.of(0.0, 1.0), quantisation=Quantisation(weight_bits=8)
    ).network
    fast = IntegerPass(network.graph)
    wanted = run_integers(network.graph, network.grid.to_integers(x[200:300]))
    assert torch.equal(fast(x[200:300]), wanted)
    assert torch.equal(fast.outputs(x[200:300]).flatten(1).argmax(1), wanted.flatten(1).argmax(1))


def test_sums_beyond_24_bits_stay_whole(chain: Callable[..., Graph], even_ladder: Any) -> None:
    """A weight of 2**20 times an input of 255, plus one: float32 would lose the one."""
    grid = Grid.of(0.0, 1.0)
    weight = torch.tensor([[2**20, 1]])
    ladder = even_ladder(1, 1, 0, 0, 3)
    ops = (Linear(weight, None), ladder, Linear(torch.tensor([[1]]), None))
    graph = chain((2,), *ops, Readout(torch.tensor([1]), ladder.unit), grid=grid)
    network = SpikingNetwork(graph, (("n1", pow2()),))
    sums = IntegerPass(network.graph)
    x = torch.tensor([[1.0, 1 / 255]])
    assert torch.equal(sums(x), run_integers(graph, grid.to_integers(x)))
    assert not any(isinstance(node.op, Convolution) for node in graph.nodes)
