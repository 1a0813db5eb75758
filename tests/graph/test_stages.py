"""Passes lead from one legal kind of graph to the next, and each kind refuses what is of another."""

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest
import torch
from helpers import draw

from spikemorph.convert import canonical, read_torch, to_spiking
from spikemorph.convert.canonical import PASSES
from spikemorph.graph import Graph, GraphError
from spikemorph.graph.grid import Grid
from spikemorph.graph.stages import CANONICAL, FLOAT, INTEGER, PREPARED, Stage, problems, require
from spikemorph.layers.activation import ReLU
from spikemorph.layers.joining import Add
from spikemorph.layers.ladder import Ladder
from spikemorph.layers.linear import Linear
from spikemorph.layers.normalisation import BatchNorm
from spikemorph.layers.pooling import GlobalAverage
from spikemorph.layers.readout import Readout, Softmax
from spikemorph.layers.shape import Reshape
from spikemorph.prune.channel_groups import couple_channels
from spikemorph.quant import Quantisation, quantise_graph
from spikemorph.quant.prepare import ready
from spikemorph.quant.twin import IntegerTwin
from spikemorph.train import GraphModule
from spikemorph.zoo.cards import build_model

Build = Callable[..., Any]
GRID = Grid(Fraction(1, 64), 0, 64)
EYE = Linear(torch.eye(4), None)


def every_kind(chain: Build) -> Graph:
    """A norm, an average, a factor, a layer over positions, sums read by weights, a softmax."""
    ones = torch.ones(4)
    norm = BatchNorm(0.1 * ones, ones, ones, ones, 1e-5)
    scaled = Add((torch.tensor(0.3), torch.tensor(-1.0)))
    graph: Graph = chain(
        (4, 3), norm, ReLU(), Linear(draw(3, 3), draw(3, seed=1)), ReLU(), (scaled, "n1", "n3"),
        GlobalAverage(), ReLU(), Reshape((4,)), Linear(draw(2, 4, seed=2), None),
        Linear(draw(5, 2, seed=3), None), Softmax(1),
    )  # fmt: skip
    return graph


@pytest.mark.parametrize("kind", ["every kind", "digits_cnn"])
def test_passes_lead_from_stage_to_stage(kind: str, chain: Build) -> None:
    if kind == "digits_cnn":
        graph = read_torch(build_model(kind).eval(), torch.zeros(2, 1, 8, 8))
    else:
        graph = every_kind(chain)
    for change in PASSES:
        graph = require(change(require(graph, FLOAT)), FLOAT)
    assert not problems(graph, CANONICAL)
    body, _ = ready(graph)
    assert not problems(body, PREPARED)
    x = torch.rand(40, *graph.entry.shape, generator=torch.Generator().manual_seed(1))
    integer = quantise_graph(graph, GRID.to_values(GRID.to_integers(x)), GRID, Quantisation())
    assert not problems(integer, INTEGER)


def refused(graph: Graph, stage: Stage) -> str:
    with pytest.raises(GraphError) as caught:
        require(graph, stage)
    return str(caught.value)


def test_each_stage_refuses_what_is_of_another(chain: Build, even_ladder: Build) -> None:
    plain = chain((4,), EYE, ReLU(), EYE)
    integer = chain(
        (4,), Linear(torch.eye(4).long(), None), even_ladder(4, 1, 2, 0, 3),
        Readout(torch.ones(1).long(), Fraction(1)), grid=GRID,
    )  # fmt: skip
    for stage in (FLOAT, CANONICAL, PREPARED):
        assert not problems(plain, stage)
        told = refused(integer, stage)
        assert f"no {stage.name} graph: node 'x' (Input): it is an integer graph's" in told
        assert "node 'n1' (Ladder): it has no meaning on real values" in told
    assert not problems(integer, INTEGER)
    assert [p.node for p in problems(plain, INTEGER)] == ["x", "n1", "n2"]
    assert "no row in on_integers and on_increments and on_ranges" in refused(plain, INTEGER)


@pytest.mark.parametrize(
    ("steps", "node", "words"),
    [
        ((GlobalAverage(), ReLU()), "n0", "not in canonical form"),
        ((ReLU(), EYE, EYE), "n2", "reads sums"),
        ((ReLU(), (Add((torch.tensor(0.5),)), "n0")), "n1", "factors are not whole"),
        ((Softmax(1), ReLU()), "n0", "stands inside the network"),
    ],
)
def test_prepared_graphs_are_ready_to_be_rounded(
    steps: tuple[Any, ...], node: str, words: str, chain: Build
) -> None:
    shape = (4, 2) if isinstance(steps[0], GlobalAverage) else (4,)
    (problem,) = problems(chain(shape, *steps), PREPARED)
    assert problem.node == node and words in problem.reason


@pytest.mark.parametrize("stage", [FLOAT, CANONICAL, PREPARED], ids=lambda stage: stage.name)
def test_samples_without_an_axis_have_no_features(stage: Stage, chain: Build) -> None:
    """A file may say so; torch would take the samples for features."""
    (problem,) = problems(chain((), Linear(torch.eye(2), None)), stage)
    assert problem.node == "n0" and "without an axis" in problem.reason


def test_canonical_graphs_have_no_linear_layer_over_positions(chain: Build) -> None:
    graph = chain((2, 4), EYE, ReLU())
    (problem,) = problems(graph, CANONICAL)
    assert problem.node == "n0" and "at positions" in problem.reason
    assert not problems(canonical(graph), CANONICAL)


def test_integer_graphs_end_in_a_read_out_that_fits_and_have_true_ladders(
    chain: Build, even_ladder: Build
) -> None:
    ladder = even_ladder(4, 1, 2, 0, 3)
    assert isinstance(ladder, Ladder) and ladder.rungs is not None
    wrong = replace(ladder, rungs=ladder.rungs + 1)
    first, last = Linear(torch.eye(4).long(), None), Readout(torch.ones(1).long(), Fraction(1))
    assert "ends in a read-out" in refused(chain((4,), first, ladder, grid=GRID), INTEGER)
    inner = chain((4,), first, last, ladder, last, grid=GRID)
    assert "node 'n1' (Readout): it stands inside" in refused(inner, INTEGER)
    assert "not those of its line" in refused(chain((4,), first, wrong, last, grid=GRID), INTEGER)
    odd = replace(last, analog=(Softmax(2),))
    assert "softmax runs over axis 2" in refused(
        chain((4,), first, ladder, odd, grid=GRID), INTEGER
    )
    apart = chain((3, 4), first, ladder, last, grid=GRID)
    assert "a linear layer over 2 axes" in refused(apart, INTEGER)


def test_whoever_takes_a_graph_asks_for_its_stage(chain: Build) -> None:
    plain = chain((4,), EYE, ReLU(), EYE)
    x = torch.rand(9, 4, generator=torch.Generator().manual_seed(2))
    integer = quantise_graph(plain, GRID.to_values(GRID.to_integers(x)), GRID, Quantisation())
    for give in (canonical, couple_channels, GraphModule):
        with pytest.raises(GraphError, match="no float graph: node 'x'"):
            give(integer)
    for take in (IntegerTwin, to_spiking):
        with pytest.raises(GraphError, match="quantise the graph first"):
            take(plain)
