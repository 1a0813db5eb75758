"""The neuron family: three ways to write its recursion agree, and hand-computed traces hold."""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from math import floor
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from spikemorph.graph import Graph
from spikemorph.graph.grid import Grid
from spikemorph.layers.convolution import Convolution
from spikemorph.layers.ladder import Ladder, climb
from spikemorph.layers.readout import Readout
from spikemorph.spiking import AnalogFirstStep, Coding, DenseEngine, Neuron, SpikingNetwork
from spikemorph.spiking.neurons import BIF, IF, SNM, STBIF, Alphabet, burst, few_spikes, group, pow2
from spikemorph.spiking.reference import Membrane, fire, rest

many = settings(max_examples=80, deadline=None, derandomize=True)
Build = Callable[..., Any]
FAMILY = (
    IF(), IF(capped=False), SNM(), BIF(), STBIF(), burst(3), group(2), group(15), pow2(),
    few_spikes(4),
)  # fmt: skip


@dataclass(frozen=True)
class Scripted(Coding):
    """Every sample is (neuron, step): what each neuron receives at each step."""

    steps: int

    def lasts(self, grid: Grid) -> int | None:
        return self.steps

    def at(self, x: Tensor, step: int, grid: Grid) -> Tensor:
        now = torch.zeros_like(x)
        if step <= self.steps:
            now[..., step - 1] = x[..., step - 1]
        return now


def literal(
    op: Ladder, neuron: Neuron, currents: Tensor, gate: int = 0
) -> tuple[Tensor, list[Membrane]]:
    """Spikes (step, 1, channel), and the states after every step, from the V recursion."""
    state, spikes, states = rest(op, currents[0].shape), [], []
    for step, current in enumerate(currents):
        state, fired = fire(op, neuron, state, current, step - gate if step >= gate else None)
        spikes.append(fired)
        states.append(state)
    return torch.stack(spikes), states


def tracked(
    target: Callable[[int], int], shrink: Callable[[int, int, int], int], currents: list[int]
) -> list[int]:
    """Spikes from the tracker form: ``y = shrink(F(C) - S, C, S)``, ``S := S + y``."""
    total, tracer, spikes = 0, 0, []
    for current in currents:
        total += current
        spike = shrink(target(total) - tracer, total, tracer)
        tracer += spike
        spikes.append(spike)
    return spikes


def nearest_spike(neuron: Neuron, residual: int, step: int) -> int:
    """The spike by exhaustive search over the alphabet, the smaller one of two as near."""
    if neuron.alphabet is Alphabet.DESCENDING:
        unit = 2 ** max(0, neuron.bits - 1 - step)
        return unit if residual >= unit else 0
    if neuron.alphabet is Alphabet.POWERS:
        letters = [0] + [sign * 2**k for k in range(20) for sign in (1, -1)]
    else:
        letters = list(range(-(neuron.down or 0), (neuron.up or 0) + 1))
    return min(letters, key=lambda letter: (abs(residual - letter), abs(letter)))


@st.composite
def even_cases(draw: st.DrawFn) -> dict[str, Any]:
    """A rational threshold, a start, ends, and currents that often stop right at a rung."""
    threshold, scale = draw(st.integers(1, 40)), draw(st.integers(1, 9))
    start = draw(st.integers(-threshold, 2 * threshold))
    smin, smax = draw(st.integers(-6, 0)), draw(st.integers(1, 9))
    count = draw(st.integers(1, 24))
    currents, total = [], 0
    for _ in range(count):
        if draw(st.booleans()):
            level = draw(st.integers(smin - 1, smax + 2))
            rung = -((start - level * threshold) // scale)  # ceil((k theta - start) / scale)
            wish = rung - draw(st.integers(0, 1))
        else:
            wish = total + draw(st.integers(-60, 60))
        currents.append(wish - total)
        total = wish
    return {
        "threshold": threshold, "scale": scale, "start": start, "smin": smin, "smax": smax,
        "currents": currents,
    }  # fmt: skip


def line_of(case: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(case[key] for key in ("threshold", "scale", "start", "smin", "smax"))


@many
@given(case=even_cases(), neuron=st.sampled_from(FAMILY))
def test_potential_and_tracker_forms_send_the_same_spikes(
    case: dict[str, Any], neuron: Neuron, even_ladder: Build
) -> None:
    """Lemma 2, for all neurons: with exact fractions, a search, and the margin in the V form."""
    theta = Fraction(case["threshold"], case["scale"])
    begin = Fraction(case["start"], case["scale"])
    top = case["smax"] if neuron.capped else 10**9
    step = iter(range(len(case["currents"])))

    def target(total: int) -> int:
        return max(case["smin"], min(floor((total + begin) / theta), top))

    def shrink(residual: int, total: int, tracer: int) -> int:
        now = next(step)
        potential = begin + total - theta * tracer
        if residual < 0 and neuron.negative_margin and potential > -neuron.negative_margin * theta:
            return 0
        return nearest_spike(neuron, residual, now)

    currents = torch.tensor(case["currents"])[:, None, None]
    spikes, _ = literal(even_ladder(*line_of(case)), neuron, currents)
    assert spikes.flatten().tolist() == tracked(target, shrink, case["currents"])


@many
@given(case=even_cases())
def test_st_bif_is_the_published_recursion(case: dict[str, Any], even_ladder: Build) -> None:
    """SpikeZIP-TF eq. 1-3: +1 where V >= theta and S < Smax, -1 where V < 0 and S > Smin."""
    potential, tracer, wanted = Fraction(case["start"], case["scale"]), 0, []
    theta = Fraction(case["threshold"], case["scale"])
    for current in case["currents"]:
        potential += current
        spike = int(potential >= theta and tracer < case["smax"])
        spike -= int(potential < 0 and tracer > case["smin"])
        potential, tracer = potential - theta * spike, tracer + spike
        wanted.append(spike)
    currents = torch.tensor(case["currents"])[:, None, None]
    spikes, _ = literal(even_ladder(*line_of(case)), STBIF(), currents)
    assert spikes.flatten().tolist() == wanted


@many
@given(case=even_cases(), neuron=st.sampled_from(FAMILY), gate=st.integers(0, 5))
def test_nothing_is_lost(
    case: dict[str, Any], neuron: Neuron, gate: int, even_ladder: Build
) -> None:
    """Lemma 1, conservation: ``V + theta S = V0 + C`` after every step, gate closed or open."""
    op = even_ladder(*line_of(case))
    currents = torch.tensor(case["currents"])[:, None, None]
    _, states = literal(op, neuron, currents, gate)
    for state, total in zip(states, currents.cumsum(0), strict=True):
        held = state.potential + case["threshold"] * state.tracer
        assert torch.equal(held, case["start"] + case["scale"] * total)
        assert torch.equal(state.total, total)


@many
@given(
    rungs=st.lists(st.integers(-30, 30), min_size=1, max_size=12).map(sorted),
    low=st.integers(-5, 0),
    currents=st.lists(st.integers(-15, 15), min_size=1, max_size=24),
    neuron=st.sampled_from([STBIF(), group(3), pow2(), IF()]),
)
def test_uneven_ladders_follow_the_tracker_form(
    rungs: list[int], low: int, currents: list[int], neuron: Neuron
) -> None:
    """``F(C) = smin + #{k : C >= rung k}``, repeated rungs too."""
    smin = max(low, -len(rungs))
    op = Ladder(torch.tensor([rungs]), smin, smin + len(rungs), Fraction(1))
    spikes, _ = literal(op, neuron, torch.tensor(currents)[:, None, None])
    wanted = tracked(
        lambda total: smin + sum(total >= rung for rung in rungs),
        lambda residual, *_: (
            nearest_spike(neuron, residual, 0) if residual > 0 or neuron.down != 0 else 0
        ),
        currents,
    )
    assert spikes.flatten().tolist() == wanted


def scripted(chain: Build, ladder: Ladder, neuron: Neuron, currents: Tensor) -> SpikingNetwork:
    """A network of lone neurons that receive `currents` (sample, neuron, step)."""
    steps, peak = currents.shape[-1], int(currents.abs().max()) + 1
    ones = torch.ones(currents.shape[1], 1, steps, dtype=torch.int8)
    graph: Graph = chain(
        tuple(currents.shape[1:]),
        Convolution(ones, None, (1,), ((0, 0),), (1,), groups=len(ones)),
        ladder,
        Readout(torch.ones(1, dtype=torch.int64), Fraction(1)),
        grid=Grid(Fraction(1), -peak, peak),
    )
    return SpikingNetwork(graph, (("n1", neuron),), Scripted(steps))


@settings(max_examples=40, deadline=None, derandomize=True)
@given(cases=st.lists(even_cases(), min_size=3, max_size=3), neuron=st.sampled_from(FAMILY))
def test_the_fast_scan_equals_the_recursion(
    cases: list[dict[str, Any]], neuron: Neuron, even_ladder: Build, chain: Build
) -> None:
    """Three neurons with ladders of their own, one channel each, in one layer."""
    smin, smax = cases[0]["smin"], cases[0]["smax"]
    columns = [[case[key] for case in cases] for key in ("threshold", "scale", "start")]
    op = even_ladder(*columns, smin, smax)
    steps = max(len(case["currents"]) for case in cases)
    padded = [case["currents"] + [0] * (steps - len(case["currents"])) for case in cases]
    currents = torch.tensor(padded)  # (neuron, step)
    network = scripted(chain, op, neuron, currents[None])
    found = DenseEngine(network).run(currents[None].float(), steps, record=True)
    wanted, _ = literal(op, neuron, currents.t()[:, None, :])
    assert torch.equal(found.trains["n1"][:, 0, :, 0], wanted[:, 0])


@many
@given(
    case=even_cases(),
    neuron=st.sampled_from([STBIF(), group(2), group(15), pow2()]),
    seed=st.integers(0, 10**6),
)
def test_order_size_and_delay_of_events_do_not_matter(
    case: dict[str, Any], neuron: Neuron, seed: int, even_ladder: Build
) -> None:
    """Theorem 2, confluence: shuffled, split and delayed events settle to ``F(sum)``."""
    op, generator = even_ladder(*line_of(case)), torch.Generator().manual_seed(seed)
    events = torch.tensor(case["currents"])
    halves = torch.div(events, 2, rounding_mode="floor")
    split = torch.cat([halves, events - halves])
    times = torch.randint(0, 40, split.shape, generator=generator)
    moved = torch.zeros(40, dtype=torch.int64).index_add(0, times, split)
    quiet = torch.zeros(case["smax"] - case["smin"] + 8, dtype=torch.int64)
    _, states = literal(op, neuron, torch.cat([moved, quiet])[:, None, None])
    wanted = climb(op, events.sum().reshape(1, 1))
    assert torch.equal(states[-1].tracer, wanted)


@pytest.mark.parametrize(
    ("neuron", "smax", "wanted"),
    [
        pytest.param(STBIF(), 1, [1, 0, 0, 0, -1, 0], id="st-bif"),
        pytest.param(BIF(), 1, [1, 1, 0, -1, -1, 0], id="bif"),
        pytest.param(IF(), 1, [1, 0, 0, 0, 0, 0], id="if-capped"),
        pytest.param(IF(capped=False), 1, [1, 1, 0, 0, 0, 0], id="if"),
        pytest.param(SNM(), 1, [1, 1, 0, 0, -1, 0], id="snm"),
        pytest.param(burst(5), 1, [1, 3, 0, 0, 0, 0], id="burst"),
        pytest.param(group(15), 3, [1, 2, -1, -1, -1, 0], id="group"),
    ],
)
def test_hand_computed_traces(
    neuron: Neuron, smax: int, wanted: list[int], even_ladder: Build, chain: Build, in_both: Build
) -> None:
    """theta = 4, V0 = 2, currents +5 +9 -7 -4 -4 0; V before firing -> after.

    st-bif, cap 1:   7->3, 12->12 (cap), 5->5, 1->1, -3->1 (retracts), 1.
    bif, no cap:     7->3, 12->8, 1->1, -3->1 (retracts), -3->1 (retracts), 1.
    if, cap 1:       7->3, 12->12, 5->5, 1->1, -3->-3 (cannot retract), -3.
    if, no cap:      7->3, 12->8, 1->1, -3->-3, -7->-7, -7.
    snm:             7->3, 12->8, 1->1, -3->-3 (above -theta), -7->-3 (below it), -3.
    burst 5, no cap: 7->3, 12->0 (three spikes), -7, -11, -15, -15.
    group 15, cap 3: 7->3, 12->4 (two, S = 3), -3->1, -3->1, -3->1 (one back each), 1.
    """
    op = even_ladder(4, 1, 2, 0, smax)
    currents = torch.tensor([5, 9, -7, -4, -4, 0])
    spikes, _ = literal(op, neuron, currents[:, None, None])
    assert spikes.flatten().tolist() == wanted
    trace = in_both(
        scripted(chain, op, neuron, currents[None, None]), currents[None, None].float(), 6
    )
    assert trace.trains["n1"].flatten().tolist() == wanted


def test_pow2_by_hand(even_ladder: Build, chain: Build, in_both: Build) -> None:
    """theta = 4, V0 = 2, cap 7, currents +26 0 0 -28 0 0.

    V = 28, r = 7, nearest power 8: V = -4, S = 8. r = -1: V = 0, S = 7. Silent. V = -28, r = -7,
    nearest -8: V = 4, S = -1. r = 1: V = 0, S = 0. Silent.
    """
    op = even_ladder(4, 1, 2, 0, 7)
    currents = torch.tensor([26, 0, 0, -28, 0, 0])
    trace = in_both(
        scripted(chain, op, pow2(), currents[None, None]), currents[None, None].float(), 6
    )
    assert trace.trains["n1"].flatten().tolist() == [8, -1, 0, -8, 1, 0]


def test_few_spikes_by_hand(even_ladder: Build, chain: Build, in_both: Build) -> None:
    """theta = 4, V0 = 2, current +20: F = floor(22 / 4) = 5 = 101 in binary, largest digit first.

    Step 1, unit 4: r = 5, fires, V = 6. Step 2, unit 2: r = 1, silent. Step 3, unit 1: fires, V = 2.
    """
    op = even_ladder(4, 1, 2, 0, 7)
    currents = torch.tensor([20, 0, 0, 0])
    network = scripted(chain, op, few_spikes(3), currents[None, None])
    assert in_both(network, currents[None, None].float(), 4).trains["n1"].flatten().tolist() == [
        4, 0, 1, 0,
    ]  # fmt: skip


def test_a_silent_digit_is_not_the_end(even_ladder: Build, chain: Build, in_both: Build) -> None:
    """F = floor(6 / 4) = 1 = 001: two silent steps, then the spike; settled at step 3, not before."""
    op = even_ladder(4, 1, 2, 0, 7)
    graph = scripted(chain, op, few_spikes(3), torch.tensor([[[4]]])).graph
    network = SpikingNetwork(graph, (("n1", few_spikes(3)),), AnalogFirstStep())
    trace = in_both(network, torch.full((1, 1, 1), 4.0), 6)
    assert trace.trains["n1"].flatten().tolist() == [0, 0, 1, 0, 0, 0]
    assert trace.settled.tolist() == [3]


def test_smallest_case_in_which_integrate_and_fire_is_wrong(
    even_ladder: Build, chain: Build, in_both: Build
) -> None:
    """Theorem 5: theta = 2, V0 = 1, currents +2 -2. F(0) = floor(1 / 2) = 0.

    IF: V = 3 -> 1, then -1 for ever: one spike too many. ST-BIF: V = 3 -> 1, -1 -> 1: +1, -1.
    """
    op = even_ladder(2, 1, 1, 0, 3)
    currents = torch.tensor([[[2, -2] + [0] * 28]])
    ends = {}
    for neuron in (IF(), STBIF()):
        trace = in_both(scripted(chain, op, neuron, currents), currents.float(), 30)
        ends[neuron.name] = trace.trains["n1"].flatten().tolist()
    assert ends["if"] == [1] + [0] * 29
    assert ends["st-bif"] == [1, -1] + [0] * 28
    assert int(climb(op, torch.zeros(1, 1, dtype=torch.int64))) == 0
