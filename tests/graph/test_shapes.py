"""Shapes are worked out on no data, once for an op and what it reads."""

from dataclasses import dataclass

import pytest
from torch import Tensor

from spikemorph.graph import Graph, GraphError, Input, Node, Op
from spikemorph.graph.interpret import shapes
from spikemorph.graph.records import tensors_in

ASKED: list[tuple[int, ...]] = []


@dataclass(frozen=True, eq=False)
class Halved(Op):
    """The first half of every sample; notes whom it was asked for."""

    def __call__(self, x: Tensor) -> Tensor:
        ASKED.append(tuple(x.shape[1:]))
        if x.shape[1] % 2:
            raise RuntimeError("an odd number has no half")
        return x[:, : x.shape[1] // 2]


def halved(size: int, op: Op) -> Graph:
    nodes = (Node("x", Input((size,))), Node("a", op, ("x",)), Node("b", op, ("a",)))
    return Graph(nodes, ("x",), ("b",))


def test_graphs_that_share_an_op_ask_it_once_for_a_shape() -> None:
    ASKED.clear()
    op = Halved()
    for _ in range(3):
        assert shapes(halved(8, op)) == {"x": (8,), "a": (4,), "b": (2,)}
    assert ASKED == [(8,), (4,)]
    assert shapes(halved(4, op))["b"] == (1,)
    assert ASKED == [(8,), (4,), (2,)]
    assert tensors_in(op) == []


def test_what_was_refused_once_is_refused_again() -> None:
    op = Halved()
    for _ in range(2):
        with pytest.raises(GraphError, match="'b'.*an odd number has no half"):
            shapes(halved(6, op))
