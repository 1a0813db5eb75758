"""What quantisation refuses, with the node or the sample named, and what it leaves outside."""

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest
import torch
from helpers import draw
from torch import Tensor

from spikemorph.graph import InputError, UnsupportedError
from spikemorph.graph.grid import Grid
from spikemorph.graph.interpret import run_integers
from spikemorph.layers.activation import ReLU
from spikemorph.layers.linear import Linear
from spikemorph.layers.pooling import AveragePool
from spikemorph.layers.readout import Readout, Softmax
from spikemorph.layers.shape import Reshape
from spikemorph.quant import Quantisation, quantise_graph

Build = Callable[..., Any]
NONE = ((0, 0), (0, 0))
DYADIC = Grid(Fraction(1, 64), 0, 64)


def points(count: int, *shape: int, grid: Grid = DYADIC, seed: int = 9) -> Tensor:
    """Samples that lie on the grid."""
    x = torch.rand(count, *shape, generator=torch.Generator().manual_seed(seed))
    return grid.to_values(grid.to_integers(x))


def test_a_final_softmax_stays_outside(chain: Build) -> None:
    """It is kept in the read-out, and the largest probability is that of the largest integer."""
    graph = chain((8,), Linear(draw(6, 8), None), ReLU(), Linear(draw(5, 6), None), Softmax(1))
    x = points(50, 8)
    integer = quantise_graph(graph, x, DYADIC, Quantisation())
    readout = integer[integer.outputs[0]].op
    assert isinstance(readout, Readout) and isinstance(readout.analog[0], Softmax)
    logits = run_integers(integer, DYADIC.to_integers(x))
    probabilities = readout.real(logits)
    assert torch.allclose(probabilities.sum(1), torch.ones(50, dtype=torch.float64))
    assert torch.equal(probabilities.argmax(1), logits.argmax(1))


def test_a_softmax_inside_is_refused_with_all_else_that_is(chain: Build) -> None:
    graph = chain(
        (4, 2, 2), Softmax(1), AveragePool((2, 2), (2, 2), NONE, NONE, True), Reshape((4,)),
        Linear(torch.eye(4), None),
    )  # fmt: skip
    with pytest.raises(UnsupportedError) as caught:
        quantise_graph(graph, torch.rand(4, 4, 2, 2), DYADIC, Quantisation())
    assert [problem.node for problem in caught.value.problems] == ["n0", "n1"]
    assert "only at the very end" in str(caught.value)


def test_two_outputs_are_refused(chain: Build) -> None:
    graph = chain((2,), Linear(torch.eye(2), None), ReLU())
    with pytest.raises(UnsupportedError, match="export the model with one output"):
        quantise_graph(
            replace(graph, outputs=("n0", "n1")), torch.rand(3, 2), DYADIC, Quantisation()
        )


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.zeros(0, 2), "calibration data is empty"),
        (torch.tensor([[0.5, 0.5], [0.1, 1.2]]), r"sample 1, element \(1,\): 1.2 is outside"),
        (torch.tensor([[0.5, float("nan")]]), r"sample 0, element \(1,\): nan is no number"),
        (torch.zeros(3, 2), "node 'n1' is silent on all 3 calibration samples"),
    ],
)
def test_bad_calibration_data_is_refused(x: Tensor, message: str, chain: Build) -> None:
    graph = chain((2,), Linear(torch.eye(2), None), ReLU(), Linear(torch.eye(2), None))
    with pytest.raises(InputError, match=message):
        quantise_graph(graph, x, DYADIC, Quantisation())


@pytest.mark.parametrize(
    "options", [{"levels": 1}, {"levels": 65537}, {"weight_bits": 1}, {"weight_bits": 9}]
)
def test_settings_outside_their_range_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=str(*options.values())):
        Quantisation(**options)


def test_linear_layers_over_many_axes_are_refused_not_guessed(chain: Build) -> None:
    """Their features are not on axis 1, where ladders and scales look for channels."""
    graph = chain((2, 2, 2, 2, 8), Linear(draw(6, 8), None), ReLU())
    with pytest.raises(UnsupportedError, match="positions along several axes"):
        quantise_graph(graph, points(4, 2, 2, 2, 2, 8), DYADIC, Quantisation())
