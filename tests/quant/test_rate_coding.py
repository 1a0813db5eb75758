"""Rate-coded networks, to compare with: they follow the classical laws, and are never certified."""

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest
import torch
from torch import Tensor

from spikemorph.convert import certify, to_spiking
from spikemorph.graph import Graph, InputError, UnsupportedError, run
from spikemorph.graph.grid import Grid
from spikemorph.layers.activation import LeakyReLU, ReLU, Tanh
from spikemorph.layers.convolution import Convolution
from spikemorph.layers.ladder import Ladder
from spikemorph.layers.linear import Linear
from spikemorph.layers.pooling import MaxPool
from spikemorph.layers.readout import Readout
from spikemorph.layers.shape import Reshape
from spikemorph.quant import RateCoding, rate_graph
from spikemorph.spiking import DenseEngine, ReferenceEngine, SpikingNetwork
from spikemorph.spiking.coding import Constant
from spikemorph.spiking.neurons import BIF, IF, SNM, burst

Build = Callable[..., Any]
PUBLISHED = IF(capped=False)
GRID = Grid(Fraction(1, 64), 0, 64)
LEVELS = (1, 2, 4, 8, 16, 32)


@pytest.fixture
def one_layer(chain: Build, even_ladder: Build) -> SpikingNetwork:
    """Six neurons of threshold 50 that start at half of it, and three sums of their spikes."""
    generator = torch.Generator().manual_seed(2)
    first = torch.randint(-6, 9, (6, 4), generator=generator)
    second = torch.randint(-5, 6, (3, 6), generator=generator)
    graph = chain(
        (4,),
        Linear(first, torch.randint(-9, 10, (6,), generator=generator)),
        even_ladder(50, 1, 25, 0, None),
        Linear(second, None),
        Readout(torch.ones(1, dtype=torch.int64), Fraction(1)),
        grid=Grid(Fraction(1), 0, 9),
    )
    return to_spiking(graph, PUBLISHED, Constant())


@pytest.fixture
def inputs() -> Tensor:
    return torch.randint(0, 10, (64, 4), generator=torch.Generator().manual_seed(3))


def sums_of(network: SpikingNetwork, x: Tensor) -> Tensor:
    """The first layer's sums on integers, (sample, neuron)."""
    op = network.graph["n0"].op
    assert isinstance(op, Linear)
    return op(x)


@pytest.mark.parametrize("levels", LEVELS)
def test_the_first_layer_is_the_quantiser_after_as_many_steps_as_levels(
    one_layer: SpikingNetwork, inputs: Tensor, levels: int
) -> None:
    """QCFS: the mean rate after L steps is ``clip(floor(z L / lambda + 1/2) / L, 0, 1)``, exactly."""
    trace = ReferenceEngine(one_layer).run(inputs.float(), levels, record=True)
    doubled = 2 * levels * sums_of(one_layer, inputs) + 50  # 2 (z L + lambda / 2)
    wanted = torch.div(doubled, 100, rounding_mode="floor").clamp(0, levels)
    assert torch.equal(trace.trains["n1"].sum(0), wanted)
    assert 0 < wanted.float().mean() < levels


@pytest.mark.parametrize("steps", [1, 3, 10, 31, 100, 1000])
def test_the_error_of_one_layer_shrinks_as_one_over_steps(
    one_layer: SpikingNetwork, inputs: Tensor, steps: int
) -> None:
    """``|mean output - output| <= sum |w| / (2 T)``, for sums up to the threshold.

    Each neuron's count is its accumulated sum over the threshold, rounded to nearest.
    """
    rates = (sums_of(one_layer, inputs).double() / 50).clamp(0, 1)
    second = one_layer.graph["n2"].op
    assert isinstance(second, Linear)
    wanted = rates @ second.weight.double().t()
    found = DenseEngine(one_layer).run(inputs.float(), steps).real_outputs(one_layer)[-1]
    bound = second.weight.abs().sum(1) / (2 * steps)
    assert bool(((found - wanted).abs() <= bound + 1e-12).all())


@pytest.mark.parametrize("neuron", [PUBLISHED, IF(), SNM(), BIF(), burst(3)], ids=lambda n: n.name)
def test_both_engines_agree_for_many_steps(
    one_layer: SpikingNetwork, inputs: Tensor, neuron: Any, in_both: Build, even_ladder: Build
) -> None:
    """70 steps: more than four chunks of the dense engine; nothing ever settles."""
    graph = one_layer.graph
    if neuron.capped:
        ladder = even_ladder(50, 1, 25, 0, 9)
        graph = graph.substitute("n1", type(graph["n1"])("n1", ladder, ("n0",)))
    trace = in_both(to_spiking(graph, neuron, Constant()), inputs.float(), 70)
    assert trace.settled.tolist() == [-1] * len(inputs)


def test_outputs_are_means_over_the_steps_so_far(one_layer: SpikingNetwork, inputs: Tensor) -> None:
    trace = ReferenceEngine(one_layer).run(inputs.float(), 5)
    steps = torch.arange(1, 6, dtype=torch.float64)[:, None, None]
    assert torch.equal(trace.real_outputs(one_layer), trace.outputs.double() / steps)


def test_nothing_is_certified(one_layer: SpikingNetwork) -> None:
    proof = certify(one_layer, 1000)
    assert (proof.level, proof.steps_required) == (None, None)
    assert proof.refusals == (
        "node 'n1': inputs never stop (rate coding), so it has no settled state",
    )


def test_an_engine_runs_no_longer_than_its_numbers_last(
    one_layer: SpikingNetwork, inputs: Tensor
) -> None:
    """Sums grow with time, so exactness is proved for a number of steps."""
    engine = DenseEngine(one_layer, most_steps=20)
    assert engine.run(inputs.float(), 20).steps == 20
    with pytest.raises(InputError, match="21 steps .*most_steps=21"):
        engine.run(inputs.float(), 21)


@pytest.fixture
def float_net(chain: Build) -> Graph:
    generator = torch.Generator().manual_seed(4)
    first = torch.randn(6, 2, 3, 3, generator=generator) / 3
    second = torch.randn(4, 54, generator=generator) / 4
    one, none = (1, 1), ((0, 0), (0, 0))
    graph: Graph = chain(
        (2, 8, 8),
        Convolution(first, 3 + torch.rand(6, generator=generator), one, none, one),
        ReLU(),
        MaxPool((2, 2), (2, 2), none, one),
        Reshape((54,)),
        Linear(second, torch.randn(4, generator=generator)),
    )
    return graph


@pytest.fixture
def images() -> Tensor:
    x = torch.rand(40, 2, 8, 8, generator=torch.Generator().manual_seed(5))
    return GRID.to_values(GRID.to_integers(x))


def test_a_converted_network_approaches_its_source(float_net: Graph, images: Tensor) -> None:
    """Thresholds at the largest activation: the error is O(1/T), down to the 16-bit weights."""
    network = to_spiking(
        rate_graph(float_net, images, GRID, RateCoding(quantile=1.0)), PUBLISHED, Constant()
    )
    outputs = DenseEngine(network).run(images, 512).real_outputs(network)
    errors = (outputs - run(float_net, images)).abs().amax((1, 2))
    unit = float((outputs[-1]).abs().max())
    assert errors[7] > 4 * errors[63] > 16 * errors[511]
    assert errors[511] < unit / 100


def test_thresholds_are_quantiles_of_each_channel(float_net: Graph, images: Tensor) -> None:
    """theta = the largest activation of the channel, kept to 6 bits: at most 1/64 away."""
    ladders = {}
    for settings in (RateCoding(1.0), RateCoding(1.0, per_channel=False), RateCoding(0.9)):
        op = rate_graph(float_net, images, GRID, settings)["n1"].op
        assert isinstance(op, Ladder) and op.line is not None and op.smax is None
        ladders[settings] = op.line.threshold.double() / op.line.scale.double()
        assert torch.allclose(op.line.start.double(), op.line.threshold.double() / 2, atol=0.5)
    peaks = float_net["n1"].op(float_net["n0"].op(images)).amax((0, 2, 3)).double()
    each, shared, lower = ladders.values()
    unit = peaks / each  # of the accumulator, channel by channel
    assert bool((peaks > 0).all())
    assert bool(((shared * unit / peaks.max() - 1).abs() <= 1 / 32).all())
    assert bool((lower < each).all())


def test_a_silent_channel_takes_the_threshold_of_its_layer(chain: Build) -> None:
    """Channel 1 never fires on these samples; channel 0 reaches 1."""
    weight = torch.tensor([[1.0], [-1.0]])
    graph = chain((1,), Linear(weight, None), ReLU(), Linear(torch.ones(1, 2), None))
    op = rate_graph(graph, torch.ones(4, 1), GRID, RateCoding(1.0))["n1"].op
    assert isinstance(op, Ladder) and op.line is not None
    assert op.line.threshold.unique().numel() == op.line.scale.unique().numel() == 1


@pytest.mark.parametrize("activation", [Tanh(), LeakyReLU(0.1)])
def test_negative_rates_are_refused(chain: Build, activation: Any) -> None:
    graph = chain((2,), Linear(torch.eye(2), None), activation, Linear(torch.eye(2), None))
    with pytest.raises(UnsupportedError, match="node 'n1' .*a firing rate cannot be negative"):
        rate_graph(graph, torch.rand(4, 2), GRID, RateCoding())


def test_a_silent_layer_is_refused(chain: Build) -> None:
    graph = chain((2,), Linear(-torch.eye(2), None), ReLU(), Linear(torch.eye(2), None))
    with pytest.raises(InputError, match="node 'n1' is silent on all 4 calibration samples"):
        rate_graph(graph, torch.rand(4, 2), GRID, RateCoding())


@pytest.mark.parametrize("quantile", [0.5, 1.01, 0.0])
def test_quantiles_outside_their_range_are_refused(quantile: float) -> None:
    with pytest.raises(InputError, match="above 0.5 and up to 1"):
        RateCoding(quantile=quantile)
