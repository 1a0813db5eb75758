"""What each layer computes on real values, and that its integer rows say the same."""

import itertools
import math
import random
from fractions import Fraction
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from spikemorph.graph import Op
from spikemorph.graph.records import _KINDS
from spikemorph.graph.tables import on_increments, on_integers, on_ranges
from spikemorph.layers.activation import (
    Activation,
    Clip,
    LeakyReLU,
    Relay,
    ReLU,
    Sigmoid,
    Tanh,
    logarithm,
)
from spikemorph.layers.affine import ScaleShift
from spikemorph.layers.convolution import Convolution
from spikemorph.layers.joining import Add, Concat
from spikemorph.layers.ladder import Ladder
from spikemorph.layers.linear import Linear
from spikemorph.layers.multiply import Multiply
from spikemorph.layers.pooling import (
    AveragePool,
    GlobalAverage,
    GlobalMax,
    MaxPool,
    SumPool,
    accumulate,
)
from spikemorph.layers.ranges import Range
from spikemorph.layers.readout import Readout
from spikemorph.layers.scan import Scan
from spikemorph.layers.shape import Identity, Pad, Reshape, Transpose
from spikemorph.layers.slicing import Narrow
from spikemorph.layers.windows import overhang, same_pads

ACTIVATIONS: tuple[Activation, ...] = (
    ReLU(), Clip(0.0, 6.0), Clip(-0.5, 0.75), Clip(-math.inf, 1.5), LeakyReLU(0.1), LeakyReLU(2.5),
    Sigmoid(), Tanh(), Relay(),
)  # fmt: skip


@pytest.mark.parametrize("op", ACTIVATIONS, ids=repr)
def test_an_activation_reaches_a_value_from_its_threshold_on(op: Activation) -> None:
    """``f(x) >= v`` exactly where ``x >= reaches(v)``, to 1e-9 on either side, for 300 values."""
    draw = random.Random(0)
    for _ in range(300):
        value = Fraction(draw.randint(-3000, 3000), draw.randint(400, 1000))
        threshold = op.reaches(value)
        if math.isinf(threshold):
            ends = torch.tensor([-1e6, 0.0, 1e6], dtype=torch.float64)
            assert bool(((op(ends) >= float(value)) == (threshold < 0)).all()), value
            continue
        step = 1e-9 * max(1.0, abs(float(threshold)))
        below, above = torch.tensor([-step, step], dtype=torch.float64) + float(threshold)
        assert op(below) < float(value) <= op(above), value


@pytest.mark.parametrize("op", ACTIVATIONS, ids=repr)
def test_an_activation_rises_within_its_bounds(op: Activation) -> None:
    y = op(torch.linspace(-9, 9, 2001, dtype=torch.float64))
    low, high = op.bounds
    assert bool((y.diff() >= 0).all())
    assert low is None or y.min() >= float(low)
    assert high is None or y.max() <= float(high)
    for end in (low, high):
        if end is not None:  # a bound is reached from a threshold on, or from nowhere on
            assert op.reaches(end - 1) == -math.inf or op.reaches(end + 1) == math.inf


def test_logarithms_are_right_to_forty_digits() -> None:
    """ln 2, from a table of constants."""
    digits = "0.6931471805599453094172321214581765680755"
    assert abs(logarithm(Fraction(2)) - Fraction(digits)) < Fraction(1, 10**40)


@pytest.mark.parametrize("bad", [(1.0, 1.0), (2.0, 1.0), (math.nan, 1.0)])
def test_an_empty_clip_is_refused(bad: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="low < high"):
        Clip(*bad)


@pytest.mark.parametrize("slope", [0.0, -0.1, math.inf, math.nan])
def test_a_slope_that_does_not_rise_is_refused(slope: float) -> None:
    with pytest.raises(ValueError, match="slope above 0"):
        LeakyReLU(slope)


def test_convolution_with_uneven_padding_by_hand() -> None:
    """Weights 1, 10 over 0 | 1 2 3 | 0 0 in steps of 2: 10*1+0, 10*3+2, 0."""
    op = Convolution(torch.tensor([[[1.0, 10.0]]]), torch.tensor([0.5]), (2,), ((1, 2),), (1,))
    assert op(torch.tensor([[[1.0, 2.0, 3.0]]])).tolist() == [[[10.5, 32.5, 0.5]]]


def test_a_bias_may_be_a_map() -> None:
    bias = torch.arange(8.0).reshape(2, 2, 2)
    op = Convolution(torch.zeros(2, 1, 2, 2), bias, (1, 1), ((0, 0), (0, 0)), (1, 1))
    assert torch.equal(op(torch.ones(3, 1, 3, 3)), bias.expand(3, 2, 2, 2))


def test_averages_by_hand() -> None:
    """Windows of 3 in steps of 2 over 0 | 1 2 3 4 | 0, one cell beyond: counted 3, 3, 2 or less."""
    hang = overhang((4,), (3,), (2,), (1,), ((1, 1),))
    assert hang == ((0, 1),)
    x = torch.tensor([[[1.0, 2.0, 3.0, 4.0]]])
    counted = AveragePool((3,), (2,), ((1, 1),), hang, counts_padding=True)
    inside = AveragePool((3,), (2,), ((1, 1),), hang, counts_padding=False)
    assert counted.counts((4,)).tolist() == [3, 3, 2] and inside.counts((4,)).tolist() == [2, 3, 1]
    assert counted(x).tolist() == [[[1.0, 3.0, 2.0]]]
    assert inside(x).tolist() == [[[1.5, 3.0, 4.0]]]


def test_ceil_mode_has_torchs_windows() -> None:
    """All sizes to 9, kernels and strides to 4, paddings to half a kernel."""
    cases = itertools.product(range(1, 10), range(1, 5), range(1, 5), range(3))
    for size, kernel, stride, pad in cases:
        if 2 * pad > kernel or size + 2 * pad < kernel:
            continue
        x = torch.randn(1, 1, size, generator=torch.Generator().manual_seed(size))
        hang = overhang((size,), (kernel,), (stride,), (1,), ((pad, pad),))
        for counts in (True, False):
            want = F.avg_pool1d(x, kernel, stride, pad, ceil_mode=True, count_include_pad=counts)
            got = AveragePool((kernel,), (stride,), ((pad, pad),), hang, counts)(x)
            torch.testing.assert_close(got, want, msg=f"{size} {kernel} {stride} {pad} {counts}")
        want = F.max_pool1d(x, kernel, stride, pad, ceil_mode=True)
        wide = ((pad + hang[0][0], pad + hang[0][1]),)
        torch.testing.assert_close(MaxPool((kernel,), (stride,), wide, (1,))(x), want)


def test_greatest_values_of_wide_windows_are_torchs() -> None:
    """Wide windows are covered by few slices, whatever their width."""
    draw = torch.Generator().manual_seed(0)
    for kernel, stride, dilation in itertools.product(range(5, 40), (1, 3), (1, 2)):
        x = torch.randn(1, 2, (kernel - 1) * dilation + 8, generator=draw)
        pool = MaxPool((kernel,), (stride,), ((0, 0),), (dilation,))
        assert torch.equal(pool(x), F.max_pool1d(x, kernel, stride, 0, dilation)), kernel


def test_same_padding_gives_one_output_for_each_stride() -> None:
    """The output has ceil(size / stride) cells; the two kinds differ by where an odd cell goes."""
    for size, kernel, stride, dilation in itertools.product(
        range(1, 9), range(1, 5), (1, 2, 3), (1, 2)
    ):
        sides = [
            same_pads((size,), (kernel,), (stride,), (dilation,), upper=upper)[0]
            for upper in (True, False)
        ]
        assert sides[0] == sides[1][::-1] and 0 <= sides[0][1] - sides[0][0] <= 1
        reach = size + sum(sides[0]) - (kernel - 1) * dilation - 1
        if sum(sides[0]):
            assert reach // stride + 1 == -(-size // stride)


def test_pools_in_one_to_three_dimensions_are_torchs() -> None:
    for axes, pools in ((1, (F.max_pool1d, F.avg_pool1d)), (2, (F.max_pool2d, F.avg_pool2d)),
                        (3, (F.max_pool3d, F.avg_pool3d))):  # fmt: skip
        x = torch.randn(2, 3, *[7, 6, 5][:axes])
        window: Any = ((3,) * axes, (2,) * axes)
        pads = ((1, 1),) * axes
        torch.testing.assert_close(MaxPool(*window, pads, (1,) * axes)(x), pools[0](x, *window, 1))
        mean = AveragePool(*window, pads, ((0, 0),) * axes, True)
        torch.testing.assert_close(mean(x), pools[1](x, *window, 1))
        torch.testing.assert_close(mean.summed(x), 3**axes * pools[1](x, *window, 1))
        assert torch.equal(GlobalMax()(x).flatten(), x.flatten(2).amax(2).flatten())
        torch.testing.assert_close(GlobalAverage()(x).flatten(), x.flatten(2).mean(2).flatten())


def whole(*shape: int, most: int = 9) -> Tensor:
    return torch.randint(-most, most + 1, shape)


def integer_ops() -> dict[str, tuple[Op, list[tuple[int, ...]]]]:
    """Ops with integer tensors, and shapes of samples for their inputs."""
    torch.manual_seed(0)
    plane, even = (4, 5, 6), ((1, 0), (0, 2))
    return {
        "convolution": (Convolution(whole(6, 2, 3, 2), whole(6), (2, 1), even, (1, 2), 2), [plane]),
        "convolution with a map": (
            Convolution(whole(2, 4, 2, 2), whole(2, 4, 5), (1, 1), ((0, 0),) * 2, (1, 1)), [plane]),
        "linear": (Linear(whole(3, 7), whole(3)), [(7,)]),
        "scale": (ScaleShift(whole(4, 1, 1), whole(4, 1, 1)), [plane]),
        "scale of elements": (ScaleShift(whole(4, 5, 6), whole(1, 5, 1)), [plane]),
        "add": (Add((torch.tensor(3), whole(4, 1, 1))), [plane, plane]),
        "concat": (Concat(1), [plane, (2, 5, 6)]),
        "multiply": (Multiply(), [plane, plane]),
        "multiply by a number for each channel": (Multiply(), [plane, (4, 1, 1)]),
        "multiply by a number for each place": (Multiply(), [(1, 5, 1), plane]),
        "max pool": (MaxPool((2, 3), (2, 2), even, (1, 1)), [plane]),
        "max pool 1": (MaxPool((2,), (1,), ((1, 0),), (2,)), [(4, 9)]),
        "sum pool": (SumPool((2, 3), (2, 2), even), [plane]),
        "sum pool 3": (SumPool((2, 1, 2), (1, 2, 2), ((0, 0),) * 3), [(2, 3, 4, 5)]),
        "global max": (GlobalMax(), [plane]),
        "reshape": (Reshape((20, 6)), [plane]),
        "transpose": (Transpose((0, 3, 1, 2)), [plane]),
        "pad": (Pad(even), [plane]),
        "narrow": (Narrow(1, 1, 2), [plane]),
        "narrow positions": (Narrow(3, 2, 3), [plane]),
        "identity": (Identity(), [plane]),
        "read-out": (Readout(whole(4), Fraction(1, 3)), [(4,)]),
    }  # fmt: skip


INTEGER_OPS = integer_ops()


def test_every_op_on_integers_has_all_rows_and_is_tested() -> None:
    """What is left out makes spikes (tests/spiking), or is not there on integers any more."""
    kinds = {kind for kind in ops_of_layers() if kind in on_integers}
    assert kinds == {kind for kind in ops_of_layers() if kind in on_ranges}
    assert kinds - {Ladder, Scan} == {kind for kind in ops_of_layers() if kind in on_increments}
    assert {type(op) for op, _ in INTEGER_OPS.values()} == kinds - {Ladder, Scan}


def ops_of_layers() -> list[type[Op]]:
    kinds = (kind for kind in _KINDS.values() if issubclass(kind, Op))
    return [kind for kind in kinds if kind.__module__.startswith("spikemorph.layers.")]


@pytest.mark.parametrize("name", INTEGER_OPS)
def test_integers_and_real_values_agree(name: str) -> None:
    """On whole numbers the float op gives what the integer row gives, exactly."""
    op, forms = INTEGER_OPS[name]
    inputs = [whole(3, *shape) for shape in forms]
    out = on_integers[type(op)](op, *inputs)
    assert out.dtype == torch.int64
    if not isinstance(op, Readout):
        assert torch.equal(op(*(x.double() for x in inputs)), out.double())


@pytest.mark.parametrize("name", INTEGER_OPS)
def test_increments_add_up(name: str) -> None:
    """The rows of five increments and the constant part sum to the row of their sum.

    Ops that accumulate say so; they are applied to sums, so there is nothing to add up.
    """
    op, forms = INTEGER_OPS[name]
    row = on_increments[type(op)]
    parts = [[whole(3, *shape) for shape in forms] for _ in range(5)]
    totals = [sum(column, start=torch.zeros_like(column[0])) for column in zip(*parts, strict=True)]
    if row is accumulate:
        assert torch.equal(row(op, *totals), on_integers[type(op)](op, *totals))
        return
    constant = on_integers[type(op)](op, *(torch.zeros_like(t) for t in totals))
    moved = sum((row(op, *part) for part in parts), start=constant)
    assert torch.equal(moved, on_integers[type(op)](op, *totals))


@pytest.mark.parametrize("name", INTEGER_OPS)
@pytest.mark.parametrize("seed", range(4))
def test_ranges_hold_every_output(name: str, seed: int) -> None:
    """Whatever the inputs within their ranges, channel by channel; zero lies inside."""
    op, forms = INTEGER_OPS[name]
    torch.manual_seed(seed)
    inputs, ranges = [], []
    for channels, *rest in forms:
        low, high = -torch.randint(0, 5, (channels,)), torch.randint(0, 9, (channels,))
        wide = (1, channels, *[1] * len(rest))
        share = (
            torch.rand(40, channels, *rest).round() if seed % 2 else torch.rand(40, channels, *rest)
        )
        span = (high - low).reshape(wide)
        inputs.append((share * (span + 0.999)).floor().clamp(max=span).long() + low.reshape(wide))
        load = float(torch.maximum(-low, high).max())
        ranges.append(Range(low.double(), high.double(), load))
    found = on_ranges[type(op)](op, *ranges)
    out = on_integers[type(op)](op, *inputs).flatten(2).double() if len(forms[0]) > 1 else (
        on_integers[type(op)](op, *inputs)[..., None].double())  # fmt: skip
    assert bool((found.low <= 0).all()) and bool((found.high >= 0).all())
    assert bool((out.amin((0, 2)) >= found.low).all()), (out.amin((0, 2)), found)
    assert bool((out.amax((0, 2)) <= found.high).all()), (out.amax((0, 2)), found)
    assert found.load >= float(out.abs().max())
