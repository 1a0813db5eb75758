"""Every canonical pass keeps what the network computes, alone and after the passes before it."""

import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from spikemorph.convert.canonical import (
    PASSES,
    activate_early,
    canonical,
    drop_dead,
    drop_idle,
    join_transposes,
    open_scales,
    settle_constants,
)
from spikemorph.graph import Graph, Input, Node, Op, run
from spikemorph.graph.interpret import shapes
from spikemorph.layers.activation import Clip, LeakyReLU, ReLU, Sigmoid
from spikemorph.layers.affine import ScaleShift
from spikemorph.layers.convolution import Convolution
from spikemorph.layers.joining import Add, Concat
from spikemorph.layers.linear import Linear
from spikemorph.layers.normalisation import BatchNorm
from spikemorph.layers.pooling import AveragePool, GlobalAverage, GlobalMax, MaxPool, SumPool
from spikemorph.layers.shape import Identity, Pad, Reshape, Transpose
from spikemorph.layers.slicing import Narrow
from spikemorph.layers.windows import overhang

BOUND = 1e-5
SEEDS = range(60)


class Drawing:
    """Draws small networks: any layer after any other, in one to three dimensions."""

    def __init__(self, seed: int) -> None:
        self.choose = random.Random(seed)
        self.random = torch.Generator().manual_seed(seed)
        self.nodes: list[Node] = []

    def numbers(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self.random)

    def add(self, op: Op, *inputs: str) -> str:
        name = f"n{len(self.nodes)}"
        self.nodes.append(Node(name, op, inputs))
        return name

    def shape(self, name: str) -> tuple[int, ...]:
        return shapes(Graph(tuple(self.nodes), ("n0",), (name,)))[name]

    def pairs(self, axes: int, most: int) -> tuple[tuple[int, int], ...]:
        draw = self.choose.randint
        return tuple((draw(0, most), draw(0, most)) for _ in range(axes))

    def convolution(self, source: str) -> str:
        channels, *size = self.shape(source)
        axes = len(size)
        groups = self.choose.choice([g for g in (1, 2, 3) if channels % g == 0])
        out = groups * self.choose.randint(1, 3)
        kernel = [self.choose.randint(1, 3) for _ in size]
        bias = self.numbers(out) if self.choose.random() < 0.5 else None
        op = Convolution(
            self.numbers(out, channels // groups, *kernel), bias,
            tuple(self.choose.randint(1, 2) for _ in size), self.pairs(axes, 2),
            tuple(self.choose.randint(1, 2) for _ in size), groups,
        )  # fmt: skip
        return self.add(op, source)

    def norm(self, source: str) -> str:
        channels = self.shape(source)[0]
        mean, gain, shift = (self.numbers(channels) for _ in range(3))
        return self.add(BatchNorm(mean, self.numbers(channels) ** 2, gain, shift, 1e-3), source)

    def scale(self, source: str) -> str:
        """A constant scale and shift: for all, per channel, or per element."""
        full = self.shape(source)
        wide = (full[0], *[1] * (len(full) - 1))
        gain, shift = (self.choose.choice([(), (), wide, full]) for _ in range(2))
        return self.add(ScaleShift(self.numbers(*gain), self.numbers(*shift)), source)

    def max_pool(self, source: str) -> str:
        axes = len(self.shape(source)) - 1
        return self.add(MaxPool((2,) * axes, (2,) * axes, self.pairs(axes, 1), (1,) * axes), source)

    def average(self, source: str) -> str:
        """With ceil mode, and with padding counted or not."""
        size = self.shape(source)[1:]
        axes = len(size)
        kernel, stride, pads = (3,) * axes, (2,) * axes, self.pairs(axes, 1)
        beyond = overhang(size, kernel, stride, (1,) * axes, pads)
        return self.add(
            AveragePool(kernel, stride, pads, beyond, self.choose.random() < 0.5), source
        )

    def activation(self, source: str) -> str:
        op = self.choose.choice([ReLU(), ReLU(), LeakyReLU(0.3), Clip(-0.5, 2.0), Sigmoid()])
        return self.add(op, source)

    def moved(self, source: str) -> str:
        """Something that only moves numbers, or nothing."""
        shape = self.shape(source)
        channels = shape[0]
        order = (0, 1, *range(len(shape), 1, -1))
        pad = Pad(self.pairs(len(shape) - 1, 1))
        some = Narrow(1, channels // 2, channels - channels // 2)
        op = self.choose.choice([Identity(), Transpose(order), pad, some])
        return self.add(op, source)

    def over_positions(self, source: str) -> str:
        size, bias = self.shape(source)[-1], self.choose.choice([None, self.numbers(6)])
        return self.add(Linear(self.numbers(6, size), bias), source)

    def branches(self, source: str) -> str:
        """Two or three paths with scales of their own, concatenated or added."""
        steps = [self.scale, self.norm, self.activation]
        ends = [self.choose.choice(steps)(self.choose.choice(steps)(source)) for _ in range(2)]
        if self.choose.random() < 0.5:
            return self.add(Concat(1), *ends, source)
        factors = tuple(torch.tensor(self.choose.choice([1.0, -0.5])) for _ in ends)
        return self.add(Add(factors), *ends)

    def head(self, source: str) -> str:
        pool = self.choose.choice([GlobalAverage(), GlobalMax(), Identity()])
        name = self.add(pool, source)
        name = self.scale(name) if self.choose.random() < 0.5 else name
        features = torch.Size(self.shape(name)).numel()
        name = self.add(Reshape((features,)), name)
        name = self.norm(name) if self.choose.random() < 0.5 else name
        return self.add(Linear(self.numbers(4, features), self.numbers(4)), name)

    def network(self) -> Graph:
        axes = self.choose.choice([1, 2, 2, 3])
        name = self.add(Input((self.choose.choice([2, 3, 6]), *[14, 11, 9][:axes])))
        steps: list[Callable[[str], str]] = [
            self.convolution, self.convolution, self.norm, self.norm, self.scale, self.max_pool,
            self.average, self.activation, self.activation, self.moved, self.branches,
            self.over_positions,
        ]  # fmt: skip
        for _ in range(self.choose.randint(3, 8)):
            if min(self.shape(name)[1:]) >= 5:
                name = self.choose.choice(steps)(name)
        self.add(ReLU(), name)  # dead
        last = self.head(name)
        return Graph(tuple(self.nodes), ("n0",), (last,))


def difference(left: Graph, right: Graph, seed: int) -> float:
    """The largest difference of outputs over the largest output, in double precision."""
    entry: Any = left[left.inputs[0]].op
    x = torch.randn(3, *entry.shape, generator=torch.Generator().manual_seed(seed)).double()
    want = run(left, x)
    return float((run(right, x) - want).abs().max() / want.abs().max().clamp(min=1e-12))


@pytest.mark.parametrize("seed", SEEDS)
def test_passes_keep_the_outputs(seed: int) -> None:
    """Each pass alone, then all in turn, on a random network."""
    graph = turned = Drawing(seed).network()
    for change in PASSES:
        assert difference(graph, change(graph), seed) <= BOUND, change.__name__
        changed = change(turned)
        assert difference(turned, changed, seed) <= BOUND, change.__name__
        turned = changed
    assert difference(graph, turned, seed) <= BOUND


@pytest.mark.parametrize("seed", SEEDS)
def test_the_canonical_form_is_final(seed: int) -> None:
    """No batch norm, average or idle node is left; a second time nothing changes."""
    graph = canonical(Drawing(seed).network())
    kinds = {type(node.op) for node in graph.nodes}
    assert not kinds & {BatchNorm, AveragePool, GlobalAverage, Identity}
    again = canonical(graph)
    assert [(n.name, n.inputs) for n in again.nodes] == [(n.name, n.inputs) for n in graph.nodes]
    assert all(a.op is b.op for a, b in zip(again.nodes, graph.nodes, strict=True))
    reached = {name for node in graph.nodes for name in node.inputs}
    assert reached | set(graph.outputs) == {node.name for node in graph.nodes}


def line(*ops: Op) -> Graph:
    nodes = [Node(f"n{k}", op, (f"n{k - 1}",) if k else ()) for k, op in enumerate(ops)]
    return Graph(tuple(nodes), ("n0",), (nodes[-1].name,))


def kinds(graph: Graph) -> list[str]:
    return [type(node.op).__name__ for node in graph.nodes]


def conv(*shape: int, pad: int = 0) -> Convolution:
    axes = len(shape) - 2
    ones = (1,) * axes
    return Convolution(torch.randn(shape), torch.randn(shape[0]), ones, ((pad, pad),) * axes, ones)


def norm(channels: int, *, rising: bool = False) -> BatchNorm:
    gain = torch.linspace(-1, 2, channels) + 0.1
    mean, shift = torch.randn(2, channels)
    return BatchNorm(mean, torch.rand(channels) + 0.1, gain.abs() if rising else gain, shift, 1e-5)


RGB = Input((3, 8, 8))
MAX = MaxPool((2, 2), (2, 2), ((0, 0), (0, 0)), (1, 1))
AVERAGE = AveragePool((2, 2), (2, 2), ((0, 0), (0, 0)), ((0, 0), (0, 0)), True)
FOLDED: dict[str, tuple[tuple[Op, ...], str]] = {
    "norm before relu": ((RGB, conv(4, 3, 3, 3), norm(4), ReLU()), "Convolution ReLU"),
    "norm after relu": (
        (RGB, conv(4, 3, 3, 3), ReLU(), norm(4), conv(2, 4, 3, 3, pad=1)),
        "Convolution ReLU Convolution"),
    "norm after max-pool": (
        (RGB, conv(4, 3, 3, 3), ReLU(), MAX, norm(4), conv(2, 4, 3, 3, pad=1)),
        "Convolution ReLU MaxPool Convolution"),
    "norm before max-pool": (
        (RGB, ReLU(), norm(3, rising=True), MAX, conv(2, 3, 3, 3)), "ReLU MaxPool Convolution"),
    "norm between pool and relu": (
        (RGB, conv(4, 3, 3, 3), MAX, norm(4, rising=True), ReLU()), "Convolution ReLU MaxPool"),
    "norm at the entry": ((RGB, norm(3), conv(4, 3, 3, 3, pad=2), ReLU()), "Convolution ReLU"),
    "norm before average": (
        (RGB, ReLU(), norm(3), AVERAGE, conv(4, 3, 3, 3)), "ReLU SumPool Convolution"),
    "average before flattening": (
        (RGB, ReLU(), AVERAGE, Reshape((48,)), Linear(torch.randn(5, 48), None)),
        "ReLU SumPool Reshape Linear"),
    "norm of features": (
        (Input((5,)), Linear(torch.randn(4, 5), None), norm(4), ReLU()), "Linear ReLU"),
    "bias over positions": (
        (Input((3, 5)), Linear(torch.randn(4, 5), None),
         ScaleShift(torch.tensor(1.0), torch.randn(1, 4))), "Transpose Convolution Transpose"),
    "idle": ((RGB, Identity(), Identity(), ReLU(), Identity()), "ReLU"),
    "sums in two max-pools": (
        (RGB, conv(4, 3, 3, 3), MAX, MAX, Sigmoid()), "Convolution Sigmoid MaxPool MaxPool"),
}  # fmt: skip


@pytest.mark.parametrize("name", FOLDED)
def test_what_is_folded(name: str) -> None:
    """The ops that are left, and the same outputs."""
    ops, left = FOLDED[name]
    graph = line(*ops)
    form = canonical(graph)
    assert kinds(form) == ["Input", *left.split()]
    assert difference(graph, form, 0) <= 1e-9


def test_zero_padding_after_normalisation_makes_a_bias_map() -> None:
    """Padding hides the shift: at the border the bias differs, inside it does not.

    Weight 1 at all nine taps, x -> x + 1: inside nine taps see the shift, at a corner four.
    """
    ones = torch.ones(1, 1, 3, 3)
    op = Convolution(ones, None, (1, 1), ((1, 1), (1, 1)), (1, 1))
    shift = ScaleShift(torch.tensor(2.0), torch.tensor(1.0))
    form = canonical(line(Input((1, 4, 4)), shift, op))
    folded: Any = form.nodes[1].op
    assert kinds(form) == ["Input", "Convolution"]
    assert torch.equal(folded.weight, 2 * ones.double())
    edge, row = [4.0, 6.0, 6.0, 4.0], [6.0, 9.0, 9.0, 6.0]
    assert folded.bias[0].tolist() == [edge, row, row, edge]


def test_a_falling_scale_does_not_cross_a_maximum() -> None:
    graph = canonical(line(RGB, ReLU(), norm(3), MAX, conv(2, 3, 3, 3)))
    assert kinds(graph) == ["Input", "ReLU", "ScaleShift", "MaxPool", "Convolution"]


def test_a_scale_that_others_read_stays() -> None:
    """The sum reads the scaled value, so the convolution must too."""
    nodes = (
        Node("x", Input((3, 8, 8))),
        Node("s", ScaleShift(torch.tensor(2.0), torch.tensor(1.0)), ("x",)),
        Node("c", conv(3, 3, 1, 1), ("s",)),
        Node("y", Add((torch.tensor(1.0), torch.tensor(1.0))), ("s", "c")),
    )
    graph = Graph(nodes, ("x",), ("y",))
    form = canonical(graph)
    assert "ScaleShift" in kinds(form)
    assert difference(graph, form, 0) <= 1e-9


def test_a_scale_that_leaves_the_network_stays() -> None:
    """It is an output, so the convolution behind it must not take it away."""
    nodes = (
        Node("x", Input((3, 8, 8))),
        Node("s", ScaleShift(torch.tensor(2.0), torch.tensor(1.0)), ("x",)),
        Node("c", conv(3, 3, 1, 1), ("s",)),
    )
    form = canonical(Graph(nodes, ("x",), ("s", "c")))
    assert kinds(form) == ["Input", "ScaleShift", "Convolution"]


def test_a_norm_after_a_pool_whose_source_others_read_stays() -> None:
    """Folded into the convolution it would change what the other reader sees."""
    nodes = (
        Node("x", Input((3, 8, 8))),
        Node("c", conv(4, 3, 1, 1), ("x",)),
        Node("p", MAX, ("c",)),
        Node("n", norm(4, rising=True), ("p",)),
        Node("q", MAX, ("c",)),
        Node("y", Add((torch.tensor(1.0), torch.tensor(1.0))), ("n", "q")),
    )
    graph = Graph(nodes, ("x",), ("y",))
    form = canonical(graph)
    assert kinds(form) == ["Input", "Convolution", "MaxPool", "ScaleShift", "MaxPool", "Add"]
    assert difference(graph, form, 0) <= 1e-9


def test_scales_of_concatenated_branches_fold_into_the_next_layer() -> None:
    nodes = (
        Node("x", Input((2, 6, 6))),
        Node("a", ReLU(), ("x",)),
        Node("an", norm(2), ("a",)),
        Node("b", Sigmoid(), ("x",)),
        Node("bp", AveragePool((3, 3), (1, 1), ((1, 1), (1, 1)), ((0, 0), (0, 0)), True), ("b",)),
        Node("j", Concat(1), ("an", "bp", "a")),
        Node("y", conv(3, 6, 3, 3, pad=1), ("j",)),
    )
    graph = Graph(nodes, ("x",), ("y",))
    form = canonical(graph)
    assert kinds(form) == ["Input", "ReLU", "Sigmoid", "SumPool", "Concat", "Convolution"]
    assert difference(graph, form, 0) <= 1e-9


def test_passes_do_one_thing_each() -> None:
    graph = line(RGB, Identity(), norm(3), AVERAGE, ReLU())
    assert kinds(drop_idle(graph)) == ["Input", "BatchNorm", "AveragePool", "ReLU"]
    assert kinds(open_scales(graph))[2:5] == ["ScaleShift", "SumPool", "ScaleShift"]
    dead = Graph((*graph.nodes, Node("dead", ReLU(), ("n1",))), ("n0",), ("n4",))
    assert kinds(drop_dead(dead)) == kinds(graph)
    pooled = line(RGB, conv(2, 3, 1, 1), MAX, ReLU())
    assert kinds(activate_early(pooled)) == ["Input", "Convolution", "ReLU", "MaxPool"]


def test_average_with_one_row_is_not_taken_for_channels() -> None:
    """Counts of shape (size, 1) are per position, not per channel."""
    op = AveragePool((3, 1), (1, 1), ((1, 1), (0, 0)), ((0, 0), (0, 0)), False)
    graph = line(Input((3, 3, 1)), ReLU(), op, conv(2, 3, 1, 1))
    form = canonical(graph)
    assert difference(graph, form, 0) <= 1e-9
    assert SumPool in {type(node.op) for node in form.nodes}


def test_activations_and_channels_meet_on_axis_one() -> None:
    """Linear layers over positions: no transpose is left between them, and ReLUs see channels."""
    graph = line(
        Input((7, 3)), Linear(torch.randn(5, 3), torch.randn(5)), ReLU(),
        Linear(torch.randn(4, 5), torch.randn(4)), ReLU(), Transpose((0, 2, 1)), conv(2, 4, 3),
    )  # fmt: skip
    form = canonical(graph)
    assert kinds(form) == ["Input", "Transpose", *["Convolution", "ReLU"] * 2, "Convolution"]
    assert difference(graph, form, 0) <= 1e-9


def test_a_transpose_that_others_read_stays() -> None:
    turn = Transpose((0, 2, 1))
    nodes = (
        Node("x", Input((3, 3))),
        Node("a", turn, ("x",)),
        Node("b", turn, ("a",)),
        Node("y", Add((torch.tensor(1.0), torch.tensor(1.0))), ("a", "b")),
    )
    graph = Graph(nodes, ("x",), ("y",))
    form = join_transposes(graph)
    assert kinds(form) == ["Input", "Transpose", "Add"]
    assert form["y"].inputs == ("a", "x")
    assert difference(graph, form, 0) == 0


@pytest.mark.parametrize("pool", [Identity(), MAX, AVERAGE])
def test_constant_channels_go_into_the_biases_behind(pool: Op) -> None:
    """Two channels without weights, one above zero and one below, and a norm that makes them loud."""
    torch.manual_seed(0)
    first = conv(4, 3, 3, 3)
    first.weight[1:3] = 0
    assert first.bias is not None
    first.bias[1], first.bias[2] = 2.5, -1.0
    graph = line(RGB, first, ReLU(), pool, norm(4), conv(2, 4, 3, 3, pad=1))
    form = canonical(graph)
    settled, last = (n.op for n in form.nodes if isinstance(n.op, Convolution))
    assert difference(graph, form, 0) <= 1e-9
    assert settled.bias is not None and settled.bias[1] == 0
    assert not last.weight[:, 1].any() and last.weight[:, 0].any() and last.weight[:, 3].any()
    assert [n.name for n in form.nodes][:3] == ["n0", "n1", "n2"]
    again = canonical(form)
    assert all(a.op is b.op for a, b in zip(again.nodes, form.nodes, strict=True))


def test_a_constant_that_a_sum_reads_stays() -> None:
    """Nothing behind it could take it over."""
    first = conv(3, 3, 1, 1)
    first.weight[1] = 0
    nodes = (
        Node("x", RGB),
        Node("c", first, ("x",)),
        Node("r", Sigmoid(), ("c",)),
        Node("y", Add((torch.tensor(1.0), torch.tensor(1.0))), ("r", "x")),
    )
    graph = Graph(nodes, ("x",), ("y",))
    assert settle_constants(graph) is graph
