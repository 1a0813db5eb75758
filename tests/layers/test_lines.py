"""Linear bounds hold at every point of a box, and are never worse than the box's own."""

from fractions import Fraction

import torch
from growing import NONE, ONE, integer_graphs
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from spikemorph.graph import Graph, Input, Node
from spikemorph.graph.grid import Grid
from spikemorph.graph.interpret import integer_compute, walk
from spikemorph.layers import Add, Concat, Convolution, Ladder, Linear, MaxPool, Reshape
from spikemorph.layers.boxes import Box, edge_boxes
from spikemorph.layers.ladder import Line
from spikemorph.layers.lines import Lines
from spikemorph.layers.multiply import Multiply


def whole(low: int, high: int, *shape: int, seed: int = 0) -> Tensor:
    return torch.randint(low, high + 1, shape, generator=torch.Generator().manual_seed(seed))


def around(x: Tensor, seed: int, most: int = 2) -> Box:
    below, above = (whole(0, most, *x.shape, seed=seed + k) for k in range(2))
    return Box((x - below).double(), (x + above).double())


def points(box: Box, count: int, seed: int) -> Tensor:
    """Corners and others, whole: (point, sample, *shape)."""
    draws = torch.Generator().manual_seed(seed)
    share = torch.rand((count, *box.lower.shape), generator=draws, dtype=torch.float64)
    share[::2] = share[::2].round()
    return (box.lower + (share * (box.upper - box.lower)).round()).to(torch.int64)


def assert_hold(graph: Graph, box: Box, node: str, seed: int) -> None:
    """Bounds of random sums of a node's values, from each of its boxes' inputs."""
    boxes = {n.name: b for n, b in edge_boxes(graph, box)}
    own = boxes[node]
    which = torch.arange(len(own.lower)).repeat_interleave(3)
    weights = whole(-5, 5, len(which), *own.lower.shape[1:], seed=seed).double()
    least = Lines(graph, boxes).least(node, which, weights)
    plain = (weights * own.middle[which] - weights.abs() * own.radius[which]).flatten(1).sum(1)
    assert bool((least >= plain).all())
    for point in points(box, 8, seed):
        (value,) = [v for n, v in walk(graph, point, integer_compute(graph)) if n.name == node]
        assert bool(((weights * value[which]).flatten(1).sum(1) >= least).all())


@settings(max_examples=60, deadline=None, derandomize=True)
@given(drawn=integer_graphs(), seed=st.integers(0, 2**16))
def test_bounds_hold_in_random_networks(drawn: tuple[Graph, Tensor], seed: int) -> None:
    graph, x = drawn
    assert_hold(graph, around(x, seed), graph.outputs[0], seed)


def gated(seed: int) -> Graph:
    """Products of levels, one factor with one channel; a max pool over both; a residual sum."""
    line = Line(torch.tensor([5, 9]), torch.tensor([1]), torch.tensor([2]))
    ladder = Ladder(line.rungs(-3, 6), -3, 6, Fraction(1), line)
    one = Ladder(torch.tensor([[-4, 0, 1, 7]]), -2, 2, Fraction(1))
    weight, other = (whole(-3, 3, c, 1, 2, 2, seed=seed + c) for c in (2, 1))
    nodes = (
        Node("x", Input((1, 3, 3), Grid(Fraction(1), -9, 9))),
        Node("c", Convolution(weight, whole(-9, 9, 2), ONE, NONE, ONE), ("x",)),
        Node("a", ladder, ("c",)),
        Node("d", Convolution(other, None, ONE, NONE, ONE), ("x",)),
        Node("b", one, ("d",)),
        Node("m", Multiply(), ("a", "b")),
        Node("s", Add((torch.tensor(2), torch.tensor(-1))), ("m", "a")),
        Node("j", Concat(1), ("s", "b")),
        Node("p", MaxPool((2, 1), ONE, ((1, 0), (0, 0)), ONE), ("j",)),
        Node("f", Reshape((12,)), ("p",)),
        Node("y", Linear(whole(-4, 4, 3, 12, seed=seed + 2), None), ("f",)),
    )  # fmt: skip
    return Graph(nodes, ("x",), ("y",))


@settings(max_examples=30, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**16), most=st.sampled_from((0, 1, 3, 9)))
def test_bounds_hold_through_products_and_pools(seed: int, most: int) -> None:
    assert_hold(gated(seed), around(whole(-5, 5, 4, 1, 3, 3, seed=seed), seed, most), "y", seed)


def test_what_cancels_is_seen() -> None:
    """A unit and its negative, read with one weight: the sum is known, though no box says so."""
    ladder = Ladder(torch.tensor([[1, 2, 3, 4, 5, 6, 7, 8, 9]]), 0, 9, Fraction(1))
    nodes = (
        Node("x", Input((2,), Grid(Fraction(1), 0, 9))),
        Node("c", Linear(torch.tensor([[1, 0], [1, 0]]), None), ("x",)),
        Node("a", ladder, ("c",)),
        Node("y", Linear(torch.tensor([[1, -1]]), None), ("a",)),
    )
    graph = Graph(nodes, ("x",), ("y",))
    box = Box(torch.zeros(1, 2).double(), torch.full((1, 2), 9.0).double())
    boxes = {n.name: b for n, b in edge_boxes(graph, box)}
    assert float(boxes["y"].lower) == -9
    least = Lines(graph, boxes).least("y", torch.tensor([0]), torch.ones(1, 1).double())
    assert -0.1 < float(least) <= 0


def test_sums_too_wide_in_any_unit_have_no_bound() -> None:
    entry = Node("x", Input((1,), Grid(Fraction(1), 0, 9)))
    nodes = (entry, Node("y", Linear(torch.tensor([[2**52]]), None), ("x",)))
    graph, one = Graph(nodes, ("x",), ("y",)), torch.ones(1, 1).double()
    boxes = {n.name: b for n, b in edge_boxes(graph, Box(0 * one, one))}
    least = Lines(graph, boxes).least("y", torch.tensor([0]), one)
    assert float(least) == -torch.inf
