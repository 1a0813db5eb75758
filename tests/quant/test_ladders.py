"""Ladders, scales and calibrators: exact fractions, six-bit scales, units with little error."""

import math
from collections.abc import Callable
from decimal import Decimal, localcontext
from fractions import Fraction
from typing import Any

import pytest
import torch
from helpers import draw
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from spikemorph.graph import Node
from spikemorph.layers.activation import Activation, Clip, LeakyReLU, Relay, ReLU, Sigmoid, Tanh
from spikemorph.layers.ladder import climb
from spikemorph.layers.linear import Linear
from spikemorph.quant import MSE, Max, Percentile, Quantisation
from spikemorph.quant.ladders import build_ladder
from spikemorph.quant.observe import Steps, choose_steps
from spikemorph.quant.scale_plan import clipped_scale
from spikemorph.quant.scales import as_factors, as_reals, common, simple, snapped

Build = Callable[..., Any]
HALF = Fraction(1, 2)
many = settings(max_examples=80, deadline=None, derandomize=True)


def exact(op: Activation, x: Fraction) -> Fraction:
    """The activation of a fraction: exact, or with 50 digits."""
    if isinstance(op, Sigmoid | Tanh):
        with localcontext() as context:
            context.prec = 50
            slope = 2 if isinstance(op, Tanh) else 1
            raised = (Decimal(-slope * x.numerator) / Decimal(x.denominator)).exp()
            return Fraction(slope / (1 + raised) - (slope - 1))
    if isinstance(op, LeakyReLU):
        return x if x >= 0 else Fraction(op.slope) * x
    low, high = op.bounds
    x = x if low is None else max(x, low)
    return x if high is None else min(x, high)


parts = st.fractions(Fraction(1, 40), 3, max_denominator=40)


@many
@given(
    op=st.sampled_from(
        [ReLU(), Relay(), LeakyReLU(0.25), Sigmoid(), Tanh(), Clip(-1.0, 2.0), Clip(0.0, 6.0),
         Clip(0.5, 2.0), Clip(-2.0, -0.5)]
    ),
    scale=parts,
    shift=st.fractions(-2, 2, max_denominator=40),
    unit=parts,
    smin=st.integers(-6, 0),
    smax=st.integers(1, 9),
)  # fmt: skip
def test_a_ladder_rounds_the_activation_to_the_nearest_level(
    op: Activation, scale: Fraction, shift: Fraction, unit: Fraction, smin: int, smax: int
) -> None:
    """``F(C) = floor(f(scale C + shift) / unit + 1/2)``, clipped, ties upwards, for every C."""
    ladder = build_ladder(op, Steps(smin, smax, (unit,)), (scale,), (shift,))
    sums = torch.arange(-80, 81)
    wanted = []
    for total in sums.tolist():
        level = math.floor(exact(op, scale * total + shift) / unit + HALF)
        wanted.append(min(max(level, smin), smax))
    assert climb(ladder, sums[:, None]).flatten().tolist() == wanted
    if ladder.line is not None:
        by_line = ladder.line(sums[:, None]).clamp(smin, smax)
        assert by_line.flatten().tolist() == wanted


def test_ties_go_up() -> None:
    """Unit 2, scale 1: sums 1, 3, 5 lie half-way and reach levels 1, 2, 3; -1 reaches 0."""
    ladder = build_ladder(Relay(), Steps(-3, 3, (Fraction(2),)), (Fraction(1),), (Fraction(0),))
    sums = torch.tensor([[-3], [-2], [-1], [0], [1], [2], [3], [5]])
    assert climb(ladder, sums).flatten().tolist() == [-1, -1, 0, 0, 1, 1, 2, 3]


def test_the_longest_ladders_have_a_line_only() -> None:
    steps = Steps(0, 65535, (Fraction(3, 1024),))
    ladder = build_ladder(ReLU(), steps, (Fraction(1, 4096),), (Fraction(-1),))
    assert ladder.rungs is None and ladder.levels == 65536
    sums = torch.tensor([[0], [4096 + 5], [4096 + 6], [10**9]])
    assert climb(ladder, sums).flatten().tolist() == [0, 0, 1, 65535]  # C - 4096 >= 6 = theta / 2


@many
@given(value=st.floats(1e-30, 1e30), up=st.booleans())
def test_snapped_scales_have_six_bits(value: float, up: bool) -> None:
    """Within 1/64 to nearest, at most 1/32 above on request, never below then."""
    ratio = snapped(value, up=up) / Fraction(value)
    assert 1 <= ratio <= 1 + Fraction(1, 32) if up else abs(ratio - 1) <= Fraction(1, 64)
    top = snapped(value, up=up)
    assert (top.numerator & (top.numerator - 1)) == 0 or top.numerator < 64 or top.denominator == 1
    assert snapped(float(top)) == snapped(float(top), up=True) == top


fractions = st.lists(st.fractions(Fraction(1, 50), 50, max_denominator=50), min_size=1, max_size=5)


@many
@given(scales=fractions)
def test_the_common_unit_divides_all_and_is_the_largest_that_does(scales: list[Fraction]) -> None:
    unit = common(scales)
    counts = [scale / unit for scale in scales]
    assert all(count.denominator == 1 for count in counts)
    assert math.gcd(*(int(count) for count in counts)) == 1


@many
@given(value=st.floats(1e-12, 1e12))
def test_simple_fractions_are_near(value: float) -> None:
    assert abs(simple(value) / Fraction(value) - 1) <= Fraction(1, 2**16)


@pytest.mark.parametrize("cells", [3, 49, 1000, 262144])
def test_simple_fractions_find_averages(cells: int) -> None:
    assert simple(1 / cells) == Fraction(1, cells)


def test_a_factor_that_is_not_whole_is_refused() -> None:
    with pytest.raises(ValueError, match="no integer multiples"):
        as_factors((Fraction(1, 3),), (Fraction(1, 4),), 1)


def test_max_takes_the_largest_value() -> None:
    """3 levels above zero for 6: 2 each. Signed: 4 levels for -8 need 2 each, 3 for 9 need 3."""
    assert Max().units(torch.tensor([[0.0, 6.0, 1.0]]), 0, 3).tolist() == [2]
    assert Max().units(torch.tensor([[-8.0, 3.0]]), -4, 3).tolist() == [2]
    assert Max().units(torch.tensor([[-8.0, 9.0]]), -4, 3).tolist() == [3]


def test_percentile_leaves_out_zeros_and_the_largest() -> None:
    """Of 1, 2, .. 100 and many zeros, 90 % lie below the 91st: 91 is the top of 7 levels."""
    values = torch.cat([torch.zeros(500), torch.arange(1.0, 101.0)])
    assert Percentile(0.9).units(values[None], 0, 7).tolist() == pytest.approx([91 / 7])
    assert Percentile(1.0).units(values[None], 0, 7).tolist() == pytest.approx([100 / 7])
    mostly = torch.tensor(
        [-1.0, *[0.9] * 500]
    )  # levels -1 and 0, and nothing negative that is common
    assert Percentile(0.99).units(mostly[None], -1, 0).tolist() == pytest.approx([1])


def squared_error(values: Tensor, unit: float, smin: int, smax: int) -> float:
    levels = torch.floor(values.double() / unit + 0.5).clamp(smin, smax)
    return float((levels * unit - values.double()).square().mean())


@pytest.mark.parametrize(("smin", "smax"), [(0, 3), (0, 15), (-8, 7)])
def test_no_candidate_has_a_smaller_error(smin: int, smax: int) -> None:
    """The least of 50 evenly spaced units; better than clipping nothing where tails are long."""
    values = draw(2000, seed=1) ** 3
    values = values if smin else values.clamp(min=0)
    found, widest = (float(c.units(values[None], smin, smax)) for c in (MSE(50), Max()))
    errors = [squared_error(values, widest * k / 50, smin, smax) for k in range(1, 51)]
    assert squared_error(values, found, smin, smax) == pytest.approx(min(errors), rel=1e-9)
    assert min(errors) < errors[-1]


@pytest.mark.parametrize("levels", [4, 16, 255])
def test_chosen_levels_are_as_many_as_asked(levels: int, chain: Build) -> None:
    """Unsigned from 0; bounded functions by their bounds.

    Signed in proportion to what was seen, as a mean over channels: here two thirds below zero in one,
    nothing in the other.
    """
    graph = chain((2,), Linear(torch.eye(2), None), Relay())
    values = torch.tensor([[-1.0, 2.0], [0.5, 3.0]])
    steps = choose_steps(graph, values, Quantisation(levels, calibrator=Max()))["n1"]
    assert (steps.smin, steps.smax) == (-round((levels - 1) / 3), levels - 1 + steps.smin)
    unsigned = graph.substitute("n1", Node("n1", ReLU(), ("n0",)))
    steps = choose_steps(unsigned, values, Quantisation(levels, calibrator=Max()))["n1"]
    assert (steps.smin, steps.smax) == (0, levels - 1)
    squashed = graph.substitute("n1", Node("n1", Tanh(), ("n0",)))
    steps = choose_steps(squashed, 10 * values, Quantisation(levels, calibrator=Max()))["n1"]
    assert steps.smax is not None and steps.smax * steps.unit[0] <= 1 + steps.unit[0] / 2


@pytest.mark.parametrize("largest", [1, 3, 7])
def test_clipping_few_bit_weights_never_costs(largest: int) -> None:
    """The chosen scale's squared error, row by row, against the scale that clips nothing."""
    weights = (draw(20, 50, seed=6) ** 3).double()
    full = tuple(snapped(float(p) / largest, up=True) for p in weights.abs().amax(1))

    def error(scale: tuple[Fraction, ...]) -> Tensor:
        unit = as_reals(scale)[:, None]
        rounded = torch.floor(weights / unit + 0.5).clamp(-largest, largest)
        return (rounded * unit - weights).square().sum(1)

    found = clipped_scale(weights, full, largest)
    assert bool((error(found) <= error(full) * 1.02).all())  # snapping the best share costs little
    assert float(error(found).sum()) < float(error(full).sum()) * 0.98
