"""Recurrent networks are bounded element by element, for sequences of one length."""

import pytest
import torch
from recurring import GRID, around, drawn_cell, jumping
from torch import Tensor

from spikemorph.convert import canonical
from spikemorph.graph.interpret import run_integers
from spikemorph.layers.boxes import Box, edge_boxes
from spikemorph.quant import Quantisation, quantise_graph
from spikemorph.robust.certified.proof import Prover


def inside(box: Box, seed: int) -> Tensor:
    share = torch.rand(box.lower.shape, generator=torch.Generator().manual_seed(seed)).round()
    return (box.lower + share * (box.upper - box.lower)).to(torch.int64)


@pytest.mark.parametrize("kind", ["gru", "tanh", "delays"])
@pytest.mark.parametrize("reverse", [False, True])
def test_points_of_a_sequence_stay_inside(kind: str, reverse: bool) -> None:
    cell = drawn_cell(kind, 2, 3, 1), reverse
    graph = canonical(around(cell, elements=4, inputs=2, size=3))
    x = jumping(6, 4, 2, 0)
    whole = quantise_graph(graph, x, GRID, Quantisation(8, 8))
    codes = GRID.to_integers(x)
    box = Box((codes - 1).clamp(0).double(), (codes + 1).clamp(max=15).double())
    boxes = {node.name: own for node, own in edge_boxes(whole, box)}
    labels = run_integers(whole, codes).argmax(1)
    verdict = Prover(whole, "lines").verdict(box, labels)
    for seed in range(20):
        outputs = run_integers(whole, inside(box, seed))
        assert bool(boxes[whole.outputs[0]].holds(outputs).all())
        right = outputs.argmax(1) == labels
        assert not bool((verdict.proved & ~right).any())
    point = Box(codes.double(), codes.double())
    alone = {node.name: own for node, own in edge_boxes(whole, point)}[whole.outputs[0]]
    assert torch.equal(alone.lower, run_integers(whole, codes).double())
    assert torch.equal(alone.lower, alone.upper)
