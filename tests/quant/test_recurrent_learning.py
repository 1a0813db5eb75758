"""Recurrent networks trained as they run on integers: what was trained is exported, bit for bit."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from helpers import draw
from hypothesis import given, settings
from hypothesis import strategies as st
from recurring import CELLS, GRID, around, drawn_cell, jumping
from torch import Tensor

from spikemorph.graph import Graph
from spikemorph.graph.interpret import run_integers
from spikemorph.layers.activation import LeakyReLU, Sigmoid, Tanh
from spikemorph.layers.linear import Linear
from spikemorph.layers.readout import Readout
from spikemorph.quant import Quantisation, quantise_graph
from spikemorph.quant.learning import QuantisedModule, learn_quantised
from spikemorph.train import CrossEntropy, DataTensors, TrainSettings
from spikemorph.train.temporal import TemporalSparsity, heard_states

Build = Callable[..., Any]
X = jumping(40, 4, 3, 0)
ARRANGED = ("alone", "both ways", "before a GRU")


def arranged(kind: str, how: str, seed: int = 1) -> Graph:
    """A network of one cell, of that cell in both directions, or with a GRU behind it."""
    body = drawn_cell(kind, 3, 4, seed)
    cells = {
        "alone": ((body, False),),
        "both ways": ((body, False), (body, True)),
        "before a GRU": ((body, False), (drawn_cell("gru", 4, 4, seed), False)),
    }[how]
    return around(*cells, elements=4, inputs=3, size=4)


def settled(graph: Graph, x: Tensor) -> Tensor:
    readout = graph[graph.outputs[0]].op
    assert isinstance(readout, Readout)
    return readout.real(run_integers(graph, GRID.to_integers(x)))


def shaken(module: QuantisedModule, size: float, seed: int) -> QuantisedModule:
    """The module with everything that it learns moved."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(size * torch.randn(parameter.shape, generator=generator))
    return module


@settings(max_examples=10, deadline=None)
@given(
    st.sampled_from(CELLS), st.sampled_from(ARRANGED), st.integers(0, 99),
    st.sampled_from([2, 3, 16]), st.sampled_from([2, 4, 8]), st.sampled_from([0.05, 0.3]),
)  # fmt: skip
def test_the_exported_graph_is_the_trained_network_bit_for_bit(
    kind: str, how: str, seed: int, levels: int, bits: int, size: float
) -> None:
    chosen = Quantisation(levels, bits)
    module = QuantisedModule(arranged(kind, how, seed), X, GRID, chosen).eval()
    for turn in range(2):  # the plan follows what has changed since
        shaken(module, size, seed + turn)
        assert torch.equal(module(X), settled(module.to_integers(), X))


@pytest.mark.parametrize("how", ARRANGED[1:])
@pytest.mark.parametrize("kind", ["gru", "lstm"])
def test_it_starts_as_after_quantisation_and_everything_inside_learns(kind: str, how: str) -> None:
    graph, chosen = arranged(kind, how), Quantisation(levels=8)
    module = QuantisedModule(graph, X, GRID, chosen)
    assert torch.equal(module.eval()(X), settled(quantise_graph(graph, X, GRID, chosen), X))
    x = X.clone().requires_grad_()
    module(x).square().mean().backward()
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None and bool(parameter.grad.any()), name
    assert x.grad is not None and bool(x.grad.any())


def test_activations_that_bend_are_exported_as_they_were_learnt(chain: Build) -> None:
    """Their rungs are found anew at every step: of each channel's own scale."""
    for op in (Sigmoid(), Tanh(), LeakyReLU(0.1)):
        graph = chain((3,), Linear(draw(5, 3), draw(5)), op, Linear(draw(2, 5, seed=3), None))
        x = X.reshape(-1, 3)
        module = shaken(QuantisedModule(graph, x, GRID, Quantisation(6)), 0.2, 0).eval()
        assert torch.equal(module(x), settled(module.to_integers(), x))


def test_states_are_taught_to_stay_in_steps_of_their_own() -> None:
    """The penalty hears whole levels, and training with it makes fewer of them change."""
    graph, data = arranged("gru", "alone"), DataTensors(X, (X[:, -1, 0] > 0.5).long())
    module, changed = QuantisedModule(graph, X, GRID, Quantisation(8)), []
    with heard_states(module) as states:
        module(X)
    ((found, axis, unit),) = states.values()
    assert (axis, unit) == (1, 1.0) and torch.equal(found, found.round())
    for weight in (0.0, 1e-3):
        objective = TemporalSparsity(CrossEntropy(), weight)
        lesson = TrainSettings(3, 20, rate=0.05)
        made = learn_quantised(graph, X, GRID, Quantisation(8), data, lesson, objective=objective)
        levels = states_of(made)
        changed.append(float(levels.diff(dim=1).abs().double().mean()))
    assert changed[1] < changed[0]


def states_of(graph: Graph) -> Tensor:
    """(sample, element, state) the levels of the recurrent layer, which stands behind the input."""
    head = Graph(graph.nodes[:2], graph.inputs, (graph.nodes[1].name,))
    return run_integers(head, GRID.to_integers(X))
