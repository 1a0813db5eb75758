"""The whole way on one page: float graph in, certified spiking network out."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from spikemorph.convert import Certificate, canonical, certify, to_spiking
from spikemorph.graph import Graph, Input, InputError, Node
from spikemorph.graph.grid import Grid
from spikemorph.layers.affine import ScaleShift
from spikemorph.quant import Quantisation, RateCoding, rate_graph
from spikemorph.quant.integers import Quantised, quantised
from spikemorph.quant.prepare import relay_sums, require_neurons, split_analog
from spikemorph.spiking import AnalogFirstStep, Coding, Neuron, Schedule, SpikingNetwork
from spikemorph.spiking.coding import Constant
from spikemorph.spiking.neurons import pow2

_LEAST = 1e-30  # of a standard deviation: its reciprocal is a number
_FIRST = AnalogFirstStep()
_DEFAULT = pow2()


@dataclass(frozen=True)
class Conversion:
    """A spiking network, the float graph it stands for, and what is proved of it.

    `quantised` is how the integer network came about, None where it was trained or is rate-coded.
    """

    float_graph: Graph
    network: SpikingNetwork
    certificate: Certificate
    quantised: Quantised | None = None

    def notes(self, **more: Any) -> dict[str, Any]:
        """What is saved beside the network."""
        return {"certificate": self.certificate.to_dict(), **more}


def convert_graph(
    graph: Graph,
    calibration: Tensor,
    *,
    grid: Grid,
    quantisation: Quantisation,
    neuron: Neuron = _DEFAULT,
    coding: Coding = _FIRST,
    schedule: Schedule = Schedule.FREE,
) -> Conversion:
    """Fold, calibrate, quantise, choose neurons, certify.

    Parameters
    ----------
    graph : Graph
        A float graph, as a reader gives it.
    calibration : Tensor
        (sample, *shape) real inputs from training data, within the grid's range.
    grid : Grid
        The integers that inputs lie on.
    quantisation : Quantisation
        Levels, weight bits, calibrator.
    neuron, coding, schedule
        What runs in time.

    Raises
    ------
    InputError
        If calibration data is empty, out of range, or leaves a layer silent.
    UnsupportedError
        Naming every node that cannot be taken, or the last one where nothing would spike.
    """
    folded = canonical(graph)
    require_neurons(relay_sums(split_analog(folded)[0]))
    made = quantised(folded, calibration, grid, quantisation)
    network = to_spiking(made.graph, neuron, coding, schedule)
    return Conversion(folded, network, certify(network), made)


def convert_rate_coded(
    graph: Graph, calibration: Tensor, *, grid: Grid, rates: RateCoding, neuron: Neuron
) -> Conversion:
    """The classical conversion, to compare with: inputs at every step, rates read out. Not exact.

    Raises
    ------
    InputError
        If the neuron has no largest spike (a power-of-two neuron is not rate-coded), and as
        `convert_graph` does.
    """
    if neuron.up is None or neuron.down is None:
        raise InputError(f"a {neuron.name} neuron is not rate-coded: choose if, snm, bif or burst")
    folded = canonical(graph)
    network = to_spiking(rate_graph(folded, calibration, grid, rates), neuron, Constant())
    return Conversion(folded, network, certify(network))


def normalised(graph: Graph, mean: tuple[float, ...], std: tuple[float, ...]) -> Graph:
    """The graph behind ``(x - mean) / std`` per channel, so that it reads raw inputs.

    Their range is another than that of normalised inputs, so it is not declared.

    Raises
    ------
    InputError
        If the numbers do not fit the input's channels, or a deviation is not above zero.
    """
    shape = graph.entry.shape
    if len(mean) != len(std) or len(mean) not in (1, shape[0]):
        many = "1 number" if shape[0] == 1 else f"1 or {shape[0]} numbers"
        raise InputError(f"--mean and --std need {many} each, for so many channels")
    if any(s < _LEAST for s in std):
        raise InputError(f"--std {std}: deviations must be above zero")
    wide = (-1, *[1] * (len(shape) - 1))
    deviation = torch.tensor(std, dtype=torch.float64)
    shift = -torch.tensor(mean, dtype=torch.float64) / deviation
    scale = ScaleShift((1 / deviation).reshape(wide), shift.reshape(wide))
    entry = Node(graph.inputs[0], Input(shape))
    name = graph.fresh("normalisation")
    nodes = [entry, Node(name, scale, (entry.name,))]
    for node in graph.nodes:
        if node.name != entry.name:
            inputs = tuple(name if i == entry.name else i for i in node.inputs)
            nodes.append(Node(node.name, node.op, inputs))
    return graph.with_nodes(nodes)
