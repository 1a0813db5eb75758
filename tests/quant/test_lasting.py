"""What lasts in a body: which sums are remembered, and what is on their way."""

import torch

from spikemorph.graph import Graph, Input, Node
from spikemorph.graph.graph import Register
from spikemorph.layers.activation import Relay, Tanh
from spikemorph.layers.joining import Add
from spikemorph.layers.linear import Linear
from spikemorph.quant.lasting import memories

ONES = Add((torch.tensor(1.0), torch.tensor(1.0)))


def body(*middle: Node, last: str) -> Graph:
    """A state that takes what a relay makes of `last`; it and the input are read in the middle."""
    entries = (Node("x", Input((2,))), Node("m", Input((2,))))
    nodes = (*entries, *middle, Node("kept", Relay(), (last,)))
    return Graph(nodes, ("x",), ("kept",), (Register("m", torch.zeros(2), "kept"),))


def test_a_sum_is_remembered_where_no_neuron_is_on_its_way() -> None:
    weights = {name: Linear(torch.eye(2), None) for name in ("a", "b")}
    both = Node("sum", ONES, ("a", "b"))
    linear = body(
        Node("a", weights["a"], ("m",)), Node("b", weights["b"], ("x",)), both, last="sum"
    )
    assert memories(linear) == {"kept": frozenset({"a", "b"})}
    bent = body(
        Node("a", weights["a"], ("m",)), Node("bend", Tanh(), ("a",)),
        Node("b", weights["b"], ("x",)), Node("sum", ONES, ("bend", "b")), last="sum",
    )  # fmt: skip
    assert memories(bent) == {}


def test_a_node_is_looked_at_once_however_many_ways_lead_to_it() -> None:
    """Forty sums of a node with itself: a million million ways, forty nodes."""
    doubled = [Node("s0", ONES, ("m", "m"))]
    doubled += [Node(f"s{k}", ONES, (f"s{k - 1}", f"s{k - 1}")) for k in range(1, 40)]
    assert memories(body(*doubled, last="s39")) == {"kept": frozenset()}
