"""Train a network under quantisation, then convert it: what was trained is what runs."""

from torch import Tensor

from spikemorph.convert import canonical, certify, to_spiking
from spikemorph.graph import Graph
from spikemorph.graph.grid import Grid
from spikemorph.prune import Lesson
from spikemorph.prune.masked import learn_to_the_end
from spikemorph.quant import Quantisation
from spikemorph.quant.learning import QuantisedModule
from spikemorph.spiking import Coding, Neuron, Schedule

from .conversion import Conversion


def train_converted(
    graph: Graph,
    calibration: Tensor,
    lesson: Lesson,
    *,
    grid: Grid,
    quantisation: Quantisation,
    neuron: Neuron,
    coding: Coding,
    schedule: Schedule,
) -> Conversion:
    """As `convert_graph`, with weights, biases and steps trained by the lesson in between.

    Raises
    ------
    UnsupportedError
        Naming every node that cannot be trained so.
    """
    folded = canonical(graph)
    module = QuantisedModule(folded, calibration, grid, quantisation)
    learn_to_the_end(module, lesson)
    network = to_spiking(module.to_integers(), neuron, coding, schedule)
    return Conversion(folded, network, certify(network))
