"""Channels that seldom speak, and are loud then, cost the others neither weights nor steps."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from helpers import draw
from torch import Tensor

from spikemorph import load_graph
from spikemorph.convert import canonical
from spikemorph.graph import Graph, run
from spikemorph.graph.grid import Grid
from spikemorph.graph.interpret import on_reals, run_integers, shapes, walk
from spikemorph.layers.activation import ReLU
from spikemorph.layers.convolution import Convolution
from spikemorph.layers.linear import Linear
from spikemorph.layers.pooling import GlobalMax
from spikemorph.layers.readout import Readout
from spikemorph.layers.shape import Reshape
from spikemorph.quant import Quantisation, quantise_graph
from spikemorph.quant.observe import choose_steps
from spikemorph.quant.scale_plan import Plan
from spikemorph.quant.seldom import noise, quiet_plan
from spikemorph.zoo import load_data

Build = Callable[..., Graph]
GRID = Grid.of(0.0, 1.0)
EXTRA = 4  # channels more in every hidden layer


def real(integer: Graph, x: Tensor) -> Tensor:
    readout = integer[integer.outputs[0]].op
    assert isinstance(readout, Readout)
    return readout.real(run_integers(integer, GRID.to_integers(x)))


def with_seldom_channels(graph: Graph, x: Tensor) -> Graph:
    """Channels that all samples `x` wake at three places, behind which a norm has made them loud.

    They are copies of others whose sums were pushed below zero; what they hand on has the deviation
    one over all places, as a folded batch norm gives it.
    """
    names = [node.name for node in graph.nodes if isinstance(node.op, Convolution)]
    for name, behind in zip(names, names[1:], strict=False):
        one, two = graph[name].op, graph[behind].op
        assert isinstance(one, Convolution) and isinstance(two, Convolution)
        assert one.bias is not None
        (sums,) = [value for node, value in walk(graph, x, on_reals) if node.name == name]
        rows = sums.transpose(0, 1).flatten(1)[:EXTRA]
        pushed = rows.sort(1).values[:, -4]
        loud = (rows - pushed[:, None]).relu().std(1)
        bias = torch.cat([one.bias, one.bias[:EXTRA] - pushed])
        more = replace(one, weight=torch.cat([one.weight, one.weight[:EXTRA]]), bias=bias)
        reads = torch.cat([two.weight, two.weight[:, :EXTRA] / loud[:, None, None]], 1)
        graph = graph.substitute(name, replace(graph[name], op=more))
        graph = graph.substitute(behind, replace(graph[behind], op=replace(two, weight=reads)))
    return graph


@pytest.mark.parametrize("chosen", [Quantisation(), Quantisation(4, 4)], ids=["16, 8", "4, 4"])
@torch.no_grad()
def test_a_trained_network_keeps_its_accuracy(chosen: Quantisation) -> None:
    """Measured on training images that calibrated nothing: within a point of the float network."""
    data = load_data("digits:train")
    assert data.y is not None
    x, held, y = data.values()[:250], data.values()[600:750], data.y[600:750]
    graph = with_seldom_channels(canonical(load_graph("zoo:digits_cnn").graph), x)
    integer = quantise_graph(graph, x, GRID, chosen)
    wanted, found = (
        100 * float((out.argmax(1) == y).double().mean())
        for out in (run(graph, held), real(integer, held))
    )
    assert wanted > 90
    assert found >= wanted - 1


def pair(chain: Build, share: float, x: Tensor) -> Graph:
    """Six hidden neurons; one of them speaks on this share of samples and has weights of 1000."""
    first = Linear(draw(6, 5, seed=0), draw(6, seed=50) / 4)
    second = Linear(draw(3, 6, seed=1), draw(3, seed=51) / 4)
    assert first.bias is not None
    sums = (x @ first.weight[4]).sort().values
    first.bias[4] = -sums[-1 - int(share * len(x))]
    second.weight[:, 4] = 1000.0
    return chain((5,), first, ReLU(), second)


def images(count: int, *shape: int) -> Tensor:
    return torch.rand(count, *shape, generator=torch.Generator().manual_seed(3))


def test_it_is_its_being_seldom_that_counts(chain: Build) -> None:
    """On one sample in four hundred: the others lose nothing by it. On half of them, it is heard."""
    x, middle = images(400, 5), []
    for share in (0.0025, 0.5):
        graph = pair(chain, share, x)
        integer = quantise_graph(graph, x, GRID, Quantisation(256))
        middle.append(float((real(integer, x) - run(graph, x)).abs().amax(1).median()))
    assert middle[0] < 0.05 < middle[1]


def planned(graph: Graph, x: Tensor) -> Plan:
    steps = choose_steps(graph, x, Quantisation())
    return Plan(graph, shapes(graph), GRID.step, steps, 127)


def test_what_is_behind_a_clipped_weight_is_seen_anew(chain: Build) -> None:
    """A third layer's steps are as if the rare event were not there; other weights are as they were."""
    x = images(400, 5)
    graph = pair(chain, 0.0025, x)
    deeper = chain(
        (5,), *(node.op for node in graph.nodes[1:]), ReLU(), Linear(draw(2, 3, seed=7), None)
    )
    plan = planned(deeper, x)
    quiet = quiet_plan(plan, x, Quantisation())
    assert quiet is not None
    asleep = planned(deeper, x[run(graph, x).abs().amax(1) < 20])
    loud, still, wanted = (float(max(p.steps["n3"].unit)) for p in (plan, quiet, asleep))
    assert loud > 4 * wanted
    assert wanted / 2 <= still <= 2 * wanted
    before, after = plan.graph["n2"].op, quiet.graph["n2"].op
    assert isinstance(before, Linear) and isinstance(after, Linear)
    others = torch.tensor([0, 1, 2, 3, 5])
    assert torch.equal(before.weight[:, others], after.weight[:, others])


@pytest.mark.parametrize("name", ["digits_cnn", "digits_mlp", "digits_resnet"])
def test_ordinary_networks_have_one_plan(name: str) -> None:
    x = load_data("digits:train").values()[:300]
    graph = canonical(load_graph(f"zoo:{name}").graph)
    assert quiet_plan(planned(graph, x), x, Quantisation()) is None


def test_a_rare_event_that_matters_to_every_sample_is_kept(chain: Build) -> None:
    """A dot at one of 144 places of every image, and nothing else tells it: clipping it is refused."""
    draws = torch.Generator().manual_seed(0)
    x = images(200, 1, 12, 12) / 4
    place = torch.randint(144, (200,), generator=draws)
    x.flatten(1)[torch.arange(200), place] = 0.3 + 0.7 * torch.rand(200, generator=draws)
    one = (1, 1)
    first = Convolution(torch.ones(2, 1, 1, 1), torch.tensor([0.0, -0.3]), one, ((0, 0),) * 2, one)
    second = Convolution(
        torch.tensor([1.0, 100.0]).reshape(1, 2, 1, 1), torch.zeros(1), one, ((0, 0),) * 2, one
    )
    graph = chain(
        (1, 12, 12),
        first,
        ReLU(),
        second,
        ReLU(),
        GlobalMax(),
        Reshape((1,)),
        Linear(torch.ones(1, 1), None),
    )
    assert quiet_plan(planned(graph, x), x, Quantisation()) is not None
    integer = quantise_graph(graph, x, GRID, Quantisation())
    wanted, found = run(graph, x)[:, 0], real(integer, x)[:, 0]
    assert float(torch.corrcoef(torch.stack([wanted.double(), found]))[0, 1]) > 0.99


def test_no_sample_has_more_to_say_than_another(chain: Build) -> None:
    """Of ten samples one is off by a million times what the others are: no more noise than its share."""
    x = torch.linspace(0, 1, 10)[:, None]
    wide = Linear(torch.ones(2, 1), torch.tensor([0.0, -0.95]))
    still, wild = (
        chain((1,), wide, ReLU(), Linear(torch.tensor([[1.0, size]]), None)) for size in (0.0, 1e6)
    )
    integer = quantise_graph(still, x, GRID, Quantisation())
    assert noise(integer, still, x, GRID) < 0.01
    assert noise(integer, wild, x, GRID) == pytest.approx(0.05, abs=0.01)
