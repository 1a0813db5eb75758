"""Counts of small networks, worked out by hand."""

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from typing import Any

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from spikemorph.convert import to_spiking
from spikemorph.energy import Counts, count
from spikemorph.energy.counting.counts import PER_SAMPLE
from spikemorph.energy.counting.tallies import set_bits
from spikemorph.graph import Graph, Input, Node
from spikemorph.graph.grid import Grid
from spikemorph.layers.convolution import Convolution
from spikemorph.layers.joining import Add
from spikemorph.layers.ladder import Ladder
from spikemorph.layers.linear import Linear
from spikemorph.layers.pooling import MaxPool, SumPool
from spikemorph.layers.readout import Readout
from spikemorph.layers.shape import Reshape
from spikemorph.spiking.coding import Constant
from spikemorph.spiking.neurons import IF, STBIF

Build = Callable[..., Any]
ONE, SAME, NONE = (1, 1), ((1, 1), (1, 1)), ((0, 0), (0, 0))
GRID = Grid(Fraction(1), -3, 4)


def whole(generator: torch.Generator, low: int, high: int, *shape: int) -> Tensor:
    return torch.randint(low, high + 1, shape, generator=generator)


def ladder(levels: int, smin: int = 0) -> Ladder:
    rungs = torch.arange(1, levels + 1)[None] * 2 + 2 * smin
    return Ladder(rungs, smin, smin + levels, Fraction(1))


def test_a_rate_coded_network_counts_inputs_and_biases_at_every_step(
    chain: Build, even_ladder: Build
) -> None:
    """All neurons fire at every step: SOP = products x steps; the encoder too; density 1."""
    ones = Convolution(torch.ones(3, 2, 3, 3).long(), None, ONE, SAME, ONE)
    first = Convolution(torch.ones(2, 1, 1, 1).long(), torch.tensor([1, 0]), ONE, NONE, ONE)
    step = even_ladder(1, 1, 0, 0, None)
    head = Linear(torch.ones(2, 48).long(), None), Readout(torch.tensor([1]), Fraction(1))
    graph = chain((1, 4, 4), first, step, ones, step, Reshape((48,)), *head,
                  grid=Grid(Fraction(1), 0, 1))  # fmt: skip
    network = to_spiking(graph, IF(), Constant())
    counts = count(network, torch.ones(3, 1, 4, 4), 5)
    rows = {layer.node: layer for layer in counts.layers}
    assert rows["n2"].mac_dense == 2 * 3 * (3 * 4 - 2) ** 2  # padded taps left out, both axes
    assert rows["n2"].synops == rows["n2"].synops_unit == 3 * 5 * rows["n2"].mac_dense
    assert rows["n0"].analog_macs == 3 * 5 * rows["n0"].mac_dense
    assert rows["n0"].analog_macs_once == 3 * rows["n0"].mac_dense
    assert rows["n0"].bias_adds == 3 * 5 * 16
    assert rows["n0"].synops == 0
    assert counts.spike_rate == 1.0
    assert rows["n2"].mac_bits == 3 * 2 * rows["n2"].mac_dense  # the twin's activations are all 5


def test_a_bias_drives_neurons_at_every_step_of_a_rate_coded_network(
    chain: Build, even_ladder: Build
) -> None:
    """Bias 1, threshold 3: six steps of input, two spikes, none idle. Injected once: idle but one."""
    first = Linear(torch.zeros(2, 1).long(), torch.tensor([1, 1]))
    head = Linear(torch.ones(1, 2).long(), None), Readout(torch.tensor([1]), Fraction(1))
    grid = Grid(Fraction(1), 0, 1)
    rated = chain((1,), first, even_ladder(3, 1, 0, 0, None), *head, grid=grid)
    (row,) = (r for r in count(to_spiking(rated, IF(), Constant()), torch.ones(1, 1), 6).layers
              if r.neurons)  # fmt: skip
    assert (row.updates_driven, row.updates_idle, row.spikes_out) == (12, 0, 4)
    once = chain((1,), first, even_ladder(3, 1, 0, 0, 1), *head, grid=grid)
    (row,) = (r for r in count(to_spiking(once), torch.ones(1, 1), 6).layers if r.neurons)
    assert (row.updates_driven, row.updates_idle, row.spikes_out) == (2, 10, 0)
    assert (row.silent_neurons, row.silent_channels) == (2, 2)


def test_the_twin_of_a_rate_coded_network_stops_at_the_most_it_can_send(
    chain: Build, even_ladder: Build
) -> None:
    """Sums of five thresholds a step, three steps: three spikes, so two bits are set, not 15's four."""
    first = Linear(torch.tensor([[5]]), None)
    head = Linear(torch.tensor([[1]]), None), Readout(torch.tensor([1]), Fraction(1))
    ladder_ = even_ladder(1, 1, 0, 0, None)
    graph = chain((1,), first, ladder_, *head, grid=Grid(Fraction(1), 0, 1))
    rows = {
        r.node: r for r in count(to_spiking(graph, IF(), Constant()), torch.ones(1, 1), 3).layers
    }
    assert rows["n2"].synops == 3
    assert rows["n2"].mac_bits == 2
    assert (rows["n2"].input_bits, rows["n1"].output_bits) == (2, 2)  # levels 0 to 3


def test_widths_and_spikes_per_synapse_by_hand(chain: Build) -> None:
    """Weights up to 7 take 4 bits with their sign; a place among 2 x 3 x 3 of a row takes 5.

    The first layer is the encoder, and no part of the spikes per synapse.
    """
    weight = torch.zeros(2, 2, 3, 3).long()
    weight[0, 0, 1, 1], weight[1, 1, 1, 1] = 7, -7
    conv = Convolution(weight, None, ONE, SAME, ONE)
    head = Linear(torch.ones(2, 32).long(), None), Readout(torch.tensor([1]), Fraction(1))
    graph = chain((2, 4, 4), conv, ladder(7), conv, ladder(7), Reshape((32,)), *head, grid=GRID)
    counts = count(to_spiking(graph, STBIF()), torch.ones(2, 2, 4, 4), 8)
    rows = {layer.node: layer for layer in counts.layers}
    found = rows["n2"]
    assert (found.weights, found.nonzero_weights, found.weight_bits) == (36, 2, 4)
    assert (found.index_bits, found.input_bits, found.kernel) == (5, 3, 9)
    assert (rows["n0"].input_bits, rows["n5"].index_bits) == (3, 5)  # -3 to 4; 32 columns
    assert (found.mac_dense, found.mac_masked) == (4 * 100, 32)
    # Channel 0 has sums of 7: three spikes of each of 16 neurons, each through one weight.
    assert found.synops == 2 * 16 * 3
    every = rows["n2"].synops + rows["n5"].synops
    assert counts.spikes_per_synapse == every / (2 * (32 + 64))


def test_all_layers_before_the_first_neuron_are_the_encoder(chain: Build) -> None:
    """Sums of a layer that reads the input have passed no neuron: no synaptic operations there."""
    ones = Convolution(torch.ones(2, 2, 3, 3).long(), None, ONE, SAME, ONE)
    head = Linear(torch.ones(2, 32).long(), None), Readout(torch.tensor([1]), Fraction(1))
    graph = chain((2, 4, 4), ones, ones, ladder(3), ones, Reshape((32,)), *head, grid=GRID)
    rows = {r.node: r for r in count(to_spiking(graph), torch.ones(1, 2, 4, 4), 4).layers}
    for name in ("n0", "n1"):
        assert rows[name].analog_macs == rows[name].mac_dense == 4 * (3 * 4 - 2) ** 2
        assert rows[name].synops == rows[name].spikes_in == 0
    assert rows["n3"].analog_macs == rows["n3"].analog_events == 0 < rows["n3"].synops


def test_the_pruned_convolution_that_other_counters_get_wrong() -> None:
    """456 operations reach a weight; 3488 without looking at zeros; 4248 with padded taps too."""
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        conv = nn.Conv2d(4, 8, 3, padding=1, bias=False)
        conv.weight[torch.rand_like(conv.weight) < 0.9] = 0
        x = (torch.rand(1, 4, 8, 8) < 0.25).float()
    weight = conv.weight.sign().long()
    nodes = (
        Node("x", Input((4, 8, 8), Grid(Fraction(1), 0, 1))),
        Node("same", Ladder(torch.tensor([[1]]), 0, 1, Fraction(1)), ("x",)),
        Node("conv", Convolution(weight, None, ONE, SAME, ONE), ("same",)),
        Node("end", Readout(torch.tensor([1]), Fraction(1)), ("conv",)),
    )
    network = to_spiking(Graph(nodes, ("x",), ("end",)), IF())
    (layer,) = (layer for layer in count(network, x, 3).layers if layer.weights)
    assert layer.synops == layer.synops_unit == 456
    assert layer.synops_dense_weights == 3488
    assert layer.spikes_in * 8 * 9 == 4248
    assert layer.analog_macs == 0


def test_pools_joins_and_scalings_by_hand() -> None:
    """One cell of five is in two windows of three that step by two; sums add where they arrive.

    x = 1 0 0 2 1. The max pool compares cells 0, 3, 4 (not zero) in 1 + 1 + 1 windows, dense 6.
    The join takes the pooled 1 2, and a layer's sums that are not added again. 2 x 1 and 2 x 2 scale.
    """
    nodes = (
        Node("x", Input((1, 5), Grid(Fraction(1), 0, 3))),
        Node("pool", MaxPool((3,), (2,), ((0, 0),), (1,)), ("x",)),
        Node("sum", SumPool((3,), (2,), ((0, 0),)), ("x",)),
        Node(
            "conv", Convolution(torch.ones(1, 1, 1).long(), None, (1,), ((0, 0),), (1,)), ("sum",)
        ),
        Node("join", Add((torch.tensor(2), torch.tensor(1))), ("pool", "conv")),
        Node("a", ladder(3), ("join",)),
        Node("flat", Reshape((2,)), ("a",)),
        Node("out", Linear(torch.ones(1, 2).long(), None), ("flat",)),
        Node("end", Readout(torch.tensor([3]), Fraction(1)), ("out",)),
    )
    network = to_spiking(Graph(nodes, ("x",), ("end",)))
    rows = {r.node: r for r in count(network, torch.tensor([[[1.0, 0, 0, 2, 1]]]), 4).layers}
    assert (rows["pool"].adds, rows["pool"].adds_dense) == (3, 6)
    assert (rows["sum"].adds, rows["sum"].adds_active) == (3, 3)
    assert (rows["join"].adds, rows["join"].adds_dense, rows["join"].scalings) == (2, 2, 2)
    assert rows["conv"].analog_macs == 2  # pooled input has passed no neuron
    assert (rows["end"].scalings, rows["end"].scalings_dense) == (1, 1)


def test_scaling_thresholds_and_flipping_signs_change_no_count() -> None:
    """Weights, biases and rungs times three; and all spikes negated, on a symmetric ladder."""
    generator = torch.Generator().manual_seed(3)
    first = Convolution(whole(generator, -3, 3, 4, 2, 3, 3), None, ONE, SAME, ONE)
    second = Convolution(whole(generator, -1, 1, 2, 4, 3, 3), None, ONE, SAME, ONE)
    x = whole(generator, -3, 4, 3, 2, 4, 4).float()

    def counted(by: int, scale: int) -> Counts:
        rungs = torch.tensor([[-9, -4, 5, 10]]) * scale
        rungs = rungs - torch.tensor([scale - 1, scale - 1, 0, 0])  # C <= -5 s and C >= 5 s
        nodes = (
            Node("x", Input((2, 4, 4), GRID)),
            Node("first", replace(first, weight=first.weight * by * scale), ("x",)),
            Node("a", Ladder(rungs, -2, 2, Fraction(1)), ("first",)),
            Node("second", second, ("a",)),
            Node("end", Readout(torch.tensor([1]), Fraction(1)), ("second",)),
        )
        return count(to_spiking(Graph(nodes, ("x",), ("end",))), x, 5)

    base = counted(1, 1)
    assert base.total("negative_spikes") > 0
    for other in (counted(1, 3), counted(-1, 1)):
        for name in set(PER_SAMPLE) - {"negative_spikes"}:
            assert torch.equal(base.per_sample[name], other.per_sample[name]), name
    flipped = counted(-1, 1).total("negative_spikes")
    assert flipped == base.spikes - base.total("negative_spikes")


@given(st.lists(st.integers(-(2**40), 2**40), min_size=1, max_size=8))
def test_set_bits(values: list[int]) -> None:
    assert set_bits(torch.tensor(values)).tolist() == [abs(v).bit_count() for v in values]
