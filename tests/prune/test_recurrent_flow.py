"""SynFlow through recurrent layers: along both factors of gates, and from element to element."""

import pytest
import torch
from recurring import around, drawn_cell

from spikemorph.graph import Graph, InputError
from spikemorph.layers.masks import broken_masks, weighted_ops
from spikemorph.prune import PruneTask, layer_sparsities
from spikemorph.prune.allocation import kept_of
from spikemorph.prune.reinitialise import fresh
from spikemorph.prune.synflow import SynFlow, synaptic_flow


def net(kind: str, elements: int = 5) -> Graph:
    return around((drawn_cell(kind, 3, 4, 1), False), elements=elements, inputs=3, size=4)


def flows(graph: Graph) -> dict[str, torch.Tensor]:
    return synaptic_flow(graph, PruneTask(graph, 0.0).magnitudes())


@pytest.mark.parametrize("kind", ["gru", "gru, reset first", "lstm"])
def test_every_gate_carries_flow_and_half_of_all_weights_stay(kind: str) -> None:
    graph = net(kind)
    assert all(bool((flow > 0).all()) for flow in flows(graph).values())
    found = SynFlow(rounds=5)(PruneTask(graph, 0.5, allow_empty=True))
    rows = layer_sparsities(found)
    assert not broken_masks(found)
    assert sum(row.kept for row in rows) == kept_of(sum(row.weights for row in rows), 0.5)


def test_a_plain_cell_has_the_flow_of_its_unrolled_sum() -> None:
    """For h' = W x + U h over two elements of ones, read by R: R (W + U W) 1, from no start."""
    graph = net("tanh", 2)
    w, u, r = (
        weighted_ops(graph)[n].weight.double().abs() for n in ("a/state.x", "a/state.h", "logits")
    )
    for weight in (w, u):
        weight.requires_grad_()
    total = (r @ (w + u @ w)).sum()
    found = flows(graph)
    for name, weight, slope in zip("xh", (w, u), torch.autograd.grad(total, (w, u)), strict=True):
        torch.testing.assert_close(found[f"a/state.{name}"], weight.detach() * slope)


def test_a_flow_beyond_all_numbers_names_its_layer() -> None:
    with pytest.raises(InputError, match=r"node 'a/state.[xh]': the flow .* too large"):
        flows(net("tanh", 700))


def test_new_weights_reach_bodies() -> None:
    graph = net("gru")
    for name, op in weighted_ops(fresh(graph, torch.Generator().manual_seed(0))).items():
        assert op.bias is None or not op.bias.any()
        assert not torch.equal(op.weight, weighted_ops(graph)[name].weight)
