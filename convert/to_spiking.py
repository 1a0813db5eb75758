"""Give every ladder of an integer graph a neuron."""

from dataclasses import replace

from spikemorph.graph import Graph, InputError
from spikemorph.graph.errors import Setting
from spikemorph.graph.nested import nested_nodes, recurs
from spikemorph.layers.ladder import Ladder
from spikemorph.spiking import AnalogFirstStep, Coding, Neuron, Schedule, SpikingNetwork
from spikemorph.spiking.network import Carry
from spikemorph.spiking.neurons import Alphabet, pow2

DEFAULT = pow2()
_FIRST = AnalogFirstStep()


def to_spiking(
    graph: Graph,
    neuron: Neuron = DEFAULT,
    coding: Coding = _FIRST,
    schedule: Schedule = Schedule.FREE,
    carry: Carry = Carry.RESET,
) -> SpikingNetwork:
    """The spiking network of an integer graph (`spikemorph.quant.quantise_graph`).

    A few-spikes neuron gets the word length its ladder needs. `carry` says what recurrent layers keep
    between elements.

    Raises
    ------
    GraphError
        If the graph is not an integer graph.
    InputError
        If something is to be carried, and no layer is recurrent.
    """
    if carry is not Carry.RESET and not recurs(graph):
        raise InputError(
            "no layer is recurrent, so nothing is carried from element to element",
            where=Setting("carry", carry.name.lower()),
        )
    chosen = []
    for name, node in nested_nodes(graph):
        if isinstance(node.op, Ladder):
            own = neuron
            if neuron.alphabet is Alphabet.DESCENDING and node.op.smax is not None:
                own = replace(neuron, bits=node.op.smax.bit_length())
            chosen.append((name, own))
    return SpikingNetwork(graph, tuple(chosen), coding, schedule, carry)
