"""What lasts from element to element in a body: which registers remember by sums, and how finely."""

from fractions import Fraction

import torch
from torch import Tensor

from spikemorph.graph import Graph, Input, Node
from spikemorph.graph.graph import Register
from spikemorph.graph.traits import Fires, Weighted
from spikemorph.layers.activation import Relay

# The largest integer weight inside a linear memory: what is rounded there comes round again.
MEMORY_WEIGHT = 2**15 - 1


def lasting(body: Graph) -> set[str]:
    """The nodes whose values last, or leave: they have one unit for all that they hold."""
    return {*body.outputs, *(register.after for register in body.registers)}


def origins(body: Graph) -> dict[str, str]:
    """For every register, the node whose values it holds: what it takes, or what that register does.

    Raises
    ------
    OverflowError
        If registers only take each other.
    """
    taken = {register.name: register.after for register in body.registers}
    found = {}
    for name in taken:
        last = taken[name]
        for _ in taken:
            last = taken.get(last, last)
        if last in taken:
            raise OverflowError("registers that only take each other hold no activation")
        found[name] = last
    return found


def whole_start(register: Register, unit: Fraction, low: float, high: float) -> Tensor:
    """Where a register starts, in whole units of what it holds, float64."""
    return torch.floor(register.start.double() / float(unit) + 0.5).clamp(low, high)


def memories(body: Graph) -> dict[str, frozenset[str]]:
    """The nodes that remember by sums, each with the weighted nodes on its way to itself.

    Such a node reads the register that takes it through sums and products, without a neuron between:
    LSTM's cell, GRU's state, a linear memory.
    """
    found = {}
    for register in body.registers:
        after = body[register.after]
        if isinstance(after.op, Relay):  # others bend what they are given, which forgives
            behind = _behind(body, after)
            if register.name in behind:
                found[after.name] = frozenset(
                    name for name in behind if isinstance(body[name].op, Weighted)
                )
    return found


def _behind(body: Graph, node: Node) -> set[str]:
    """The nodes that one reads, and those behind them, up to neurons and inputs, these too."""
    found, waiting = set[str](), list(node.inputs)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += () if isinstance(body[name].op, Fires | Input) else body[name].inputs
    return found
