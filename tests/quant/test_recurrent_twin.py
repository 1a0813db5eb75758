"""Twins of recurrent networks: outputs bit for bit, and gradients at the inputs of every element."""

import pytest
import torch
from recurring import CELLS, GRID, around, drawn_cell, jumping
from torch import Tensor

from spikemorph.graph import Graph
from spikemorph.graph.interpret import run, run_integers
from spikemorph.layers.readout import Readout
from spikemorph.quant import Quantisation, quantise_graph
from spikemorph.quant.twin import IntegerTwin
from spikemorph.quant.twin_rules import Rule, Smoothed, StraightThrough, Unrounded

RULES: tuple[Rule, ...] = (StraightThrough(), Smoothed(1.0), Unrounded())
X = jumping(40, 4, 3, 0)


def converted(kind: str, *, both: bool = False) -> Graph:
    """A small integer network of one kind of cell, in one direction or in both."""
    body = drawn_cell(kind, 3, 4, 1)
    cells = ((body, False), (body, True)) if both else ((body, False),)
    graph = around(*cells, elements=4, inputs=3, size=4)
    return quantise_graph(graph, X, GRID, Quantisation(levels=8))


def settled(graph: Graph, x: Tensor) -> Tensor:
    readout = graph[graph.outputs[0]].op
    assert isinstance(readout, Readout)
    return readout.real(run_integers(graph, GRID.to_integers(x)))


@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("kind", CELLS)
def test_outputs_are_those_of_the_integer_pass_by_every_rule_at_once(kind: str, both: bool) -> None:
    graph = converted(kind, both=both)
    twin, which = IntegerTwin(graph), torch.arange(len(X)) % 3
    found, want = twin.mixed(X, RULES, which), settled(graph, X)
    assert torch.equal(found[which < 2], want[which < 2])
    assert not torch.equal(found[which == 2], want[which == 2]) or kind == "delays"
    for index, rule in enumerate(RULES):
        assert torch.equal(found[which == index], twin(X[which == index], rule))


@pytest.mark.parametrize("kind", ["tanh", "gru", "lstm", "memory"])
def test_gradients_reach_every_element_as_in_the_float_network(kind: str) -> None:
    """With fine ladders the twin's gradients point where those of the float network point."""
    graph = around((drawn_cell(kind, 3, 4, 1), False), elements=4, inputs=3, size=4)
    fine = quantise_graph(graph, X, GRID, Quantisation(levels=256, weight_bits=16))
    exact, both = IntegerTwin(fine)(x := X.clone().requires_grad_(), StraightThrough()), []
    for outputs in (exact, run(graph, x)):
        (slope,) = torch.autograd.grad(outputs.sum(), x)
        assert bool(slope.abs().flatten(2).sum((0, 2)).all())  # at every element
        both.append(slope.double().flatten())
    assert float(torch.cosine_similarity(both[0], both[1], 0)) > 0.95
