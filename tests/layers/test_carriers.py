"""Whole numbers in floats: every product is int64's, at each border, in every geometry; probes see."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from spikemorph.graph import GraphError
from spikemorph.graph.traits import Weighted
from spikemorph.layers.carriers import Products, carrier, float_carrier, parts_of
from spikemorph.layers.convolution import Convolution
from spikemorph.layers.linear import Linear

CPU = torch.device("cpu")
NONE = ((0, 0), (0, 0))


@pytest.mark.parametrize(
    ("load", "kind"),
    [
        (2**24 - 1, torch.float32),
        (2**24, torch.float64),
        (2**53 - 1, torch.float64),
        (2**53, torch.int64),
        (2**62 - 2**10, torch.int64),
    ],
)
def test_the_carrier_holds_every_sum(load: int, kind: torch.dtype) -> None:
    assert carrier(load, "n") is kind


@pytest.mark.parametrize(("choose", "most"), [(carrier, 62), (float_carrier, 53)])
def test_what_no_number_type_holds_is_refused_by_name(
    choose: Callable[..., Any], most: int
) -> None:
    with pytest.raises(GraphError, match=rf"node 'wide': .* {most} bits .*fewer weight bits"):
        choose(2.0**most, "wide")


@pytest.mark.parametrize(
    ("weight", "value", "parts"),
    [
        (3, 5592405, (torch.float32, 1)),  # 2**24 - 1
        (257, 65281, (torch.float64, 1)),  # 2**24 + 1
        (6361, 1416003655831, (torch.float64, 1)),  # 2**53 - 1
        (2**20, 2**33, (torch.float64, 2)),  # 2**53
        (321, 28059810762433, (torch.float64, 2)),  # 2**53 + 1
        (28059810762433, 321, (torch.float64, 2)),
        (2**61 - 1, 1, (torch.float64, 2)),
        (1, 2**61 - 1, (torch.float64, 2)),
    ],
)
@pytest.mark.parametrize("sign", [-1, 1])
def test_products_at_each_border(
    weight: int, value: int, parts: tuple[torch.dtype, int], sign: int
) -> None:
    """The number of parts is of the factor that is split."""
    op = Linear(torch.tensor([[sign * weight]]), None)
    found = Products().of(op, (1,), (float(value), float(weight * value)), CPU)
    assert (found.kind, max(len(found.ops), found.inputs)) == parts
    x = torch.tensor([[value], [-value], [value - 1], [0]])
    assert found(x).long().flatten().tolist() == [sign * weight * int(v) for v in x]


def layers(draw: Callable[..., Tensor]) -> Iterator[tuple[Weighted, tuple[int, ...]]]:
    """Layers of every geometry, with a sample's shape."""
    yield Linear(draw(5, 7), None), (7,)
    yield Convolution(draw(4, 3, 3, 3), None, (1, 1), ((1, 1), (1, 1)), (1, 1)), (3, 6, 5)
    yield Convolution(draw(6, 2, 3, 3), None, (2, 1), ((0, 2), (1, 0)), (1, 2), 2), (4, 7, 8)
    yield Convolution(draw(4, 1, 3), None, (1,), ((1, 1),), (1,), 4), (4, 9)
    yield (
        Convolution(draw(2, 2, 2, 1, 2), None, (1, 2, 1), ((1, 0), *NONE), (1, 1, 1)),
        (2, 4, 3, 4),
    )


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 10**6),
    weight_bits=st.integers(1, 53),
    input_bits=st.integers(0, 53),
    sparse=st.booleans(),
)
def test_products_are_those_of_int64(
    seed: int, weight_bits: int, input_bits: int, sparse: bool
) -> None:
    """Of the largest values, values beside them, zeros and all between, in every geometry."""
    while weight_bits + input_bits > 56:  # and up to 2**5 taps: below 62 bits
        weight_bits, input_bits = weight_bits * 7 // 8, input_bits * 7 // 8
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int, top: int = 2**weight_bits) -> Tensor:
        values = torch.randint(-top, top + 1, shape, generator=generator)
        ends = torch.tensor([top, -top, top - 1, 1 - top, 0])
        chosen = ends[torch.randint(0, 5, shape, generator=generator)]
        return torch.where(torch.rand(shape, generator=generator) < 0.5, chosen, values)

    peak = 2**input_bits
    for op, shape in layers(draw):
        weight = op.weight
        if sparse:
            weight = weight * (torch.rand(weight.shape, generator=generator) < 0.2)
        op = op.having(weight=weight)
        load = float(weight.double().abs().flatten(1).sum(1).max()) * peak
        x = draw(3, *shape, top=peak)
        found = Products().of(op, shape, (float(peak), load), CPU)(x)
        assert torch.equal(found.to(torch.int64), op.products(x))


@pytest.mark.parametrize("count", [2, 3, 5])
def test_parts_are_small_and_add_up(count: int) -> None:
    values = torch.tensor([0, 1, -1, 2**61 - 1, 1 - 2**61, 2**40, 127, 128, -128, -129])
    shift = -(-62 // count)
    parts = parts_of(values, shift, count)
    assert len(parts) == count
    total = sum(p << shift * k for k, p in enumerate(reversed(parts)))
    assert torch.equal(total, values)
    for part in parts[1:]:
        assert -(2 ** (shift - 1)) <= int(part.min()) and int(part.max()) < 2 ** (shift - 1)


def wide_conv() -> Convolution:
    weight = torch.randint(-100, 101, (8, 4, 3, 3), generator=torch.Generator().manual_seed(1))
    return Convolution(weight, None, (1, 1), ((1, 1), (1, 1)), (1, 1))


@pytest.mark.parametrize("few", [True, False], ids=["few samples", "many samples"])
def test_a_product_that_rounds_is_not_trusted(few: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """What TF32, bfloat16 or a Winograd transform would do, for one sample or for many alone."""
    op, shape, bounds = wide_conv(), (4, 6, 6), (100.0, 360000.0)
    assert Products().of(op, shape, bounds, CPU).kind is torch.float32
    exact = Convolution.products

    def rounding(self: Convolution, x: Tensor) -> Tensor:
        out = exact(self, x)
        rounds = x.dtype is torch.float32 and (len(x) == 1) == few
        return out.bfloat16().to(x) if rounds else out

    monkeypatch.setattr(Convolution, "products", rounding)
    assert Products().of(op, shape, bounds, CPU).kind is torch.float64


@pytest.mark.filterwarnings("ignore:TF32 acceleration")
def test_products_are_exact_without_onednn_too() -> None:
    """There torch may take NNPACK's Winograd transforms, from 16 samples on: they round."""
    op, shape = wide_conv(), (4, 16, 16)
    x = torch.randint(-3000, 3001, (20, *shape), generator=torch.Generator().manual_seed(2))
    bounds = (3000.0, float(op.weight.abs().flatten(1).sum(1).max()) * 3000)
    wanted = op.products(x)
    with torch.backends.mkldnn.flags(enabled=False):
        assert torch.equal(Products().of(op, shape, bounds, CPU)(x).long(), wanted)


def test_a_sparse_layer_is_not_distrusted() -> None:
    """The probe fills no more weights than the bound allows: 4 of 4608 taps, sums below 2**24."""
    weight = torch.zeros(2, 512, 3, 3, dtype=torch.int64)
    weight[:, 0, 0, :] = 127
    op = Convolution(weight, None, (1, 1), NONE, (1, 1))
    bounds = (20000.0, 3 * 127 * 20000.0)
    assert Products().of(op, (512, 3, 3), bounds, CPU).kind is torch.float32
