"""Boxes hold whatever ops make of anything inside them, and are as tight as that allows."""

from fractions import Fraction
from itertools import product

import pytest
import torch
from growing import NONE, ONE, integer_graphs
from helpers import draw
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from spikemorph.graph import Graph, GraphError, Input, Node, Op, UnsupportedError
from spikemorph.graph.interpret import integer_compute, run, run_integers, walk
from spikemorph.graph.tables import on_boxes, on_integers
from spikemorph.layers import (
    Add,
    AveragePool,
    BatchNorm,
    Concat,
    Convolution,
    GlobalAverage,
    Ladder,
    Linear,
    MaxPool,
    Readout,
    ReLU,
    Reshape,
    ScaleShift,
    Softmax,
    SumPool,
    Tanh,
)  # fmt: skip
from spikemorph.layers.boxes import Box, edge_boxes
from spikemorph.layers.margins import margins
from spikemorph.layers.multiply import Multiply
from spikemorph.train.graph_module import GraphModule

ROW = ((0, 0), (1, 0))


def whole(low: int, high: int, *shape: int, seed: int = 0) -> Tensor:
    return torch.randint(low, high + 1, shape, generator=torch.Generator().manual_seed(seed))


def around(x: Tensor, seed: int) -> Box:
    """A box of whole numbers that holds `x`."""
    below, above = (whole(0, 2, *x.shape, seed=seed + k) for k in range(2))
    return Box((x - below).double(), (x + above).double())


def within(box: Box, seed: int) -> Tensor:
    """Whole numbers in a box."""
    draws = torch.Generator().manual_seed(seed)
    share = torch.rand(box.lower.shape, generator=draws, dtype=torch.float64)
    return (box.lower + (share * (box.upper - box.lower + 1)).floor()).to(torch.int64)


def every_margin(logits: Tensor, labels: Tensor) -> Tensor:
    return logits.gather(1, labels[:, None]) - logits


@settings(max_examples=80, deadline=None, derandomize=True)
@given(drawn=integer_graphs(), seed=st.integers(0, 2**16))
def test_random_points_stay_inside_at_every_node(drawn: tuple[Graph, Tensor], seed: int) -> None:
    graph, x = drawn
    boxes = {node.name: box for node, box in edge_boxes(graph, around(x, seed))}
    labels = whole(0, 2, 4, seed=seed)
    least = margins(graph, boxes, labels)
    for k in range(6):
        point = within(boxes["x"], seed + k)
        for node, value in walk(graph, point, lambda n, *i: integer_compute(graph)(n, *i)):
            assert bool(boxes[node.name].holds(value).all()), node.name
        found = every_margin(run_integers(graph, point), labels)
        assert bool((found >= least).all())
    logits = boxes[graph.outputs[0]]
    apart = logits.lower.gather(1, labels[:, None]) - logits.upper
    own = torch.nn.functional.one_hot(labels, 3).bool()
    assert bool((least >= apart).all() and (least[own] == 0).all())


SMALL: dict[str, tuple[Op, tuple[tuple[int, ...], ...]]] = {
    "linear": (Linear(whole(-3, 3, 2, 3), whole(-5, 5, 2)), ((3,),)),
    "convolution": (Convolution(whole(-3, 3, 2, 1, 1, 2), whole(-5, 5, 2), ONE, ROW, ONE), ((1, 1, 3),)),
    "map": (Convolution(whole(-3, 3, 1, 1, 1, 2), whole(-5, 5, 1, 1, 2), ONE, NONE, ONE), ((1, 1, 3),)),
    "add": (Add((torch.tensor(-2), torch.tensor([[[3]], [[-1]]]))), ((2, 1, 1), (2, 1, 1))),
    "concat": (Concat(1), ((1,), (2,))),
    "multiply": (Multiply(), ((2, 1), (1, 2))),
    "max": (MaxPool((1, 2), ONE, NONE, ONE), ((1, 1, 3),)),
    "sum": (SumPool((1, 2), ONE, NONE), ((1, 1, 3),)),
    "scale": (ScaleShift(torch.tensor([2, -3, 0]), torch.tensor([1, 0, 5])), ((3,),)),
    "ladder": (Ladder(torch.tensor([[-2, 0, 1], [0, 0, 4], [9, 9, 9]]), -1, 2, Fraction(1)), ((3,),)),
    "readout": (Readout(torch.tensor([2, -1, 4]), Fraction(1)), ((3,),)),
}  # fmt: skip


@pytest.mark.parametrize("name", SMALL)
def test_a_row_is_what_all_points_make(name: str) -> None:
    """Every end is attained, and nothing passes it."""
    op, shapes = SMALL[name]
    sizes = [torch.Size(shape).numel() for shape in shapes]
    low = whole(-3, 1, sum(sizes), seed=4)
    high = low + whole(0, 2, sum(sizes), seed=5)
    points = torch.tensor(
        list(product(*(range(a, b + 1) for a, b in zip(low.tolist(), high.tolist(), strict=True))))
    )
    parts = [part.reshape(-1, *s) for part, s in zip(points.split(sizes, 1), shapes, strict=True)]
    made = on_integers[type(op)](op, *parts)
    ends = zip(low.split(sizes), high.split(sizes), shapes, strict=True)
    boxes = [Box(a.reshape(1, *s).double(), b.reshape(1, *s).double()) for a, b, s in ends]
    box = on_boxes[type(op)](op, *boxes)
    assert torch.equal(box.lower[0], made.amin(0).double())
    assert torch.equal(box.upper[0], made.amax(0).double())


def test_margins_of_one_linear_layer_are_exact() -> None:
    """What is linear at the end is one function: its worst point is a corner."""
    first, last = whole(-4, 4, 4, 3), whole(-4, 4, 3, 4, seed=1)
    nodes = (
        Node("x", Input((3,))),
        Node("a", Linear(first, whole(-4, 4, 4)), ("x",)),
        Node("b", Add((torch.tensor(2), torch.tensor(-1))), ("a", "a")),
        Node("c", Linear(last, None), ("b",)),
        Node("p", Softmax(1), ("c",)),
    )
    graph = Graph(nodes, ("x",), ("p",))
    box = Box(torch.tensor([[-1.0, 0, 2]]), torch.tensor([[1.0, 3, 4]])).to(torch.float64)
    corners = torch.cartesian_prod(*torch.stack([box.lower[0], box.upper[0]], 1))
    logits = run(Graph(nodes[:-1], ("x",), ("c",)), corners)
    boxes = {node.name: found for node, found in edge_boxes(Graph(nodes[:-1], ("x",), ("c",)), box)}
    for label in range(3):
        given = torch.tensor([label])
        wanted = every_margin(logits, given.expand(len(logits))).amin(0)
        assert torch.equal(margins(graph, boxes, given)[0], wanted)


def small_float() -> Graph:
    norm = BatchNorm(draw(2), draw(2, seed=1).abs() + 0.5, draw(2, seed=2), draw(2, seed=3), 1e-5)
    return Graph((
        Node("x", Input((1, 4, 4))),
        Node("c", Convolution(draw(2, 1, 3, 3, seed=4), draw(2, seed=5), ONE, (ONE, ONE), ONE), ("x",)),
        Node("n", norm, ("c",)),
        Node("r", ReLU(), ("n",)),
        Node("t", Tanh(), ("n",)),
        Node("m", Multiply(), ("r", "t")),
        Node("j", Concat(1), ("m", "r")),
        Node("a", AveragePool((2, 2), (2, 2), NONE, NONE, True), ("j",)),
        Node("g", GlobalAverage(), ("a",)),
        Node("f", Reshape((4,)), ("g",)),
        Node("y", Linear(draw(3, 4, seed=6), draw(3, seed=7)), ("f",)),
    ), ("x",), ("y",))  # fmt: skip


def test_boxes_of_reals_hold_and_let_gradients_through() -> None:
    graph, x = small_float(), draw(5, 1, 4, 4, seed=8).double()
    width = torch.full((), 0.3, dtype=torch.float64, requires_grad=True)
    boxes = {node.name: box for node, box in edge_boxes(graph, Box(x - width, x + width))}
    labels = torch.tensor([0, 1, 2, 0, 1])
    least = margins(graph, boxes, labels)
    for k in range(20):
        point = x + 0.3 * (2 * torch.rand(x.shape, generator=torch.Generator().manual_seed(k)) - 1)
        for node, value in walk(graph, point, lambda n, *i: n.op(*i)):
            grown = Box(boxes[node.name].lower - 1e-9, boxes[node.name].upper + 1e-9)
            assert bool(grown.holds(value).all()), node.name
        assert bool((every_margin(run(graph, point), labels) >= least - 1e-9).all())
    (slope,) = torch.autograd.grad(least.sum(), width)
    assert float(slope) < 0  # a wider box has smaller margins


def test_gradients_of_margins_reach_the_weights_at_the_end() -> None:
    weight = draw(3, 4).double().requires_grad_()
    graph = Graph((Node("x", Input((4,))), Node("y", Linear(weight, None), ("x",))), ("x",), ("y",))
    x = draw(2, 4, seed=1).double()
    boxes = {"x": Box(x - 0.1, x + 0.1)}
    labels = torch.tensor([2, 0])
    (slope,) = torch.autograd.grad(margins(graph, boxes, labels).sum(), weight)
    away = (weight[labels][:, None] - weight).sign()  # (sample, class, feature)
    wanted = torch.zeros_like(weight)
    for k, label in enumerate(labels.tolist()):
        wanted[label] += (x[k] - 0.1 * away[k]).sum(0)
        wanted -= x[k] - 0.1 * away[k]
    assert torch.allclose(slope, wanted)


def test_what_passes_no_boxes_is_refused_by_name() -> None:
    nodes = (Node("x", Input((3,))), Node("soft", Softmax(1), ("x",)))
    box = Box(torch.zeros(1, 3), torch.ones(1, 3))
    with pytest.raises(UnsupportedError, match="soft"):
        list(edge_boxes(Graph(nodes, ("x",), ("soft",)), box))
    with pytest.raises(GraphError, match=r"shape \(3,\).*\(4,\)"):
        list(edge_boxes(Graph(nodes[:1], ("x",), ("x",)), Box(torch.zeros(1, 4), torch.ones(1, 4))))


def test_margins_are_of_classes() -> None:
    graph = Graph((Node("x", Input((2, 2))), Node("r", ReLU(), ("x",))), ("x",), ("r",))
    with pytest.raises(GraphError, match="'r'.*classes"):
        margins(graph, {"r": Box(torch.zeros(1, 2, 2), torch.ones(1, 2, 2))}, torch.tensor([0]))


def test_a_module_s_boxes_are_of_what_it_has_learnt() -> None:
    """And of the weights as they are used, behind their transforms."""
    graph = small_float()
    module = GraphModule(graph, {"y": Halved()}).eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(1.5)
    x, labels = draw(3, 1, 4, 4, seed=8), torch.tensor([0, 1, 2])
    op = module.learnt()
    learnt = edge_boxes(
        graph, Box(x - 0.1, x + 0.1), lambda n, *b: on_boxes[type(n.op)](op(n.name, n), *b)
    )
    found = margins(graph, {n.name: b for n, b in learnt}, labels, lambda n, *i: op(n.name, n)(*i))
    frozen = module.to_graph()
    wanted = {n.name: b for n, b in edge_boxes(frozen, Box(x - 0.1, x + 0.1))}
    assert torch.allclose(found, margins(frozen, wanted, labels))
    found.sum().backward()
    assert all(p.grad is not None for p in module.parameters())


class Halved(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return weight / 2
