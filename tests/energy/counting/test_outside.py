"""Counts against recounts that share no code with ours, and against public tools where installed."""

import importlib
import sys
import warnings
from collections.abc import Iterator
from fractions import Fraction
from itertools import product
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from spikemorph import convert_graph, load_graph
from spikemorph.conversion import convert_rate_coded
from spikemorph.convert import to_spiking
from spikemorph.energy import count
from spikemorph.graph import Graph, Input, Node
from spikemorph.graph.grid import Grid
from spikemorph.layers.convolution import Convolution
from spikemorph.layers.ladder import Ladder
from spikemorph.layers.masks import weight_of, weighted_nodes, with_masks
from spikemorph.layers.readout import Readout
from spikemorph.quant import Quantisation, RateCoding
from spikemorph.spiking import DenseEngine, ReferenceEngine, SpikingNetwork
from spikemorph.spiking.neurons import IF, STBIF, pow2
from spikemorph.zoo import load_data

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"
KINDS = ("pow2", "st-bif", "rate-coded")


def sparse_digits() -> Graph:
    """The zoo's network of digits without nine tenths of its weights, the smallest of each layer."""
    graph = load_graph("zoo:digits_cnn").graph
    masks = {}
    for node in weighted_nodes(graph):
        size = weight_of(node).abs()
        masks[node.name] = size > size.flatten().quantile(0.9)
    return with_masks(graph, masks)


@pytest.fixture(scope="module", params=KINDS)
def case(request: pytest.FixtureRequest) -> tuple[SpikingNetwork, Tensor, int]:
    """A sparse network, images and steps."""
    graph, grid = sparse_digits(), Grid.of(0.0, 1.0)
    calibration = load_data("digits:train").values()[:200]
    x = load_data("digits:test").values()[:6]
    if request.param == "rate-coded":
        made = convert_rate_coded(
            graph, calibration, grid=grid, rates=RateCoding(), neuron=IF(capped=False)
        )
        return made.network, x, 12
    neuron = {"pow2": pow2(), "st-bif": STBIF()}[request.param]
    made = convert_graph(graph, calibration, grid=grid, quantisation=Quantisation(), neuron=neuron)
    assert made.certificate.steps_required is not None
    return made.network, x, made.certificate.steps_required


def ones(x: Tensor) -> Tensor:
    return (x != 0).double()


def recounted(network: SpikingNetwork, x: Tensor, steps: int) -> dict[str, tuple[int, int]]:
    """For every layer of digits_cnn: operations on weights that are not zero, and on all weights.

    Step by step from the definition's spikes, by convolving ones with ones. A max pool passes on by
    how much the pooled sum of its spikes changed.
    """
    trains = ReferenceEngine(network).run(x, steps, record=True).trains
    points = network.grid.to_integers(x)
    entering = [network.coding.at(points, k, network.grid) for k in range(1, steps + 1)]

    def pooled(train: Tensor) -> Tensor:
        sums = torch.cat([torch.zeros_like(train[:1]), train]).cumsum(0).double()
        return F.max_pool2d(sums.flatten(0, 1), 2).unflatten(0, (steps + 1, -1)).diff(dim=0)

    read = {
        "conv1": torch.stack(entering),
        "conv2": trains["relu1"],
        "conv3": pooled(trains["relu2"]),
        "head": pooled(trains["relu3"]).flatten(2),
    }
    found = {}
    for name, increments in read.items():
        weight, totals = weight_of(network.graph[name]), [0, 0]
        for now in increments:
            for place, kernel in enumerate((ones(weight), torch.ones_like(weight).double())):
                apply = F.linear if name == "head" else F.conv2d
                options = {} if name == "head" else {"padding": 1}
                totals[place] += int(apply(ones(now), kernel, **options).sum())
        found[name] = (totals[0], totals[1])
    return found


def test_a_recount_by_convolving_ones(case: tuple[SpikingNetwork, Tensor, int]) -> None:
    """Our fan-outs times events are the ones that ones make; zero weights would be most of them."""
    counts = count(*case)
    assert [layer.node for layer in counts.layers if layer.weights] == [
        "conv1", "conv2", "conv3", "head",
    ]  # fmt: skip
    recount = recounted(*case)
    for layer in counts.layers:
        if layer.weights:
            every = layer.synops_dense_weights + layer.analog_macs_dense_weights
            assert (layer.synops + layer.analog_macs, every) == recount[layer.node], layer.node
            assert bool(layer.analog_macs) == (layer.node == "conv1")
    assert sum(every for _, every in recount.values()) > 5 * counts.synops > 0


def one_by_one(weight: Tensor, stride: int, before: int, dilation: int, groups: int,
               x: Tensor) -> int:  # fmt: skip
    """Products of a convolution in which neither factor is zero, each visited; x (channel, h, w)."""
    outside, inside, high, wide = weight.shape
    sizes = [(n + 2 * before - dilation * (k - 1) - 1) // stride + 1
             for n, k in ((x.shape[1], high), (x.shape[2], wide))]  # fmt: skip
    made = 0
    for o, i, a, b in product(range(outside), range(inside), range(high), range(wide)):
        channel = o // (outside // groups) * inside + i
        for row, column in product(*(range(n) for n in sizes)):
            r, c = (p * stride - before + t * dilation for p, t in ((row, a), (column, b)))
            if 0 <= r < x.shape[1] and 0 <= c < x.shape[2]:
                made += bool(weight[o, i, a, b] != 0) and bool(x[channel, r, c] != 0)
    return made


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 2), st.integers(0, 2), st.integers(1, 2),
       st.sampled_from([1, 2]), st.integers(1, 3))  # fmt: skip
def test_every_product_visited(
    seed: int, stride: int, before: int, dilation: int, groups: int, kernel: int
) -> None:
    """Any stride, padding, dilation and groups; spikes of both signs; half the weights zero."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randint(-1, 2, (4, 2 // groups, kernel, kernel), generator=generator)
    weight = weight * torch.randint(0, 2, weight.shape, generator=generator)
    x = torch.randint(-1, 2, (2, 2, 5, 6), generator=generator)
    op = Convolution(
        weight, None, (stride, stride), ((before, before),) * 2, (dilation, dilation), groups
    )
    nodes = (
        Node("x", Input((2, 5, 6), Grid(Fraction(1), -1, 1))),
        Node("same", Ladder(torch.tensor([[0, 1]]), -1, 1, Fraction(1)), ("x",)),
        Node("conv", op, ("same",)),
        Node("end", Readout(torch.tensor([1]), Fraction(1)), ("conv",)),
    )
    network = to_spiking(Graph(nodes, ("x",), ("end",)), STBIF())
    counts = count(network, x.float(), 2)
    (place,) = (k for k, layer in enumerate(counts.layers) if layer.weights)
    wanted = [one_by_one(weight, stride, before, dilation, groups, one) for one in x]
    assert counts.per_sample["synops_unit"][place].tolist() == wanted


def load(name: str) -> Iterator[ModuleType]:
    """A script of benchmarks/; what the packages that it tries warn of is theirs."""
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        patch.syspath_prepend(str(BENCHMARKS))
        yield importlib.import_module(name)
    for own in (name, "replay"):
        sys.modules.pop(own, None)


@pytest.fixture(scope="module")
def counters() -> Iterator[ModuleType]:
    yield from load("counters")


@pytest.fixture(scope="module")
def sanafe_loihi() -> Iterator[ModuleType]:
    yield from load("sanafe_loihi")


def test_torch_layers_make_the_networks_outputs(
    counters: ModuleType, case: tuple[SpikingNetwork, Tensor, int]
) -> None:
    """What other counters are shown is the recorded run: every step's sums are the read-out's."""
    network, x, steps = case
    replay = counters.Replay(network, x, steps)
    head = [layer for layer in replay.fed() if layer.name == "head"][0]
    sums = torch.stack([head.module(now) for now in head.inputs]).cumsum(0)
    bias = network.graph["head"].op.bias.double()
    times = torch.arange(1, steps + 1) if network.rate_coded else torch.ones(steps)
    sums = (sums + times[:, None, None] * bias) * network.readout.factors
    wanted = DenseEngine(network, most_steps=steps).run(x, steps).outputs
    assert torch.equal(sums.long(), wanted)


PEERS = ("neurobench", "spikingjelly", "sinabs")


def skip_without(counters: ModuleType, peer: str) -> None:
    if peer in counters.MISSING:
        pytest.skip(f"{counters.MISSING[peer]}; {counters.INSTALL[peer]}")


@pytest.mark.parametrize("peer", PEERS)
def test_the_single_convolution_by_others(counters: ModuleType, peer: str) -> None:
    """456 operations reach a weight that is not zero; 3488 any weight. NeuroBench sees which."""
    skip_without(counters, peer)
    (row,) = counters.single_convolution().rows
    assert (row.ours, row.ours_all_weights) == (456, 3488)
    assert row.peers[peer] == (456 if peer == "neurobench" else 3488)


def test_the_single_convolution_by_ourselves(counters: ModuleType) -> None:
    """The numbers that are known of it, with taps on padding too."""
    (row,) = counters.single_convolution().rows
    assert (row.ours, row.ours_all_weights, row.full_kernels) == (456, 3488, 4248)


def test_neurobench_counts_what_we_count(
    counters: ModuleType, case: tuple[SpikingNetwork, Tensor, int]
) -> None:
    """Every layer, and its own metric with its own hooks: effective and dense operations."""
    skip_without(counters, "neurobench")
    found = counters.compare("digits", "", *case)
    assert all(row.ours == row.peers["neurobench"] > 0 for row in found.rows)
    metric = found.neurobench_metric
    assert metric["Effective_MACs"] + metric["Effective_ACs"] == found.total("ours")
    assert metric["Dense"] == found.total("dense")


@pytest.mark.parametrize("peer", PEERS[1:])
def test_others_count_zero_weights(
    counters: ModuleType, case: tuple[SpikingNetwork, Tensor, int], peer: str
) -> None:
    """Shown every event as a 1, they count what we count through all weights, exactly."""
    skip_without(counters, peer)
    for row in counters.compare("digits", "", *case).rows:
        assert row.peers_ones[peer] == row.ours_all_weights > row.ours, row.layer


@pytest.mark.parametrize("density", [0.3, 0.05])
def test_sanafe_spends_what_the_price_list_says(sanafe_loihi: ModuleType, density: float) -> None:
    """Spikes neuron by neuron, all counts, and the energy to 1e-6, updates counted as it does."""
    if sanafe_loihi.sanafe is None:
        pytest.skip("pip install sanafe==2.2.9 (GPL-3.0)")
    row: Any = sanafe_loihi.measure(density, load_data("digits:test").values()[:1])
    assert row.differing_spikes == 0 and row.their_spikes == row.spikes > 100
    assert row.error < 1e-6 and row.equal, row
    assert row.plain < row.recounted


def test_the_network_for_sanafe_is_sparse(sanafe_loihi: ModuleType) -> None:
    """What is left out is a share of every layer, and both sides of a neuron stay alive."""
    network = sanafe_loihi.example(0.05)
    for node in weighted_nodes(network.graph):
        weight = weight_of(node)
        assert 0 < int((weight != 0).sum()) <= 0.1 * weight.numel()
    assert count(network, load_data("digits:test").values()[:1], 20).spikes > 100
