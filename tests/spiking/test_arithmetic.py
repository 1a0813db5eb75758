"""Exact numbers: accumulator bounds, number types, probes, staircases, repeatable results."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from spikemorph.convert import certify, to_spiking
from spikemorph.graph import Graph, GraphError
from spikemorph.graph.grid import Grid
from spikemorph.graph.interpret import run_integers
from spikemorph.graph.tables import on_integers, on_ranges
from spikemorph.layers.convolution import Convolution
from spikemorph.layers.ladder import Ladder, Line, climb
from spikemorph.layers.linear import Linear
from spikemorph.layers.ranges import Range, bits, total, weighted
from spikemorph.layers.readout import Readout
from spikemorph.layers.shape import Reshape
from spikemorph.layers.staircase import staircase
from spikemorph.spiking import DenseEngine, ReferenceEngine, SpikingNetwork
from spikemorph.spiking.bounds import ranges
from spikemorph.spiking.neurons import STBIF, nearest_power, nearest_powers

Build = Callable[..., Any]
NONE = ((0, 0), (0, 0))


@pytest.mark.parametrize(
    ("low", "high", "width"), [(0, 1, 2), (-8, 7, 4), (0, 8, 5), (-9, 0, 5), (-1, 0, 1)]
)
def test_bits_of_an_accumulator(low: int, high: int, width: int) -> None:
    """Two's complement: w bits hold -2**(w-1) .. 2**(w-1) - 1, and w is the least that does."""
    assert bits(Range.of(low, high)) == width
    assert -(2 ** (width - 1)) <= low and high < 2 ** (width - 1)
    if width > 1:
        assert low < -(2 ** (width - 2)) or high >= 2 ** (width - 2)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10**6), groups=st.sampled_from((1, 2)), low=st.integers(-9, 0))
def test_the_worst_input_attains_the_bound(seed: int, groups: int, low: int) -> None:
    """Each row's extreme is reached by the input that follows the signs of its weights."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randint(-7, 8, (4, 4 // groups, 3, 3), generator=generator)
    bias = torch.randint(0, 20, (4,), generator=generator)
    op = Convolution(weight, bias, (1, 1), NONE, (1, 1), groups)
    bound = on_ranges[Convolution](op, Range.of(low, 11))
    reached = []
    for row in range(4):
        first = (row // (4 // groups)) * (4 // groups)
        x = torch.zeros(2, 4, 3, 3, dtype=torch.int64)
        part = slice(first, first + 4 // groups)
        x[0, part] = torch.where(weight[row] > 0, 11, low)
        x[1, part] = torch.where(weight[row] < 0, 11, low)
        reached.append(on_integers[Convolution](op, x)[:, row, 0, 0])
    highest, lowest = torch.stack(reached, 1).double()
    assert torch.equal(highest, bound.high)
    assert torch.equal(lowest, (bound.low + bias).clamp(max=0)) or bool((lowest >= bound.low).all())
    no_bias = weighted(weight, Range.of(low, 11), groups, None)
    assert torch.equal(lowest - bias, no_bias.low)


def test_a_sum_is_bounded_by_the_sum_of_bounds() -> None:
    """One bound for all channels and one for each: [-1, 2] + [(-3, 4), (-5, 6)]."""
    each = Range(torch.tensor([-3.0, -5.0]).double(), torch.tensor([4.0, 6.0]).double(), 9.0)
    both = total([Range.of(-1, 2), each])
    assert both.low.tolist() == [-4, -6]
    assert both.high.tolist() == [6, 8]
    assert both.load == 11


def wide_conv(peak: int) -> Convolution:
    generator = torch.Generator().manual_seed(peak)
    weight = torch.randint(-peak, peak + 1, (8, 4, 3, 3), generator=generator)
    return Convolution(weight, None, (1, 1), ((1, 1), (1, 1)), (1, 1))


def convolutional(even_ladder: Build, chain: Build) -> tuple[SpikingNetwork, Tensor]:
    """Two convolutions and a linear layer; sums of up to some hundred thousand."""
    generator = torch.Generator().manual_seed(1)
    graph: Graph = chain(
        (4, 6, 6),
        wide_conv(90),
        even_ladder(3001, 1, 1500, 0, 63),
        replace(wide_conv(80), weight=torch.randint(-80, 81, (8, 8, 3, 3), generator=generator)),
        even_ladder(2500, 1, 1250, 0, 63),
        Reshape((288,)),
        Linear(torch.randint(-90, 91, (5, 288), generator=generator), None),
        Readout(torch.ones(1, dtype=torch.int64), Fraction(1)),
        grid=Grid(Fraction(1), 0, 63),
    )
    x = torch.randint(0, 64, (8, 4, 6, 6), generator=generator)
    return to_spiking(graph), x


def test_the_engine_stays_exact_where_products_round(
    even_ladder: Build, chain: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With every float32 product rounded to bfloat16 the engine must fall back, not be wrong."""
    network, x = convolutional(even_ladder, chain)
    wanted = run_integers(network.graph, x)
    steps = certify(network).steps_required
    assert steps is not None
    for op in (Convolution, Linear):
        monkeypatch.setattr(
            op,
            "products",
            lambda self, x, exact=op.products: (
                exact(self, x).bfloat16().to(x) if x.dtype is torch.float32 else exact(self, x)
            ),
        )
    assert torch.equal(DenseEngine(network).run(x.float(), steps).outputs[-1], wanted)


@pytest.mark.parametrize("sign", [-1, 1])
def test_the_nearest_power_by_bits_is_the_nearest_power(sign: int) -> None:
    """All residuals that a ladder of 65536 levels can give, in float32."""
    sizes = torch.arange(0, 2**17 + 1)
    wanted = torch.tensor([0, *(sign * nearest_power(n) for n in range(1, 2**17 + 1))])
    assert torch.equal(nearest_powers((sign * sizes).float()).long(), wanted)


@settings(max_examples=80, deadline=None, derandomize=True)
@given(
    threshold=st.integers(1, 3000),
    scale=st.integers(1, 200),
    start=st.integers(-5000, 5000),
    smin=st.integers(-20, 0),
    smax=st.integers(1, 70),
    kind=st.sampled_from((torch.float32, torch.int64)),
)
def test_the_staircase_is_the_ladder(
    threshold: int, scale: int, start: int, smin: int, smax: int, kind: torch.dtype,
    even_ladder: Build,
) -> None:  # fmt: skip
    """For every integer within the bound, whichever way was proved."""
    op = even_ladder([threshold, threshold + 1], scale, [start, -start], smin, smax)
    sums = torch.arange(-4000, 4001)[:, None].expand(-1, 2)
    stairs = staircase(op, Range.of(-4000, 4000), kind, capped=True)
    assert torch.equal(stairs(sums.to(kind)).long(), climb(op, sums))


def test_a_staircase_that_cannot_be_proved_compares_rungs() -> None:
    """Rungs moved off their line by one at one place: no slope fits, the ladder still holds."""
    line = Line(torch.tensor([7]), torch.tensor([1]), torch.tensor([3]))
    rungs = line.rungs(0, 15)
    rungs[0, 5] += 1
    op = Ladder(rungs, 0, 15, Fraction(1), line)
    stairs = staircase(op, Range.of(-50, 200), torch.float32, capped=True)
    assert stairs.slope is None
    sums = torch.arange(-50, 201)[:, None]
    assert torch.equal(stairs(sums.float()).long(), climb(op, sums))


def test_the_proof_leaves_room_for_other_roundings(even_ladder: Build) -> None:
    """A fused multiply-add, a product rounded first, and float64 give one level, for proved stairs."""
    op = even_ladder([977, 1009, 1500], 3, [488, 500, 750], 0, 255)
    stairs = staircase(op, Range.of(-(2**18), 2**18), torch.float32, capped=True)
    assert stairs.slope is not None and stairs.offset is not None
    slope, offset = stairs.slope, stairs.offset
    places = torch.cat([torch.arange(-5, 1000), *(r + k for r in op.rungs for k in (-1, 0))])
    x = places[:, None].to(slope.dtype)
    separate = (x * slope) + offset
    fused = (x.double() * slope.double() + offset.double()).to(slope.dtype)
    wanted = climb(op, places[:, None].expand(-1, 3))
    for value in (separate, fused):
        assert torch.equal(value.floor().clamp(0, 255).long(), wanted)


def test_bounds_of_each_channel_with_a_ladder_for_all(even_ladder: Build) -> None:
    op = even_ladder(7, 1, 3, 0, 15)
    low, high = torch.tensor([-9.0, 0, -50]).double(), torch.tensor([0.0, 80, 200]).double()
    stairs = staircase(op, Range(low, high, 200.0), torch.float32, capped=True)
    sums = torch.arange(-50, 201)[:, None].clamp(low, high).long()
    assert torch.equal(stairs(sums.float()).long(), climb(op, sums))


@pytest.mark.parametrize("rows", [1, 3])
def test_long_ladders_search_any_layout(rows: int, even_ladder: Build) -> None:
    """Binary search beyond 64 rungs, sums transposed in memory: as one comparison per rung."""
    op = even_ladder(list(range(5, 5 + rows)), 1, 2, 0, 200)
    sums = torch.arange(-30, 30 * 3 * 5 - 30).reshape(5, 30, 3).transpose(1, 2)
    assert not sums.is_contiguous()
    wanted = (sums[..., None] >= op.rungs[:, None].expand(3, 1, -1)).sum(-1)
    assert torch.equal(climb(op, sums), wanted)


def test_a_membrane_beyond_63_bits_is_refused(even_ladder: Build, chain: Build) -> None:
    """Sums of 44 bits times a line's scale of 2**20: the V form would wrap around."""
    graph: Graph = chain(
        (1,),
        Linear(torch.tensor([[2**20]]), None),
        even_ladder(2**40, 2**20, 0, 0, 3),
        Readout(torch.ones(1, dtype=torch.int64), Fraction(1)),
        grid=Grid(Fraction(1), 0, 2**24),
    )
    network = to_spiking(graph)
    proof = certify(network)
    assert proof.level is None
    assert proof.refusals == ("node 'n1': its membrane potential may pass 63 bits",)
    with pytest.raises(GraphError, match="node 'n1'"):
        DenseEngine(network)


def test_bounds_hold_for_what_a_ladder_overshoots(even_ladder: Build, chain: Build) -> None:
    """Powers of two on 0..63: 49 is met with 64, so the tracer stays within -15..78."""
    network, _ = convolutional(even_ladder, chain)
    bound = ranges(network)["n1"]
    assert (bound.low.item(), bound.high.item()) == (-15, 78)
    capped = ranges(to_spiking(network.graph, STBIF()))["n1"]
    assert (capped.low.item(), capped.high.item()) == (0, 63)


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize("engine", [ReferenceEngine, DenseEngine])
def test_results_repeat_on_any_number_of_threads(
    engine: Any, even_ladder: Build, chain: Build, threads: Callable[[int], None]
) -> None:
    network, x = convolutional(even_ladder, chain)
    traces = []
    for count in (1, 1, 2):
        threads(count)
        traces.append(engine(network).run(x.float(), 12, record=True))
    for trace in traces[1:]:
        assert torch.equal(trace.outputs, traces[0].outputs)
        assert torch.equal(trace.settled, traces[0].settled)
        assert all(torch.equal(trace.trains[n], t) for n, t in traces[0].trains.items())
