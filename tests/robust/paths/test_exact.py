"""An exact network's target: judged by its settled spikes, attacked through its twin."""

import pytest
import torch

from spikemorph import convert_graph, load_graph
from spikemorph.graph import InputError
from spikemorph.graph.grid import Grid
from spikemorph.quant import Quantisation
from spikemorph.robust import Target
from spikemorph.robust.attacks.base import input_gradient
from spikemorph.robust.paths.exact import exact_target
from spikemorph.spiking import DenseEngine
from spikemorph.spiking.coding import Constant
from spikemorph.spiking.network import SpikingNetwork
from spikemorph.zoo import load_data

X = load_data("digits:train").values()[:216]


@pytest.fixture(scope="module", params=[8, 13])
def network(request: pytest.FixtureRequest) -> SpikingNetwork:
    grid, graph = Grid.of(0.0, 1.0, request.param), load_graph("zoo:digits_cnn").graph
    return convert_graph(graph, X[:200], grid=grid, quantisation=Quantisation(8)).network


@pytest.fixture(scope="module")
def target(network: SpikingNetwork) -> Target:
    return exact_target("digits", network)


def test_it_is_judged_as_the_settled_spikes_decide(network: SpikingNetwork, target: Target) -> None:
    x = X[200:208]
    trace = DenseEngine(network).run(x, 60)
    settled = network.readout.real(trace.outputs[-1])
    assert torch.equal(target.logits(x), settled)


def test_every_path_computes_the_network(target: Target) -> None:
    x = X[200:]
    x = (x + 0.3 * torch.rand(x.shape, generator=torch.Generator().manual_seed(2))).clamp(0, 1)
    wanted = target.logits(x)
    for path in target.paths:
        assert path.exact and torch.equal(path.logits(x), wanted), path.name
        assert torch.equal(path.logits(x.clone().requires_grad_()), wanted), path.name
    assert {p.name for p in target.paths if p.stand_in} == {"clip", "relu"}


def test_gradients_lead_uphill_and_leave_the_logits_alone(target: Target) -> None:
    """One step along the straight-through sign raises the real network's mean loss."""
    x, labels = X[200:], target.logits(X[200:]).argmax(1)

    def loss(logits: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(logits, labels, reduction="none")

    clean = float(loss(target.logits(x)).mean())
    for path in target.paths:
        gradient, _, _ = input_gradient(path.logits, x, loss)
        if path.name in ("straight-through", "smoothed 1", "clip", "relu"):
            worse = (x + 0.1 * gradient.sign()).clamp(0, 1)
            assert float(loss(target.logits(worse)).mean()) > 2 * clean, path.name


def test_mixed_paths_share_a_batch(target: Target) -> None:
    assert target.mixed is not None
    which = torch.arange(14) % len(target.paths)
    found = target.mixed(X[200:214], which)
    for index, path in enumerate(target.paths):
        rows = which == index
        torch.testing.assert_close(found[rows], path.logits(X[200:214][rows]), rtol=1e-5, atol=1e-5)


def test_a_finer_grid_tells_images_apart_that_a_coarse_one_does_not() -> None:
    """A change of a fifth of a 255th is rounded away by 8 bits, and kept by 13."""
    graph = load_graph("zoo:digits_cnn").graph
    for bits in (8, 13):
        grid = Grid.of(0.0, 1.0, bits)
        near = grid.to_values(grid.to_integers(X[200:] * 0.9))
        found = convert_graph(graph, X[:200], grid=grid, quantisation=Quantisation(64)).network
        logits = exact_target("digits", found).logits
        assert torch.equal(logits(near), logits(near + 0.2 / 255)) is (bits == 8)


def test_rate_coded_networks_are_refused(network: SpikingNetwork) -> None:
    odd = SpikingNetwork(network.graph, network.neurons, Constant())
    with pytest.raises(InputError, match="rate-coded"):
        exact_target("digits", odd)
