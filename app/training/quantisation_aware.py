"""Train a network under quantisation, then convert it: what was trained is what runs."""

import torch
from torch import Tensor

from spikemorph.convert import canonical, certify, to_spiking
from spikemorph.graph import Graph, GraphError
from spikemorph.graph.grid import Grid
from spikemorph.layers.masks import broken_masks, masks_of
from spikemorph.prune import Lesson
from spikemorph.prune.masked import learn_to_the_end
from spikemorph.quant import Quantisation
from spikemorph.quant.learning import QuantisedModule
from spikemorph.spiking import Coding, Neuron, Schedule
from spikemorph.spiking.network import Carry

from ..conversion import Conversion
from .settings import meant_for


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
    carry: Carry = Carry.RESET,
) -> Conversion:
    """As `convert_graph`, with weights, biases and steps trained by the lesson in between.

    Raises
    ------
    UnsupportedError
        Naming every node that cannot be trained so.
    GraphError
        If a mask was not kept.
    """
    folded = canonical(graph)
    module = QuantisedModule(folded, calibration, grid, quantisation)
    learn_to_the_end(module, meant_for(lesson, f"quantised, {grid}, {quantisation}"))
    integer = module.to_integers()
    if broken := [*broken_masks(integer), *_moved(folded, integer)]:
        raise GraphError("; ".join([*broken, "the masks were not kept: this is a defect"]))
    network = to_spiking(integer, neuron, coding, schedule, carry)
    return Conversion(folded, network, certify(network))


def _moved(before: Graph, after: Graph) -> list[str]:
    """One line for every node whose mask is not bit for bit what it was."""
    masks = masks_of(after)
    return [
        f"node {name!r}: its mask moved"
        for name, mask in masks_of(before).items()
        if name not in masks or not torch.equal(mask, masks[name])
    ]
