"""Weights from 1e-40 to 1e40, anywhere: conversion succeeds, or its error names a node.

Held by these tests: no check of calibration for finite numbers (infinite ratios), none of whole
numbers for 62 bits (a bias that wraps around), rungs that are not cut at the ends, a unit of zero.
"""

from dataclasses import replace
from fractions import Fraction

import pytest
import torch
from helpers import draw
from hypothesis import given, settings
from hypothesis import strategies as st

from spikemorph.conversion import convert_graph
from spikemorph.graph import Graph, Input, Node, SpikemorphError
from spikemorph.graph.grid import Grid
from spikemorph.layers.activation import Activation, Clip, LeakyReLU, ReLU, Sigmoid
from spikemorph.layers.convolution import Convolution
from spikemorph.layers.joining import Add
from spikemorph.layers.linear import Linear
from spikemorph.layers.normalisation import BatchNorm
from spikemorph.layers.pooling import GlobalAverage, MaxPool
from spikemorph.layers.shape import Reshape
from spikemorph.quant import Quantisation
from spikemorph.quant.scales import narrow

X = draw(6, 1, 4, 4).abs().clamp(max=1)
NONE = ((0, 0), (0, 0))


def network(last: Activation, *, joins: bool) -> Graph:
    """Two convolutions with batch norms, a residual sum, a pool and a linear layer."""
    ones = torch.ones(2)
    norm = BatchNorm(draw(2) / 9, ones, ones, draw(2) / 9, 1e-5)
    near = ((1, 1), (1, 1))
    nodes = [
        Node("x", Input((1, 4, 4))),
        Node("c1", Convolution(draw(2, 1, 3, 3), draw(2), (1, 1), near, (1, 1)), ("x",)),
        Node("b1", norm, ("c1",)),
        Node("r1", ReLU(), ("b1",)),
        Node("b2", norm, ("r1",)),
        Node("c2", Convolution(draw(2, 2, 3, 3), draw(2), (1, 1), near, (1, 1)), ("b2",)),
        Node("s", Add((torch.tensor(1.0),) * 2), ("c2", "r1" if joins else "c2")),
        Node("m", MaxPool((2, 2), (1, 1), NONE, (1, 1)), ("s",)),
        Node("r2", last, ("m",)),
        Node("g", GlobalAverage(), ("r2",)),
        Node("f", Reshape((2,)), ("g",)),
        Node("l", Linear(draw(3, 2), draw(3)), ("f",)),
    ]
    return Graph(tuple(nodes), ("x",), ("l",))


def names(graph: Graph, text: str) -> bool:
    """Whether a node is named; the last one of an integer graph is none of the float graph."""
    return any(f"'{name}" in text for name in ("readout", *(node.name for node in graph.nodes)))


FIELDS = [
    (node, field)
    for node, fields in {
        "c1": ("weight", "bias"), "c2": ("weight", "bias"), "l": ("weight", "bias"),
        "b1": ("gain", "shift", "mean", "variance"), "b2": ("gain", "shift", "mean", "variance"),
    }.items()
    for field in fields
]  # fmt: skip


@settings(max_examples=120, deadline=None)
@given(
    st.sampled_from([ReLU(), Clip(0.0, 6.0), LeakyReLU(0.1), Sigmoid()]), st.booleans(),
    st.lists(st.tuples(st.sampled_from(FIELDS), st.sampled_from([None, 0, 1]),
                       st.integers(-40, 40)), min_size=1, max_size=3),
)  # fmt: skip
def test_weights_of_any_size_convert_or_name_their_node(
    last: Activation, joins: bool, changes: list[tuple[tuple[str, str], int | None, int]]
) -> None:
    graph = network(last, joins=joins)
    for (name, field), channel, power in changes:
        op = graph[name].op
        value = getattr(op, field).double()
        rows = slice(None) if channel is None else slice(channel, channel + 1)
        value[rows] *= 10.0**power
        changed = replace(op, **{field: value.float()})
        graph = graph.map(lambda n, a=name, c=changed: replace(n, op=c) if n.name == a else n)
    try:
        convert_graph(graph, X, grid=Grid.of(0, 1), quantisation=Quantisation())
    except SpikemorphError as error:
        assert names(graph, str(error)), error


@pytest.mark.parametrize(("name", "field", "value"), [
    ("c1", "weight", float("inf")), ("c1", "bias", float("nan")), ("c1", "bias", 1e16),
    ("c1", "weight", 1e-16), ("c1", "weight", 0.0), ("l", "bias", 1e30), ("b1", "variance", 0.0),
    ("b1", "variance", -1.0), ("b1", "gain", 0.0), ("b2", "gain", 1e38),
])  # fmt: skip
def test_one_odd_number_converts_or_names_a_node(name: str, field: str, value: float) -> None:
    graph = network(ReLU(), joins=True)
    odd = getattr(graph[name].op, field).clone()
    odd.view(-1)[0] = value
    op = replace(graph[name].op, **{field: odd})
    graph = graph.map(lambda n: replace(n, op=op) if n.name == name else n)
    try:
        made = convert_graph(graph, X, grid=Grid.of(0, 1), quantisation=Quantisation())
    except SpikemorphError as error:
        assert names(graph, str(error)), error
    else:
        assert abs(value) < 1e30 and value != -1
        assert made.certificate.level == "A" or made.certificate.refusals


def test_no_integer_wraps_around() -> None:
    """A bias of 2**63 units is refused, where it became -2**63 before."""
    assert narrow(torch.tensor([2.0**62], dtype=torch.float64)).item() == 2**62
    for number in (2.0**63, -(2.0**63), float("inf"), float("nan")):
        with pytest.raises(OverflowError):
            narrow(torch.tensor([number], dtype=torch.float64))
    assert Fraction(narrow(torch.tensor([1.9])).item()) == 1
