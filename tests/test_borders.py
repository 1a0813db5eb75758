"""Borders of the proofs: each bound holds at its last value, and is refused one further."""

import math
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest
import torch
from torch import Tensor

from spikemorph.convert import certify
from spikemorph.graph import Graph, GraphError, InputError
from spikemorph.graph.grid import Grid
from spikemorph.graph.interpret import run_integers
from spikemorph.layers.affine import ScaleShift
from spikemorph.layers.ladder import Ladder, climb
from spikemorph.layers.linear import Linear
from spikemorph.layers.ranges import Range
from spikemorph.layers.readout import Readout
from spikemorph.layers.staircase import Staircase, _proved, staircase
from spikemorph.spiking import DenseEngine, ReferenceEngine, SpikingNetwork
from spikemorph.spiking.bounds import ranges
from spikemorph.spiking.coding import BitPlane, Coding, Repeated, Thermometer
from spikemorph.spiking.module import SpikingLayers
from spikemorph.spiking.neurons import SNM, STBIF, group, pow2
from spikemorph.spiking.settling import WHOLE, membrane_peak
from spikemorph.spiking.trace import settled_at

Build = Callable[..., Any]
READ = Readout(torch.ones(1, dtype=torch.int64), Fraction(1))
TOP = 7  # of the neurons ahead


@pytest.fixture
def swinging(chain: Build) -> Callable[..., SpikingNetwork]:
    """A network whose last sum is `first` for six steps and `then` from the seventh on.

    n1 counts 1, 2, .. 7; when it passes 6, n3 sends 7 in one channel and takes 7 back in the other,
    at once: both bounds of the sum behind it, one after the other.
    """

    def build(first: int, then: int, last: Ladder) -> SpikingNetwork:
        counts = Ladder(torch.arange(1, TOP + 1)[None], 0, TOP, Fraction(1))
        turn = Linear(torch.tensor([[16], [-16]]), torch.tensor([-96, 96 + TOP]))
        ends = Linear(torch.tensor([[then // TOP, first // TOP]]), None)
        steps = (Linear(torch.tensor([[1]]), None), counts, turn, counts, ends, last, READ)
        graph: Graph = chain((1,), *steps, grid=Grid(Fraction(1), 0, TOP))
        at_once = group(100)
        return SpikingNetwork(graph, (("n1", STBIF()), ("n3", at_once), ("n5", at_once)))

    return build


def potentials(network: SpikingNetwork, x: Tensor, steps: int) -> list[int]:
    """``V = start + scale C - threshold S`` of n5, before and after each step, in unbounded numbers."""
    trains = ReferenceEngine(network).run(x, steps, record=True).trains
    op, ends = network.graph["n5"].op, network.graph["n4"].op
    assert isinstance(op, Ladder) and op.line is not None and isinstance(ends, Linear)
    start, scale, threshold = (
        int(t.item()) for t in (op.line.start, op.line.scale, op.line.threshold)
    )
    found, sent = [], 0
    for step in range(steps):
        before = trains["n3"][: step + 1].sum(0)[0]
        total = sum(w * s for w, s in zip(ends.weight[0].tolist(), before.tolist(), strict=True))
        for _ in range(2):
            found.append(start + scale * total - threshold * sent)
            sent += int(trains["n5"][step].item()) * (len(found) % 2)
    return found


FULL = torch.full((1, 1), float(TOP))
# (first sum, then, scale, threshold, smin, smax): the start makes up what is missing to 2**63 - 1.
SWINGS = {
    "the sum weighs most": (-TOP << 20, TOP << 20, 1 << 40, 1, -1, 1),
    "the tracer weighs most": (-TOP << 22, TOP << 18, 1 << 38, 1 << 61, -2, 1),
    "the start weighs most": (-TOP << 18, TOP << 10, 1 << 42, 1 << 60, -1, 1),
    "it falls from the top": (TOP << 22, -TOP << 21, 1 << 38, 1 << 60, 0, 2),
}


@pytest.mark.parametrize("case", SWINGS)
def test_a_membrane_is_certified_up_to_63_bits_and_no_further(
    case: str, swinging: Callable[..., SpikingNetwork], even_ladder: Build
) -> None:
    """Without any one of the bound's terms the second network would be certified; it computes wrongly."""
    first, then, scale, threshold, smin, smax = SWINGS[case]
    tracer = smin if then > 0 else smax
    sign = 1 if then > 0 else -1
    start = sign * (WHOLE - 1) - scale * then + threshold * tracer
    within, beyond, wrong = (
        swinging(first, then, even_ladder(threshold, scale, start + slip * sign, smin, smax))
        for slip in (0, 1, 2)
    )
    proof = certify(within)
    assert proof.level == "A" and proof.steps_required == 7
    wanted = run_integers(within.graph, FULL.long())
    for engine in (ReferenceEngine, DenseEngine):
        assert torch.equal(engine(within).run(FULL, 9).outputs[-1], wanted)
    assert max(map(abs, potentials(within, FULL, 9))) == WHOLE - 1
    bounds = ranges(within)
    op = within.graph["n5"].op
    assert isinstance(op, Ladder)
    assert membrane_peak(op, group(1), bounds["n4"], bounds["n5"]) == WHOLE - 1
    assert certify(beyond).refusals == ("node 'n5': its membrane potential may pass 63 bits",)
    with pytest.raises(GraphError, match="node 'n5': its membrane potential may pass 63 bits"):
        DenseEngine(beyond)
    assert not torch.equal(ReferenceEngine(wrong).run(FULL, 9).outputs[-1], wanted)


def test_the_way_back_from_an_overshoot_counts_in_the_steps(chain: Build) -> None:
    """Levels 7, 7, 0, 10: tracer 8, 7, -1, and then 11 are missing, 8 + 2 + 1, where 10 are two steps.

    n1 counts 1, 2, 3, 4; n3 says at once whether it has reached 1, 3, 4.
    """
    counts = Ladder(torch.arange(1, 5)[None], 0, 4, Fraction(1))
    passed = Ladder(torch.tensor([[1], [3], [4]]), 0, 1, Fraction(1))
    levels = Ladder(torch.arange(1, 11)[None], 0, 10, Fraction(1))
    each, total = torch.ones(3, 1, dtype=torch.int64), torch.tensor([[7, -7, 10]])
    steps = (
        Linear(each[:1], None),
        counts,
        Linear(each, None),
        passed,
        Linear(total, None),
        levels,
    )
    graph = chain((1,), *steps, READ, grid=Grid(Fraction(1), 0, 4))
    network = SpikingNetwork(graph, (("n1", STBIF()), ("n3", STBIF()), ("n5", pow2())))
    assert certify(network).steps_required == 4 + 2
    x = torch.full((1, 1), 4.0)
    trace = ReferenceEngine(network).run(x, 6, record=True)
    assert trace.trains["n5"].flatten().tolist() == [8, -1, -8, 8, 2, 1]
    assert torch.equal(trace.outputs[-1], run_integers(graph, x.long()))


def test_a_margin_counts_with_the_potential_it_is_compared_with(even_ladder: Build) -> None:
    """``2 V <= -3 theta`` for a margin of 3/2: V within -50 .. 25, theta = 10."""
    op, source = even_ladder(10, 2, 5, 0, 3), Range.of(-10, 10)
    tracer = Range.of(0, 3)
    assert membrane_peak(op, STBIF(), source, tracer) == 2 * 10 - 5 + 10 * 3
    assert membrane_peak(op, SNM(), source, tracer) == 2 * 10 - 5 + 10 * 3 + 10
    odd = replace(SNM(), negative_margin=Fraction(3, 2))
    assert membrane_peak(op, odd, source, tracer) == 2 * (2 * 10 - 5 + 10 * 3) + 3 * 10


def wide(chain: Build, even_ladder: Build, weight: int) -> SpikingNetwork:
    op = Linear(torch.tensor([[weight]]), None)
    ladder = even_ladder(1 << 50, 1, 0, 0, 3)
    graph = chain((1,), op, ladder, READ, grid=Grid(Fraction(1), -1, 1))
    return SpikingNetwork(graph, (("n1", pow2()),))


def test_sums_are_certified_where_their_differences_keep_53_bits(
    chain: Build, even_ladder: Build
) -> None:
    """Sums within +-(2**52 - 1) change by less than 2**53; one more is refused, yet runs exactly."""
    within, beyond = (wide(chain, even_ladder, 2**52 - 1 + slip) for slip in (0, 1))
    assert certify(within).level == "A"
    x = torch.tensor([[1.0], [-1.0]])
    wanted = run_integers(within.graph, x.long())
    assert torch.equal(DenseEngine(within).run(x, 4).outputs[-1], wanted)
    assert certify(beyond).refusals == ("node 'n0': its sums may pass 53 bits",)
    assert DenseEngine(within).compiled.kinds["n0"] is torch.float64
    engine = DenseEngine(beyond)
    assert engine.compiled.kinds["n0"] is torch.int64
    assert torch.equal(engine.run(x, 4).outputs[-1], run_integers(beyond.graph, x.long()))
    logits = within.readout.real(wanted)
    assert torch.equal(SpikingLayers(within, 4)(x), logits)  # its numbers are float64 alone
    with pytest.raises(GraphError, match="'n0': its sums may reach .* beyond the 53 bits"):
        SpikingLayers(beyond, 4)


def test_sums_beyond_all_numbers_are_refused_too(chain: Build, even_ladder: Build) -> None:
    """Bounds that would pass the largest float, and then meet a factor of zero."""
    huge = [ScaleShift(torch.tensor(2**62), torch.tensor(0))] * 18
    none = ScaleShift(torch.tensor(0), torch.tensor(0))
    grid = Grid(Fraction(1), -1, 1)
    graph = chain((1,), *huge, none, even_ladder(1, 1, 0, 0, 3), READ, grid=grid)
    network = SpikingNetwork(graph, (("n19", pow2()),))
    for bound in ranges(network).values():
        assert all(map(math.isfinite, (*bound.low.tolist(), *bound.high.tolist(), bound.load)))
    proof = certify(network)
    assert proof.level is None
    assert proof.refusals == tuple(f"node 'n{k}': its sums may pass 53 bits" for k in range(18))


# Without the margin, a slope of 1 / theta in float32 passes at both sides of every rung of these
# ladders when it is evaluated in float64, and is wrong when product and sum are rounded one by one.
TREACHEROUS = (26417, 26905, 26997, 27883, 28876, 29091)


def rounded_twice(slope: Tensor, offset: Tensor, sums: Tensor) -> Tensor:
    return torch.floor(sums.to(slope.dtype) * slope + offset)


@pytest.mark.parametrize("theta", [*TREACHEROUS, 977, 2000, 5003])
def test_a_staircase_keeps_clear_of_what_roundings_can_move(theta: int, even_ladder: Build) -> None:
    """Proved slopes give the level fused or not; treacherous ones are not taken."""
    op, bound = even_ladder(theta, 1, theta // 2, 0, 255), Range.of(-theta, 257 * theta)
    sums = torch.cat([torch.arange(-9, 9), *(op.rungs[0] + k for k in (-2, -1, 0, 1))])[:, None]
    wanted = climb(op, sums)
    single = (torch.tensor([1 / theta]), torch.tensor([(theta // 2 + 0.5) / theta]))
    plain_is_wrong = bool((rounded_twice(*single, sums).clamp(0, 255) != wanted).any())
    stairs = staircase(op, bound, torch.float32, capped=True)
    assert stairs.slope is not None and stairs.offset is not None
    if theta in TREACHEROUS:
        assert plain_is_wrong and stairs.slope.dtype is torch.float64
    twice = rounded_twice(stairs.slope, stairs.offset, sums)
    fused = torch.floor(
        (sums.double() * stairs.slope.double() + stairs.offset.double()).to(stairs.slope.dtype)
    )
    for found in (twice, fused, stairs(sums)):
        assert torch.equal(found.clamp(0, 255).long(), wanted)


@pytest.mark.parametrize("aside", [-0.4999, 0.4999])
def test_a_staircase_near_a_rung_on_either_side_is_not_proved(
    aside: float, even_ladder: Build
) -> None:
    """Moved by just less than half a sum's worth, it is right where nothing is rounded only."""
    op, bound = even_ladder(503, 1, 251, 0, 255), Range.of(0, 255 * 503)
    assert op.rungs is not None
    for offset, safe in ((251.5, True), (251.5 + aside, False)):
        fast = Staircase(op, torch.tensor([1 / 503]), torch.tensor([offset / 503]), True)
        assert _proved(fast, op.rungs, bound) is safe


def test_a_sample_that_never_falls_silent_has_not_settled() -> None:
    """Activity by step (rows) of five samples."""
    active = [
        [True, True, True, False, True],
        [True, True, False, False, False],
        [True, False, True, False, False],
    ]
    assert settled_at(torch.tensor(active)).tolist() == [-1, 2, 1, 0, 1]


@pytest.mark.parametrize("steps", [1, 6, 7, 8])
def test_a_run_that_ends_before_a_silent_step_says_so(
    steps: int, swinging: Callable[..., SpikingNetwork], even_ladder: Build
) -> None:
    """Something happens at each of seven steps; only the eighth is silent."""
    network = swinging(-TOP, TOP, even_ladder(1, 1, 0, -1, 1))
    for engine in (ReferenceEngine, DenseEngine):
        assert engine(network).run(FULL, steps).settled.tolist() == [7 if steps == 8 else -1]


@pytest.mark.parametrize("ends", [(0.0, 1.0), (-1.0, 1.0), (0.0, 255.0), (-0.4242, 2.8215)])
@pytest.mark.parametrize("bits", [4, 8, 16, 24])
def test_the_grid_point_is_the_nearest_in_exact_arithmetic(
    ends: tuple[float, float], bits: int
) -> None:
    """Grid points themselves, and numbers just beside the middles between them, against fractions.

    As said of the grid: 2**-22 of the range below a middle counts as the middle, never more than a
    quarter step.
    """
    grid = Grid.of(*ends, bits=bits)
    draw = torch.Generator().manual_seed(bits)
    points = torch.randint(
        grid.low + 1, grid.high, (150,), generator=draw
    )  # inside what is declared
    points = torch.cat([points, torch.tensor([0, grid.high - 1])])
    assert torch.equal(
        grid.to_integers(grid.to_values(points, torch.float64)[:, None])[:, 0], points
    )
    spare = min(2.0**-22 * float(grid.interval.width / grid.step), 0.25)
    for beside, up in ((1e-6, 1), (-0.1 * spare, 1), (-1.1 * spare - 1e-6, 0)):
        x = (points.double() + 0.5 + beside) * float(grid.step)
        wanted = [
            min(max(math.floor(Fraction(v) / grid.step) + up, grid.low), grid.high)
            for v in x.tolist()
        ]
        assert grid.to_integers(x[:, None])[:, 0].tolist() == wanted


@pytest.mark.parametrize("coding", [Thermometer(k) for k in (1, 2, 3, 8, 50)] + [
    BitPlane(), Repeated(3), Repeated(50)])  # fmt: skip
@pytest.mark.parametrize(("low", "high"), [(-9, 2), (-2, 9), (0, 1), (-1, 0), (-128, 127)])
def test_a_coding_brings_all_of_every_input_in_time(coding: Coding, low: int, high: int) -> None:
    """All integers of signed grids, on either side the longer one; after `lasts` nothing comes."""
    grid, x = Grid(Fraction(1), low, high), torch.arange(low, high + 1)
    lasts = coding.lasts(grid)
    assert lasts is not None
    pieces = torch.stack([coding.at(x, step, grid) for step in range(1, lasts + 3)])
    assert torch.equal(pieces[:lasts].sum(0), x)
    assert not bool(pieces[lasts:].any())
    assert bool((pieces.cumsum(0).abs() <= x.abs()).all())  # sums keep their bounds meanwhile


@pytest.mark.parametrize("coding", [Repeated, Thermometer])
def test_an_input_in_no_pieces_is_refused(coding: type[Repeated] | type[Thermometer]) -> None:
    """One piece is the least there is, and brings everything at once."""
    for pieces in (0, -1):
        with pytest.raises(InputError, match="choose 1 or more"):
            coding(pieces)
    assert coding(1).at(torch.tensor([-3, 5]), 1, Grid(Fraction(1), -3, 5)).tolist() == [-3, 5]


@pytest.mark.parametrize("pieces", [1, 2, 3, 4, 9])
def test_a_thermometer_shows_equal_events_and_then_a_remainder(pieces: int) -> None:
    """Events of ``ceil(9 / pieces)``: as many as fit, then what is left, then nothing."""
    grid, x = Grid(Fraction(1), -9, 2), torch.arange(-9, 3)
    event = -(-9 // pieces)
    for step in range(1, pieces + 1):
        shown = Thermometer(pieces).at(x, step, grid)
        left = (x.abs() - (step - 1) * event).clamp(min=0)
        assert torch.equal(shown, x.sign() * torch.minimum(left, torch.tensor(event)))
