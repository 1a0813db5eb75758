"""Laws of single spiking layers: membranes, slopes, and gradients computed by hand."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from spikemorph.graph import InputError
from spikemorph.surrogate import Backward, Dynamics, PiecewiseLinear
from spikemorph.surrogate.gradients import (
    Arctan,
    Exponential,
    Rectangular,
    Sigmoid,
    StraightThrough,
    Surrogate,
)
from spikemorph.surrogate.layerwise import (
    Adaptive,
    RateGradient,
    RateThrough,
    TimeAveraged,
    per_sample,
)
from spikemorph.surrogate.module import spike_trains

FAMILIES: tuple[Surrogate, ...] = (
    PiecewiseLinear(2.0),
    Exponential(0.3, 2.0),
    Rectangular(2.0),
    Arctan(2.0),
    Sigmoid(4.0),
    StraightThrough(),
)
DYNAMICS = [Dynamics(4, leak, hard) for leak in (1.0, 0.5) for hard in (True, False)]


def run(
    currents: list[Any], threshold: float, dynamics: Dynamics, rule: Backward, *weights: float
) -> tuple[Tensor, Tensor, float]:
    """Spikes, and the gradients of ``sum_t weight_t o_t`` in the currents and in the threshold."""
    given_currents = torch.tensor(currents).requires_grad_()
    given_threshold = torch.tensor(threshold).requires_grad_()
    spikes = spike_trains(given_currents, given_threshold, dynamics, rule)
    loss = sum(w * spikes[t].sum() for t, w in enumerate(weights))
    assert isinstance(loss, Tensor)
    found, steep = torch.autograd.grad(loss, (given_currents, given_threshold))
    return spikes, found, float(steep)


def slope_at(rule: Surrogate, u: float) -> float:
    return float(rule.slope(torch.tensor([u], dtype=torch.float64)))


@pytest.mark.parametrize(
    ("rule", "u", "wanted"),
    [
        (PiecewiseLinear(2.0), 0.5, 0.375),  # (2 - 0.5) / 4
        (PiecewiseLinear(2.0), -2.5, 0.0),
        (Exponential(0.3, 2.0), -0.5, 0.3 * math.exp(-1)),
        (Exponential(1.0, 0.5), 2.0, math.exp(-1)),
        (Rectangular(2.0), -0.5, 0.5),
        (Rectangular(2.0), 1.0, 0.0),  # |u| < width / 2, strictly
        (Arctan(2.0), 0.0, 1.0),
        (Arctan(2.0), 1 / math.pi, 0.5),  # 1 / (1 + 1)
        (Sigmoid(4.0), 0.0, 1.0),
        (Sigmoid(4.0), math.log(3) / 4, 0.75),  # 4 * 3/4 * 1/4
        (StraightThrough(), 7.0, 1.0),
    ],
)
def test_slopes_by_hand(rule: Surrogate, u: float, wanted: float) -> None:
    assert slope_at(rule, u) == pytest.approx(wanted, abs=1e-15)


@pytest.mark.parametrize(
    "rule", [PiecewiseLinear(0.7), Rectangular(0.7), Arctan(3.0), Sigmoid(3.0), Exponential(1.5, 3)]
)
def test_slopes_are_those_of_a_step_from_zero_to_one(rule: Surrogate) -> None:
    """Their area is one; an exponential's is 2 scale / rate, here one too; arctan's tails lack 0.001."""
    u = torch.linspace(-200, 200, 400_001, dtype=torch.float64)
    assert float(rule.slope(u).sum() * 1e-3) == pytest.approx(1, abs=3e-3)


@pytest.mark.parametrize("rule", FAMILIES, ids=lambda r: type(r).__name__)
def test_two_steps_by_hand(rule: Surrogate) -> None:
    """I = (1.25, 0.75), V_th = 1, gradients (1, 10) in the spikes; the first step spikes.

    Hard reset: v = (1.25, 0.75), u = (0.25, -0.25), o = (1, 0), so s_1 = s_2 = s. d/dv_2 = 10 s;
    the reset has let nothing through but itself: d/dv_1 = s (1 - leak 10 s 1.25).
    Soft reset: v_2 = leak 0.25 + 0.75; d/dv_2 = 10 z, d/dv_1 = leak 10 z + s (1 - leak 10 z).
    d/dV_th is minus what passed the slopes, and minus leak 10 z by the soft reset.
    """
    s, s_low, s_zero = slope_at(rule, 0.25), slope_at(rule, -0.125), slope_at(rule, 0.0)
    for leak, z in ((1.0, s_zero), (0.5, s_low)):
        spikes, found, steep = run([1.25, 0.75], 1.0, Dynamics(2, leak), rule, 1, 10)
        first = s * (1 - leak * 10 * s * 1.25)
        assert spikes.tolist() == [1, 0]
        assert found.tolist() == pytest.approx([first, 10 * s], rel=1e-6)
        assert steep == pytest.approx(-first - 10 * s, rel=1e-6)
        spikes, found, steep = run([1.25, 0.75], 1.0, Dynamics(2, leak, False), rule, 1, 10)
        by_spike = s * (1 - leak * 10 * z)
        assert spikes.tolist() == [1, 1 if leak == 1 else 0]  # v_2 = 1 or 0.875
        assert found.tolist() == pytest.approx([by_spike + leak * 10 * z, 10 * z], rel=1e-6)
        assert steep == pytest.approx(-by_spike - 10 * z - leak * 10 * z, rel=1e-6)


def test_two_steps_in_numbers() -> None:
    """The triangle of width one, in numbers without rounding: s(0.25) = 0.75, s(0) = 1."""
    rule = PiecewiseLinear(1.0)
    _, found, steep = run([1.25, 0.75], 1.0, Dynamics(2), rule, 1, 10)
    assert (found.tolist(), steep) == ([0.75 * (1 - 7.5 * 1.25), 7.5], 6.28125 - 7.5)
    _, found, steep = run([1.25, 0.75], 1.0, Dynamics(2, hard_reset=False), rule, 1, 10)
    assert (found.tolist(), steep) == ([0.75 * (1 - 10) + 10, 10], 6.75 - 10 - 10)
    # V_th = 2, soft: v = (2.25, 1.25), u = (0.25, -0.75), s = (0.75, 0.25); h_1 = 2.5
    _, found, steep = run([2.25, 1.0], 2.0, Dynamics(2, hard_reset=False), rule, 1, 10)
    assert (found.tolist(), steep) == ([0.75 * (1 - 2.5 * 2) + 2.5, 2.5], 3.0 - 2.5 - 2.5)


def test_membranes_by_hand() -> None:
    """I = 0.5 four times, V_th = 1: a spike needs v >= V_th, equality included."""
    half = torch.full((4, 1), 0.5)
    one = torch.tensor(1.0)
    assert Dynamics(4).membranes(half, one)[:, 0].tolist() == [0.5, 1.0, 0.5, 1.0]
    leaky = Dynamics(4, leak=0.5).membranes(half, one)[:, 0]
    assert leaky.tolist() == [0.5, 0.75, 0.875, 0.9375]
    soft = Dynamics(4, hard_reset=False).membranes(1.5 * half, one)[:, 0]
    assert soft.tolist() == [0.75, 1.5, 1.25, 1.0]
    hard = Dynamics(4).membranes(1.5 * half, one)[:, 0]
    assert hard.tolist() == [0.75, 1.5, 0.75, 1.5]


class _Spike(torch.autograd.Function):
    """One spike of an unrolled loop, for torch to chain."""

    @staticmethod
    def forward(ctx: Any, u: Tensor, rule: Surrogate) -> Tensor:
        ctx.save_for_backward(u)
        ctx.rule = rule
        return (u >= 0).to(u)

    @staticmethod
    def backward(ctx: Any, *gradient: Tensor) -> tuple[Tensor, None]:
        (u,) = ctx.saved_tensors
        return gradient[0] * ctx.rule.slope(u), None


def unrolled(currents: Tensor, threshold: Tensor, dynamics: Dynamics, rule: Surrogate) -> Tensor:
    """The equations of the neuron, as they stand in its file."""
    kept, spikes = torch.zeros_like(currents[0]), []
    for current in currents:
        membrane = dynamics.leak * kept + current
        spike: Tensor = _Spike.apply(membrane - threshold, rule)  # type: ignore[no-untyped-call]
        kept = membrane * (1 - spike) if dynamics.hard_reset else membrane - spike * threshold
        spikes.append(spike)
    return torch.stack(spikes)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 10**6), st.integers(1, 6), st.sampled_from(DYNAMICS), st.sampled_from(FAMILIES)
)
def test_the_way_back_is_what_torch_finds_in_an_unrolled_loop(
    seed: int, steps: int, dynamics: Dynamics, rule: Surrogate
) -> None:
    draws = torch.Generator().manual_seed(seed)
    currents = torch.randn(steps, 3, 4, generator=draws, dtype=torch.float64) + 0.4
    weights = torch.randn(steps, 3, 4, generator=draws, dtype=torch.float64)
    threshold = torch.tensor(0.8, dtype=torch.float64)
    found = []
    for layer in (spike_trains, unrolled):
        inputs = (currents.clone().requires_grad_(), threshold.clone().requires_grad_())
        spikes = layer(*inputs, dynamics, rule)
        found.append((spikes, *torch.autograd.grad((spikes * weights).sum(), inputs)))
    for ours, torchs in zip(*found, strict=True):
        torch.testing.assert_close(ours, torchs, rtol=1e-9, atol=1e-12)


def test_bptr_by_hand() -> None:
    """Gradients pass, step by step as they are, where a neuron spikes at all."""
    currents = [[0.6, 0.2], [0.6, 0.2]]  # the first spikes at step 2, the second never
    _, found, steep = run(currents, 1.0, Dynamics(2), RateThrough(), 3, 5)
    assert found.tolist() == [[3, 0], [5, 0]]
    assert steep == 0


def test_rga_by_hand() -> None:
    """Mean currents -0.5, 0, 1, 2, 3 at V_th = 1: a half on 0..2; at V_th = 2 a quarter on 0..4."""
    means = torch.tensor([-0.5, 0.0, 1.0, 2.0, 3.0, 4.5])
    currents = torch.stack([means - 0.25, means + 0.25]).tolist()
    _, found, steep = run(currents, 1.0, Dynamics(2), RateGradient(), 2, 4)
    assert found.tolist() == [[0, 1, 1, 1, 0, 0], [0, 2, 2, 2, 0, 0]]
    assert steep == -(3 * 0 + 3 * 1 + 3 * 2)
    _, found, steep = run(currents, 2.0, Dynamics(2), RateGradient(), 2, 4)
    assert found.tolist() == [[0, 0.5, 0.5, 0.5, 0.5, 0], [0, 1, 1, 1, 1, 0]]
    assert steep == -1.5 * (0 + 0.5 + 1 + 1.5)


def test_rga_of_a_leaky_neuron_by_hand() -> None:
    """tau = 0.5: (1 - 0.2 + 0.1) / 1.5 = 0.6 on 0.5..2, and 0.2 on 0..0.5."""
    _, found, _ = run([[0.25, 0.5, 1.5, 2.5]], 1.0, Dynamics(1, 0.5), RateGradient(), 1)
    assert found[0].tolist() == pytest.approx([0.2, 0.6, 0.6, 0], rel=1e-6)


def test_hart_by_hand() -> None:
    """u = (0.25, -0.25), s = 0.75 twice, gradients (1, 10): (0.75 + 7.5) / 2 at both steps."""
    _, found, steep = run([1.25, 0.75], 1.0, Dynamics(2), TimeAveraged(), 1, 10)
    assert found.tolist() == [4.125, 4.125]
    assert steep == -8.25


def test_adaptive_widths_follow_each_sample_of_each_step() -> None:
    """u = (1, 3) has mean 2, so w = 1 at reach 0.5: exp(-1) / 2 and exp(-3) / 2.

    Ten times the membranes give a tenth of the slopes; other samples have no part in it.
    """
    u = torch.tensor([[[1.0, 3.0], [10.0, -30.0]]])
    slopes = Adaptive(0.5).slope(u)
    assert slopes[0, 0].tolist() == pytest.approx([math.exp(-1) / 2, math.exp(-3) / 2], rel=1e-6)
    torch.testing.assert_close(slopes[0, 1], slopes[0, 0] / 10)
    assert torch.equal(Adaptive(0.5).slope(u[:, :1]), slopes[:, :1])
    assert bool(Adaptive().slope(torch.zeros(2, 2, 3)).isfinite().all())


@pytest.mark.parametrize("dynamics", DYNAMICS, ids=str)
def test_rules_that_share_a_batch_do_to_each_sample_what_they_do_alone(dynamics: Dynamics) -> None:
    rules = (*FAMILIES, RateThrough(), RateGradient(), TimeAveraged(), Adaptive())
    draws = torch.Generator().manual_seed(1)
    which = torch.randint(len(rules), (24,), generator=draws)
    currents = torch.randn(4, 24, 5, generator=draws) + 0.3
    weights = torch.randn(4, 24, 5, generator=draws)

    def gradients(rule: Backward, rows: Tensor) -> tuple[Tensor, Tensor]:
        inputs = (currents[:, rows].requires_grad_(), torch.tensor(0.9).requires_grad_())
        spikes = spike_trains(*inputs, dynamics, rule)
        found = torch.autograd.grad((spikes * weights[:, rows]).sum(), inputs)
        return found[0], found[1]

    together, threshold = gradients(per_sample(rules, which), torch.arange(24))
    alone = [gradients(rules[int(k)], torch.tensor([i])) for i, k in enumerate(which)]
    assert torch.equal(together, torch.cat([found for found, _ in alone], 1))
    torch.testing.assert_close(threshold, sum(steep for _, steep in alone))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_membranes_are_summed_in_single_precision_at_least(dtype: torch.dtype) -> None:
    """1024 steps of 1/1024 reach one; sums in half precision would stick before."""
    currents = torch.full((1024, 1), 2.0**-10, dtype=dtype)
    spikes = spike_trains(currents, torch.tensor(1.0), Dynamics(1024), StraightThrough())
    assert spikes.dtype == torch.float32
    assert spikes[:, 0].nonzero().flatten().tolist() == [1023]


def test_settings_out_of_range_are_named() -> None:
    with pytest.raises(InputError, match="steps 0: "):
        Dynamics(0)
    for leak in (0.0, 1.1, math.nan):
        with pytest.raises(InputError, match=f"leak {leak}: "):
            Dynamics(leak=leak)
    for width in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(InputError, match=f"PiecewiseLinear: width is {width}"):
            PiecewiseLinear(width)
    with pytest.raises(InputError, match="Exponential: rate is 0"):
        Exponential(0.3, 0)
    with pytest.raises(InputError, match="RateGradient: low is -1"):
        RateGradient(-1)
