"""Scales that channels can trade decide nothing: the same integers, whatever a user's scales were."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from helpers import draw
from torch import Tensor

from spikemorph import load_graph
from spikemorph.convert import canonical
from spikemorph.graph import Graph, run
from spikemorph.graph.grid import Grid
from spikemorph.graph.interpret import run_integers
from spikemorph.layers.activation import LeakyReLU, ReLU
from spikemorph.layers.affine import ScaleShift
from spikemorph.layers.convolution import Convolution
from spikemorph.layers.joining import Add, Concat
from spikemorph.layers.ladder import Ladder
from spikemorph.layers.linear import Linear
from spikemorph.layers.normalisation import BatchNorm
from spikemorph.layers.pooling import AveragePool, GlobalAverage, GlobalMax, MaxPool
from spikemorph.layers.readout import Readout
from spikemorph.layers.shape import Pad, Reshape, Transpose
from spikemorph.quant import Max, Percentile, Quantisation, quantise_graph
from spikemorph.quant.learning import QuantisedModule
from spikemorph.zoo import load_data

Build = Callable[..., Graph]
GRID = Grid.of(0.0, 1.0)
SIX = torch.ones(6)
PLUS = torch.tensor(1.0)
CALIBRATORS = [Quantisation(), Quantisation(8, 4, Percentile(0.99)), Quantisation(32, 16, Max())]


def images(count: int, *shape: int) -> Tensor:
    return torch.rand(count, *shape, generator=torch.Generator().manual_seed(3))


def conv(out: Tensor, into: Tensor, *kernel: int, seed: int, groups: int = 1) -> Convolution:
    """A layer whose outputs are multiplied by `out`, and whose inputs come multiplied by `into`."""
    axes = len(kernel)
    weight = draw(len(out), len(into) // groups, *kernel, seed=seed) / len(into) ** 0.5
    rows = into.reshape(groups, 1, -1).expand(-1, len(out) // groups, -1).reshape(len(out), -1)
    scaled = weight * out.reshape(-1, 1, *[1] * axes) / rows.reshape(*rows.shape, *[1] * axes)
    pads, ones = tuple((k // 2, k // 2) for k in kernel), (1,) * axes
    return Convolution(scaled, draw(len(out), seed=seed + 50) / 4 * out, ones, pads, ones, groups)


def linear(out: Tensor, into: Tensor, seed: int) -> Linear:
    weight = draw(len(out), len(into), seed=seed) / len(into) ** 0.5
    return Linear(weight * out[:, None] / into, draw(len(out), seed=seed + 50) / 4 * out)


def norm(by: Tensor) -> BatchNorm:
    """Behind a ReLU whose channels come multiplied by `by`; what it hands on does not depend on it."""
    mean, variance = draw(6, seed=21).abs() * by, (draw(6, seed=22) ** 2 + 0.01) * by**2
    return BatchNorm(mean, variance, draw(6, seed=23), draw(6, seed=24) / 4, 0.0)


def network(name: str, chain: Build, a: Tensor, b: Tensor) -> Graph:
    """One network, whatever `a` and `b` are: six channels each, multiplied by them and divided again."""
    two, three, one = torch.ones(2), torch.ones(3), (1, 1)
    pool, mean = MaxPool((2, 2), (2, 2), ((0, 0),) * 2, one), ((0, 0),) * 2
    nets: dict[str, tuple[Any, ...]] = {
        "convolutions": (
            (2, 8, 8), conv(a, two, 3, 3, seed=0), ReLU(), pool, conv(b, a, 3, 3, seed=1),
            LeakyReLU(0.1), AveragePool((2, 2), (2, 2), mean, mean, True), Reshape((24,)),
            linear(three, b.repeat_interleave(4), 2)),
        "mlp": (
            (5,), linear(a, torch.ones(5), 0), ReLU(), linear(b, a, 1), ReLU(), linear(three, b, 2)),
        "norms behind": (
            (2, 6, 6), conv(a, two, 3, 3, seed=0), ReLU(), norm(a), conv(b, SIX, 3, 3, seed=1), ReLU(),
            norm(b), GlobalAverage(), Reshape((6,)), linear(three, SIX, 2)),
        "residual": (
            (2, 6, 6), conv(a, two, 3, 3, seed=0), ReLU(), conv(b, a, 3, 3, seed=1), ReLU(),
            conv(a, b, 3, 3, seed=2), (Add((PLUS, PLUS)), "n4", "n1"), ReLU(), GlobalAverage(),
            Reshape((6,)), linear(three, a, 3)),
        "sums of spikes": (
            (2, 6, 6), conv(a, two, 3, 3, seed=0), ReLU(), conv(a, a, 3, 3, seed=1), ReLU(),
            (Add((PLUS, PLUS)), "n1", "n3"), conv(b, a, 1, 1, seed=2), ReLU(), GlobalMax(),
            Reshape((6,)), linear(three, b, 3)),
        "concat": (
            (2, 6, 6), conv(a, two, 3, 3, seed=0), ReLU(), (conv(b, two, 1, 1, seed=1), "x"), ReLU(),
            (Concat(1), "n1", "n3"), conv(a, torch.cat([a, b]), 3, 3, seed=2), ReLU(), pool,
            Reshape((54,)), linear(three, a.repeat_interleave(9), 3)),
        "depthwise": (
            (2, 6, 6), conv(a, two, 3, 3, seed=0), ReLU(), Pad(((1, 1), (1, 1))),
            conv(b, a, 3, 3, seed=1, groups=6), ReLU(), conv(a, b, 1, 1, seed=2, groups=2), ReLU(),
            GlobalAverage(), Reshape((6,)), linear(three, a, 3)),
        "one axis": (
            (2, 12), conv(a, two, 3, seed=0), ReLU(), MaxPool((2,), (2,), ((0, 0),), (1,)),
            conv(b, a, 5, seed=1), ReLU(), Reshape((36,)), linear(three, b.repeat_interleave(6), 2)),
        "three axes": (
            (2, 4, 4, 4), conv(a, two, 3, 3, 3, seed=0), ReLU(), conv(b, a, 1, 3, 3, seed=1), ReLU(),
            GlobalAverage(), Reshape((6,)), linear(three, b, 2)),
        "over positions": (
            (7, 2), linear(a, two, 0), ReLU(), linear(b, a, 1), ReLU(), Transpose((0, 2, 1)),
            conv(a, b, 3, seed=2), ReLU(), Reshape((42,)), linear(three, a.repeat_interleave(7), 3)),
    }  # fmt: skip
    return chain(*nets[name])


NETWORKS = (
    "convolutions", "mlp", "norms behind", "residual", "sums of spikes", "concat", "depthwise",
    "one axis", "three axes", "over positions",
)  # fmt: skip


def samples_of(graph: Graph, count: int = 40) -> Tensor:
    entry: Any = graph[graph.inputs[0]].op
    return images(count, *entry.shape)


def integers_of(graph: Graph) -> list[Tensor]:
    """Every integer that an integer network computes with."""
    found: list[Tensor] = []
    for node in graph.nodes:
        op = node.op
        if isinstance(op, Convolution | Linear):
            assert op.bias is not None
            found += [op.weight, op.bias]
        elif isinstance(op, Ladder):
            assert op.rungs is not None
            found.append(op.rungs)
        elif isinstance(op, Add):
            found += op.factors
        elif isinstance(op, ScaleShift):
            found += [op.gain, op.shift]
        elif isinstance(op, Readout):
            found.append(op.factors)
    return found


def powers(seed: int) -> Tensor:
    return 2.0 ** torch.randint(-10, 11, (6,), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("chosen", CALIBRATORS, ids=["default", "percentile", "max"])
def test_powers_of_two_change_no_integer(name: str, chosen: Quantisation, chain: Build) -> None:
    """Channels by 2**-10 .. 2**10: not one weight, bias, rung or factor is another one."""
    plain, scaled = (network(name, chain, a, b) for a, b in ((SIX, SIX), (powers(1), powers(2))))
    x = samples_of(plain)
    assert torch.allclose(run(plain, x), run(scaled, x), rtol=1e-4, atol=1e-5)
    found = [integers_of(quantise_graph(canonical(g), x, GRID, chosen)) for g in (plain, scaled)]
    assert len(found[0]) == len(found[1])
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


@pytest.mark.parametrize("name", NETWORKS)
def test_any_scales_leave_the_error_as_it_is(name: str, chain: Build) -> None:
    """1e-3 .. 1e3, no powers of two: scales are snapped elsewhere, but the error stays as small."""
    free = [
        10 ** (6 * torch.rand(6, generator=torch.Generator().manual_seed(k)) - 3) for k in (4, 5)
    ]
    plain, scaled = (network(name, chain, a, b) for a, b in ((SIX, SIX), free))
    x, errors = samples_of(plain, 60), []
    for graph in (plain, scaled):
        integer = quantise_graph(canonical(graph), x, GRID, Quantisation())
        errors.append(float((real(integer, x) - run(plain, x)).square().mean().sqrt()))
    assert errors[1] <= 1.5 * errors[0]
    assert errors[0] <= 0.4 * float(run(plain, x).std())


def real(integer: Graph, x: Tensor) -> Tensor:
    readout = integer[integer.outputs[0]].op
    assert isinstance(readout, Readout)
    return readout.real(run_integers(integer, GRID.to_integers(x)))


@pytest.mark.parametrize("factor", [30.0, 1e3, 1e-3])
def test_a_trained_network_keeps_its_accuracy(factor: float) -> None:
    """Three of the hidden neurons of the shipped network by a factor, and back: within a point."""
    graph = canonical(load_graph("zoo:digits_mlp").graph)
    first, second = [n for n in graph.nodes if isinstance(n.op, Linear)][:2]
    assert (
        isinstance(first.op, Linear) and isinstance(second.op, Linear) and first.op.bias is not None
    )
    by = torch.ones(len(first.op.weight), dtype=torch.float64)
    by[[1, 5, 9]] = factor
    more = replace(first.op, weight=first.op.weight * by[:, None], bias=first.op.bias * by)
    less = replace(second.op, weight=second.op.weight / by)
    scaled = graph.substitute(first.name, replace(first, op=more))
    scaled = scaled.substitute(second.name, replace(second, op=less))
    train, test = load_data("digits:train"), load_data("digits:test")
    x, found = test.values(), []
    for net in (graph, scaled):
        integer = quantise_graph(net, train.values(), GRID, Quantisation())
        found.append(100 * float((real(integer, x).argmax(1) == test.y).double().mean()))
    assert abs(found[0] - found[1]) <= 1
    assert found[0] > 95


@pytest.mark.parametrize("name", ["mlp", "residual"])
def test_training_under_quantisation_starts_from_the_same_integers(name: str, chain: Build) -> None:
    """Its export is what `quantise_graph` gives, and is the same for scaled channels."""
    chosen = replace(Quantisation(), bias_correction=False)
    plain, scaled = (network(name, chain, a, b) for a, b in ((SIX, SIX), (powers(1), powers(2))))
    x = samples_of(plain)
    wanted = integers_of(quantise_graph(canonical(plain), x, GRID, chosen))
    for graph in (plain, scaled):
        module = QuantisedModule(canonical(graph), x, GRID, chosen)
        exported = module.to_integers()
        assert torch.equal(real(exported, x), module(x))
        assert all(map(torch.equal, integers_of(exported), wanted))
        with torch.no_grad():
            for parameter in module.parameters():
                parameter += 0.02
        assert torch.equal(real(module.to_integers(), x), module(x))


def test_a_silent_channel_decides_no_scale(chain: Build) -> None:
    """Huge weights behind a channel that calibration never hears: all other weights as without it."""
    first = linear(SIX, torch.ones(5), 0)
    assert first.bias is not None
    first = replace(first, bias=torch.where(torch.arange(6) == 4, -100.0, first.bias))
    weights = []
    for size in (0.0, 1e6):
        second = linear(torch.ones(3), SIX, 1)
        second.weight[:, 4] = size
        graph = chain((5,), first, ReLU(), second)
        integer = quantise_graph(graph, samples_of(graph), GRID, Quantisation())
        weights.append(integer["n2"].op.weight)
    others = torch.tensor([0, 1, 2, 3, 5])
    assert torch.equal(weights[0][:, others], weights[1][:, others])
    assert weights[1][:, 4].tolist() == [
        127,
        127,
        127,
    ]  # where it should speak after all, it is heard


def test_the_step_of_a_silent_channel_comes_from_what_it_was_given(chain: Build) -> None:
    """Its sums' spread, so its own scale decides nothing either: the same rungs at any power of two."""
    found = []
    for size in (1.0, 2.0**10):
        by = torch.where(torch.arange(6) == 4, size, 1.0)
        first = linear(by, torch.ones(5), 0)
        assert first.bias is not None
        first = replace(first, bias=torch.where(torch.arange(6) == 4, -100.0 * size, first.bias))
        graph = chain((5,), first, ReLU(), linear(torch.ones(3), by, 1))
        integer = quantise_graph(graph, samples_of(graph), GRID, Quantisation())
        found.append(integers_of(integer))
    assert all(map(torch.equal, *found))


def test_few_samples_silence_no_channel(chain: Build) -> None:
    """A neuron that the calibration sample does not reach still speaks for another one."""
    identity = Linear(torch.eye(2), None)
    graph = chain((2,), identity, ReLU(), Linear(torch.eye(2), None))
    seen, other = torch.tensor([[1.0, 0.0], [0.5, 0.0]]), torch.tensor([[0.0, 1.0]])
    integer = quantise_graph(graph, seen, GRID, Quantisation())
    assert float(real(integer, other)[0, 1]) > 0.5
