"""The twin of an integer graph has its outputs bit for bit, and the gradients that its rule defines."""

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest
import torch
from helpers import draw
from torch import Tensor

from spikemorph import load_graph
from spikemorph.convert import canonical
from spikemorph.graph import Graph, GraphError, UnsupportedError
from spikemorph.graph.grid import Grid
from spikemorph.graph.interpret import run_integers
from spikemorph.layers.activation import ReLU, Sigmoid
from spikemorph.layers.affine import ScaleShift
from spikemorph.layers.convolution import Convolution
from spikemorph.layers.joining import Add, Concat
from spikemorph.layers.ladder import Ladder
from spikemorph.layers.linear import Linear
from spikemorph.layers.pooling import MaxPool, SumPool
from spikemorph.layers.readout import Readout
from spikemorph.layers.shape import Reshape
from spikemorph.quant import Quantisation, quantise_graph
from spikemorph.quant.exact_floats import position, position_kind
from spikemorph.quant.twin import IntegerTwin
from spikemorph.quant.twin_rules import Rule, Smoothed, StraightThrough, Unrounded
from spikemorph.zoo import load_data

Build = Callable[..., Any]
EXACT = (StraightThrough(), Smoothed(0.25), Smoothed(1.0), Smoothed(2.0))
ONE, NONE, SAME = (1, 1), ((0, 0), (0, 0)), ((1, 1), (1, 1))


def uniform(*shape: int, seed: int = 5) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def settled(graph: Graph, x: Tensor, grid: Grid) -> Tensor:
    readout = graph[graph.outputs[0]].op
    assert isinstance(readout, Readout)
    return readout.real(run_integers(graph, grid.to_integers(x)))


def everything(chain: Build) -> Graph:
    """Joins with factors, an unfolded scale and shift, both pools, a concatenation, a sigmoid."""
    conv = Convolution(draw(4, 2, 3, 3) / 3, draw(4, seed=1) / 4, ONE, SAME, ONE)
    inner = Convolution(draw(4, 4, 3, 3, seed=2) / 4, draw(4, seed=3) / 4, ONE, SAME, ONE)
    gain, shift = draw(4, 1, 1, seed=6), draw(4, 1, 1, seed=7) / 3
    graph: Graph = chain(
        (2, 4, 4),
        conv,
        ReLU(),
        inner,
        (Add((torch.tensor(1.0), torch.tensor(-2.0))), "n2", "n1"),
        ScaleShift(gain, shift),
        Sigmoid(),
        (Concat(1), "n5", "x", "n1"),
        MaxPool((2, 2), (2, 2), NONE, ONE),
        SumPool((2, 2), (1, 1), NONE),
        Reshape((10,)),
        Linear(draw(3, 10, seed=4), draw(3, seed=5)),
    )
    return graph


@pytest.mark.parametrize("rule", EXACT, ids=str)
@pytest.mark.parametrize("bits", [8, 13])
@pytest.mark.parametrize("levels", [2, 16, 300])
def test_outputs_are_those_of_the_integer_pass(
    levels: int, bits: int, rule: Rule, chain: Build
) -> None:
    grid, x = Grid.of(0.0, 1.0, bits), uniform(20, 2, 4, 4)
    graph = quantise_graph(everything(chain), x, grid, Quantisation(levels))
    kinds = {type(node.op) for node in graph.nodes}
    assert {Add, Concat, ScaleShift, Ladder, MaxPool, SumPool} <= kinds
    found = IntegerTwin(graph)(x.requires_grad_(), rule)
    assert torch.equal(found.detach(), settled(graph, x.detach(), grid))
    (gradient,) = torch.autograd.grad(found.sum(), x)
    assert bool(torch.isfinite(gradient).all())


@pytest.mark.parametrize("name", ["digits_cnn", "digits_resnet"])
def test_zoo_networks_have_exact_twins_with_gradients(name: str) -> None:
    x = load_data("digits:train").values()[:220]
    grid = Grid.of(0.0, 1.0, 12)
    graph = quantise_graph(
        canonical(load_graph(f"zoo:{name}").graph), x[:200], grid, Quantisation()
    )
    image = x[200:].clone().requires_grad_()
    found = IntegerTwin(graph)(image, StraightThrough())
    assert torch.equal(found.detach(), settled(graph, x[200:], grid))
    (gradient,) = torch.autograd.grad(found[:, 0].sum(), image)
    assert bool((gradient.flatten(1) != 0).any(1).all())


@pytest.fixture
def neuron(chain: Build, even_ladder: Build) -> Callable[..., Graph]:
    """One neuron on a grid of eighths: C = 3 i + 1, level floor((2 C + 5) / 10) in 0..3, times 7."""

    def build(ladder: Ladder | None = None) -> Graph:
        first = Linear(torch.tensor([[3]]), torch.tensor([1]))
        ladder = ladder or even_ladder(10, 2, 5, 0, 3)
        ends = (Linear(torch.tensor([[7]]), None), Readout(torch.tensor([1]), Fraction(1, 2)))
        graph: Graph = chain((1,), first, ladder, *ends, grid=Grid(Fraction(1, 8), 0, 8))
        return graph

    return build


def gradient_at(graph: Graph, point: int, rule: Rule) -> float:
    x = torch.tensor([[point / 8]], requires_grad=True)
    (gradient,) = torch.autograd.grad(IntegerTwin(graph)(x, rule).sum(), x)
    return float(gradient)


def test_one_neuron_by_hand(neuron: Callable[..., Graph]) -> None:
    """The output is 7/2 F(C), so its gradient is 7/2 F'(C) 3 8 = 84 F'(C); F' is 1/5 at slope one.

    Position v = (2 C + 5) / 10. Point 1: C = 4, v = 1.3, inside. Point 2: C = 7, v = 1.9. Point 0:
    C = 1, v = 0.7, half a rung before the first rung at v = 1. Point 6: C = 19, v = 4.3, beyond 3.5.
    """
    graph = neuron()
    whole = 84 / 5
    for point in (0, 1, 2):
        assert gradient_at(graph, point, StraightThrough()) == pytest.approx(whole)
    assert gradient_at(graph, 6, StraightThrough()) == 0
    # Smoothed by 1/2: bumps 2 (1 - 2 |v - k|); v = 1.3 is 0.3 from rung 1, v = 1.9 is 0.1 from 2.
    assert gradient_at(graph, 1, Smoothed(0.5)) == pytest.approx(whole * 2 * 0.4)
    assert gradient_at(graph, 2, Smoothed(0.5)) == pytest.approx(whole * 2 * 0.8)
    # By 1/4: v = 1.3 is out of reach of rung 1, at distance 0.3.
    assert gradient_at(graph, 1, Smoothed(0.25)) == 0
    # By 2: rungs 1, 2, 3 at distances 0.3, 0.7, 1.7: (1.7 + 1.3 + 0.3) / 2 / 2.
    assert gradient_at(graph, 1, Smoothed(2.0)) == pytest.approx(whole * 0.825)
    # Unrounded, v - 1/2 = 3.8 is clipped at 3, or not.
    assert gradient_at(graph, 6, Unrounded()) == 0
    assert gradient_at(graph, 6, Unrounded(clipped=False)) == pytest.approx(whole)
    real = IntegerTwin(graph)(torch.tensor([[6 / 8]]), Unrounded(clipped=False))
    assert float(real) == pytest.approx(7 / 2 * 19 / 5)


@pytest.mark.parametrize("rule", [*EXACT, Unrounded()], ids=str)
def test_rungs_alone_have_the_gradients_of_their_line(
    rule: Rule, neuron: Callable[..., Graph], even_ladder: Build
) -> None:
    """A line of whole rungs (threshold 5, scale 1), once with its line and once by its rungs only."""
    lined = even_ladder(5, 1, 2, 0, 3)
    bare = Ladder(lined.rungs, 0, 3, Fraction(1))
    for point in range(9):
        wanted = gradient_at(neuron(lined), point, rule)
        assert gradient_at(neuron(bare), point, rule) == pytest.approx(wanted, rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("rule", [StraightThrough(), Smoothed(0.25), Smoothed(1), Smoothed(2)])
def test_the_slope_of_a_ladder_adds_up_to_its_levels(rule: Rule, even_ladder: Build) -> None:
    """Summed over all sums C, the derivative is the climb from the lowest to the highest level."""
    ladder = even_ladder(40, 1, 20, -3, 4)
    for op in (ladder, Ladder(ladder.rungs, -3, 4, Fraction(1))):
        sums = torch.arange(-1000.0, 1000.0, dtype=torch.float64)[:, None].requires_grad_()
        level = torch.zeros(2000, 1)
        place = None if op.line is None else position(op.line, sums.detach())
        rule(op, sums, place, level).sum().backward()
        assert sums.grad is not None
        assert float(sums.grad.sum()) == pytest.approx(7, abs=0.02)


def test_mixed_paths_are_those_of_each_rule(chain: Build) -> None:
    grid, x = Grid.of(0.0, 1.0), uniform(12, 2, 4, 4)
    twin = IntegerTwin(quantise_graph(everything(chain), x, grid, Quantisation(5)))
    rules = (StraightThrough(), Smoothed(0.5), Unrounded(), Smoothed(2.0))
    which = torch.tensor([2, 0, 1, 3, 0, 2, 2, 1, 3, 0, 1, 3])
    image = x.clone().requires_grad_()
    found = twin.mixed(image, rules, which)
    (gradient,) = torch.autograd.grad(found.square().sum(), image)
    for index, rule in enumerate(rules):
        rows = which == index
        alone = x[rows].clone().requires_grad_()
        wanted = twin(alone, rule)
        assert torch.equal(found[rows], wanted) or not rule.exact
        torch.testing.assert_close(found[rows], wanted, rtol=1e-5, atol=1e-6)
        (own,) = torch.autograd.grad(wanted.square().sum(), alone)
        torch.testing.assert_close(gradient[rows], own, rtol=1e-4, atol=1e-5)


def test_sums_that_no_float_holds_are_refused(chain: Build, even_ladder: Build) -> None:
    grid, read = Grid.of(0.0, 1.0), Readout(torch.tensor([1]), Fraction(1))
    huge = chain((1,), Linear(torch.tensor([[2**50]]), None), read, grid=grid)
    with pytest.raises(GraphError, match="n0"):
        IntegerTwin(huge)
    endless = chain((1,), even_ladder(5, 1, 2, 0, None), read, grid=grid)
    with pytest.raises(UnsupportedError, match="n0"):
        IntegerTwin(endless)
    with pytest.raises(GraphError, match="integer graph"):
        IntegerTwin(chain((1,), ReLU()))


def test_places_in_float32_have_the_exact_floor(even_ladder: Build) -> None:
    """At every sum beside a rung, up to the largest that float32 is allowed for; beyond, float64."""
    threshold, scale, start = 2**13 - 1, 61, 12_345
    bound = (2**24 - 1 - threshold - start) // scale
    line = even_ladder(threshold, scale, start, -300, 300).line
    assert line is not None
    assert position_kind(line, bound) is torch.float32
    assert position_kind(line, bound + 1) is torch.float64
    rungs = (torch.arange(-2000, 2000) * threshold - start) // scale
    sums = torch.cat([rungs - 1, rungs, rungs + 1, torch.tensor([-bound, bound])])
    sums = sums[sums.abs() <= bound][:, None]
    wanted = torch.div(sums * scale + start, threshold, rounding_mode="floor")
    assert torch.equal(position(line, sums, torch.float32).floor().long(), wanted)
