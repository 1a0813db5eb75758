"""Masks of weights: which weights of a layer are kept, as a value of the graph.

A mask is the `mask` field of a weighted op: bool, shaped like its weight, True where kept, None where
nothing was pruned. Outside it the weight is zero, in float, integer and spiking graphs alike.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from spikemorph.graph import Graph, GraphError, Node
from spikemorph.graph.nested import nested_map, nested_nodes
from spikemorph.graph.traits import Weighted

Masks = Mapping[str, Tensor]  # (qualified) node name -> bool tensor, shaped like the node's weight


def weighted_nodes(graph: Graph) -> list[Node]:
    """The nodes that hold weights, in running order; those inside recurrent layers are left out."""
    return [node for node in graph.nodes if isinstance(node.op, Weighted)]


def weighted_ops(graph: Graph) -> dict[str, Weighted]:
    """What holds weights, by qualified node name in running order; inside recurrent layers too."""
    return {name: node.op for name, node in nested_nodes(graph) if isinstance(node.op, Weighted)}


def weight_of(node: Node) -> Tensor:
    """The weight of a weighted node."""
    assert isinstance(node.op, Weighted)
    return node.op.weight


def masks_of(graph: Graph) -> dict[str, Tensor]:
    """The masks that a graph holds, by node; nodes that were not pruned are left out."""
    return {name: op.mask for name, op in weighted_ops(graph).items() if op.mask is not None}


def with_masks(graph: Graph, masks: Masks) -> Graph:
    """The graph with these masks, and zero weights outside them; other nodes are left alone.

    Raises
    ------
    GraphError
        If a mask is for no weighted node, is not bool, or has another shape than the weight.
    """
    if odd := sorted(set(masks) - set(weighted_ops(graph))):
        raise GraphError(f"masks for {odd}: there are no weighted nodes of these names")

    def masked(name: str, node: Node) -> Node:
        if name not in masks:
            return node
        assert isinstance(node.op, Weighted)
        mask, weight = masks[name], node.op.weight
        if mask.shape != weight.shape or mask.dtype != torch.bool:
            raise GraphError(
                f"node {name!r}: a mask of {mask.dtype} and shape {tuple(mask.shape)} for a "
                f"weight of shape {tuple(weight.shape)}; give one bool for every weight"
            )
        kept = torch.where(mask, weight, torch.zeros_like(weight))
        return replace(node, op=node.op.having(weight=kept, mask=mask))

    return nested_map(graph, masked)


def broken_masks(graph: Graph) -> list[str]:
    """One line for every node with a weight that is not zero outside its mask; none if all hold."""
    found = []
    for name, op in weighted_ops(graph).items():
        count = 0 if op.mask is None else int((op.weight[~op.mask] != 0).sum())
        if count:
            found.append(f"node {name!r}: {count} weights outside its mask are not zero")
    return found


def mask_hash(mask: Tensor) -> str:
    """SHA-256, shortened, of a mask's bits in order; the same for a layer's mask in any graph."""
    flat = mask.detach().cpu().reshape(-1).to(torch.uint8).numpy().tobytes()
    return hashlib.sha256(flat).hexdigest()[:16]


def sparsity(graph: Graph) -> float:
    """The share of weights that are zero, over all weighted nodes, 0..1."""
    weights = [op.weight for op in weighted_ops(graph).values()]
    total = sum(weight.numel() for weight in weights)
    return 1 - sum(int((weight != 0).sum()) for weight in weights) / max(1, total)
