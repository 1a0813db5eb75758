"""What lasts from element to element in a body: which registers remember by sums, and how finely."""

from collections.abc import Iterable

from spikemorph.graph import Graph, Input
from spikemorph.graph.traits import Fires, Weighted
from spikemorph.layers.activation import Relay

MEMORY_WEIGHT = (
    2**15 - 1
)  # the largest integer weight inside a linear memory: errors come round again


def lasting(body: Graph) -> set[str]:
    """The nodes whose values last, or leave: they have one unit for all that they hold."""
    return {*body.outputs, *(register.after for register in body.registers)}


def memories(body: Graph) -> dict[str, frozenset[str]]:
    """The nodes that remember by sums, each with the weighted nodes on its way to itself.

    Such a node reads the register that takes it through sums and products, without a neuron between:
    LSTM's cell, GRU's state, a linear memory.
    """
    found = {}
    for register in body.registers:
        after = body[register.after]
        if isinstance(after.op, Relay):  # others bend what they are given, which forgives
            behind = set(_behind(body, after.inputs))
            if register.name in behind:
                found[after.name] = frozenset(
                    name for name in behind if isinstance(body[name].op, Weighted)
                )
    return found


def _behind(body: Graph, names: Iterable[str]) -> Iterable[str]:
    """Nodes that some read, and those behind them, up to neurons and inputs, these too."""
    for name in names:
        yield name
        if not isinstance(body[name].op, Fires | Input):
            yield from _behind(body, body[name].inputs)
