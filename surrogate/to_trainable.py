"""A sparse float network becomes a spiking one that can be trained, and keeps its connections.

Schmolli et al., CPAL 2025 (arXiv 2505.15833), algorithm 1: weights and batch norms are copied, ReLUs
become neurons, thresholds are calibrated (`thresholds`); then all of it is trained through time, but
for the connections: gradients are masked before momentum and decay see them.
"""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from spikemorph.graph import Graph, GraphError, Node
from spikemorph.graph.traits import Weighted
from spikemorph.layers.masks import masks_of, weight_of, weighted_nodes
from spikemorph.train.loop import EpochRecord
from spikemorph.train.masked import Masked, check_masks, zero_outside

from .gradients import Backward, PiecewiseLinear
from .module import SpikingModule
from .neuron import Dynamics
from .thresholds import Calibration, calibrate


def to_trainable(
    graph: Graph,
    dynamics: Dynamics,
    x: Tensor,
    calibration: Calibration = Calibration(),  # noqa: B008  a frozen value
    *,
    surrogate: Backward = PiecewiseLinear(1.0),  # noqa: B008  a frozen value
) -> SpikingModule:
    """The network as a spiking module, calibrated, whose connections training keeps.

    Parameters
    ----------
    graph : Graph
        A float graph, batch norms not folded, with masks or zero weights where it was pruned.
    dynamics : Dynamics
        Of all neurons.
    x : Tensor
        (sample, *input shape), training samples to calibrate with; the module lies on their device.
    calibration : Calibration
        How thresholds are found.
    surrogate : Backward
        How gradients pass spikes in training.

    Returns
    -------
    SpikingModule
        In evaluation mode.

    Raises
    ------
    GraphError, UnsupportedError
        As `SpikingModule` and `calibrate`.
    InputError
        If there are no samples.
    """
    masks = connections(graph)
    sparse = graph.map(lambda node: _with_mask(node, masks.get(node.name)))
    names = _masked_names(sparse)
    transforms = {name: Masked(masks[name]) for name in names}
    module = SpikingModule(sparse, dynamics, transforms=transforms, surrogate=surrogate)
    module.to(x.device)
    zero_outside(module, names)
    calibrate(module, x, calibration)
    return module.eval()


def connections(graph: Graph) -> dict[str, Tensor]:
    """The mask of every pruned node: the graph's own, else the weights that are not zero.

    A node without a mask and without a zero weight is dense, and left out.
    """
    found = masks_of(graph)
    for node in weighted_nodes(graph):
        kept = weight_of(node) != 0
        if node.name not in found and not bool(kept.all()):
            found[node.name] = kept
    return found


def masks_kept(module: SpikingModule) -> Callable[[EpochRecord], None]:
    """What proves after an epoch (``fit(..., on_epoch=...)``) that the connections were kept.

    It raises a `GraphError` where a weight outside its mask is not exactly zero, or a mask is not bit
    for bit that of the graph which the module was made from.
    """
    before, names = masks_of(module.graph), _masked_names(module.graph)

    def check(record: EpochRecord) -> None:
        check_masks(module, names, record.epoch, before)

    return check


def _with_mask(node: Node, mask: Tensor | None) -> Node:
    """The node with a mask; its weight stays the very tensor, which others may share."""
    if not isinstance(node.op, Weighted) or mask is None:
        return node
    return replace(node, op=node.op.having(mask=mask))


def _masked_names(graph: Graph) -> list[str]:
    """One masked node for every masked weight, in running order."""
    first: dict[int, str] = {}
    masks = masks_of(graph)
    for node in weighted_nodes(graph):
        if node.name not in masks:
            continue
        owner = first.setdefault(id(weight_of(node)), node.name)
        if not torch.equal(masks[owner], masks[node.name]):
            raise GraphError(
                f"nodes {owner!r} and {node.name!r} share a weight under two masks; give them one"
            )
    return list(first.values())
