"""Packed tensors: bit-identical when unpacked, in the smallest form, as small as the formulas say."""

import json
import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from spikemorph.graph.packing import (
    Packing,
    formats,
    layouts,
    pack,
    pack_tensor,
    packing_of,
    unpack,
    unpack_tensor,
)
from spikemorph.graph.packing_bits import pack_bits, unpack_bits, width

FORMATS = ("dense", "bitmask", "csr", "delta")
WHOLE = (torch.int8, torch.uint8, torch.int16, torch.int32, torch.int64)
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
SHAPES = st.lists(st.integers(1, 7), max_size=4).map(tuple)
DENSITIES = st.sampled_from([0.0, 0.01, 0.1, 0.5, 0.9, 1.0])


def random_tensor(kind: torch.dtype, shape: tuple[int, ...], density: float, seed: int) -> Tensor:
    """Any bits at all (negative zeros, NaNs with payloads) at so many random places, else zero."""
    draw = torch.Generator().manual_seed(seed)
    there = torch.rand(shape, generator=draw) < density
    if kind is torch.bool:
        return there
    raw = torch.randint(0, 256, (max(1, math.prod(shape)) * kind.itemsize,), generator=draw)
    values = raw.to(torch.uint8).view(kind).reshape(shape)
    if not kind.is_floating_point:
        values >>= int(torch.randint(0, 8 * kind.itemsize, (), generator=draw))
    return torch.where(there, values, torch.zeros((), dtype=kind))


TENSORS = st.builds(
    random_tensor,
    st.sampled_from([torch.bool, *WHOLE, *FLOATS]),
    SHAPES,
    DENSITIES,
    st.integers(0, 10**6),
)


def identical(left: Tensor, right: Tensor) -> bool:
    raw = [t.contiguous().reshape(-1).view(torch.uint8) for t in (left, right)]
    return left.dtype == right.dtype and left.shape == right.shape and torch.equal(*raw)


@given(st.lists(st.integers(0, 2**64 - 1), max_size=40), st.integers(1, 64))
def test_bits_come_back_and_leave_no_gaps(numbers: list[int], bits: int) -> None:
    import_words = [number % 2**bits for number in numbers]
    words = torch.tensor([n - 2**64 * (n >> 63) for n in import_words], dtype=torch.int64)
    packed = pack_bits(words.numpy().view("<u8"), bits)
    assert len(packed) == -(-len(numbers) * bits // 8)
    stream = sum(int(byte) << 8 * place for place, byte in enumerate(packed))
    assert stream == sum(number << bits * place for place, number in enumerate(import_words))
    assert unpack_bits(packed, len(numbers), bits, 8).tolist() == import_words


def test_many_numbers_are_packed_as_few_are() -> None:
    """Over the borders of the pieces that are packed at a time."""
    words = torch.arange(600_000, dtype=torch.int32).numpy().view("<u4")
    assert (unpack_bits(pack_bits(words, 20), 600_000, 20, 4) == words).all()


@given(st.integers(-(2**40), 2**40), st.integers(0, 2**40))
def test_a_width_holds_its_numbers_and_one_bit_less_does_not(low: int, span: int) -> None:
    bits, signed = width(low, low + span)
    assert signed == (low < 0)
    ends = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    less = (ends[0] // 2, ends[1] // 2) if signed else (0, 2 ** (bits - 1) - 1 if bits else -1)
    assert ends[0] <= low and low + span <= ends[1]
    assert not (less[0] <= low and low + span <= less[1])


@settings(max_examples=400)
@given(TENSORS, st.sampled_from([None, *FORMATS]))
def test_every_format_gives_every_tensor_back_bit_by_bit(tensor: Tensor, format: str) -> None:
    packing = packing_of(tensor, format)
    stored = pack_tensor(tensor, packing)
    assert identical(unpack_tensor(packing, stored), tensor)
    assert Packing.from_plain(json.loads(json.dumps(packing.to_plain()))) == packing


@given(TENSORS)
def test_the_smallest_is_chosen_and_its_bits_are_what_is_stored(tensor: Tensor) -> None:
    """Bytes hold the bits, and less than one byte more for each of at most three sections."""
    found, packing = formats(tensor), packing_of(tensor)
    assert set(found) == set(FORMATS)
    assert packing.layout.bits == min(layout.bits for layout in found.values())
    for name in FORMATS:
        forced = packing_of(tensor, name)
        filled = 8 * len(pack_tensor(tensor, forced)) - forced.layout.bits
        assert 0 <= filled <= 7 * len(forced.layout.sections)


def entries_by_hand(flat: list[int], k: int) -> int:
    """Delta entries, counted one by one: a filler whenever 2^k zeros have gone by."""
    entries = zeros = 0
    last = max((place for place, value in enumerate(flat) if value), default=-1)
    for value in flat[: last + 1]:
        if value or zeros == 2**k - 1:
            entries, zeros = entries + 1, 0
        else:
            zeros += 1
    return entries


@given(SHAPES, st.sampled_from([0.01, 0.05, 0.2, 0.6]), st.integers(0, 10**6))
def test_sizes_are_the_formulas(shape: tuple[int, ...], density: float, seed: int) -> None:
    tensor = random_tensor(torch.int16, shape, density, seed)
    flat = tensor.flatten().tolist()
    bits, _ = width(min(flat), max(flat))
    size, nnz = len(flat), sum(value != 0 for value in flat)
    rows = shape[0] if len(shape) > 1 else 1
    found = {name: layout.bits for name, layout in formats(tensor).items()}
    columns_bits, start_bits = (math.ceil(math.log2(n)) for n in (size // rows, nnz + 1))
    assert found["dense"] == size * bits
    assert found["bitmask"] == size + nnz * bits
    assert found["csr"] == nnz * (bits + columns_bits) + (rows + 1) * start_bits
    assert found["delta"] == min(entries_by_hand(flat, k) * (bits + k) for k in range(1, 12))


def test_sizes_by_hand() -> None:
    """2 x 8, values -3 and 2 at places 1 and 12: 3 bits each (a sign and two).

    Dense 16 * 3. Bitmask 16 + 2 * 3. CSR 2 * (3 + 3) + 3 * 2. Delta: gaps 1 and 10; k = 2 takes
    fillers after zeros 4 and 8, so 1 + 3 entries of 5 bits; k = 3 takes one, 3 of 6; k = 4 none, 2 of 7.
    """
    tensor = torch.zeros(2, 8, dtype=torch.int8)
    tensor[0, 1], tensor[1, 4] = -3, 2
    found = {name: layout.bits for name, layout in formats(tensor).items()}
    assert found == {"dense": 48, "bitmask": 22, "csr": 18, "delta": 14}
    delta = packing_of(tensor)
    assert (delta.layout.format, delta.layout.index_bits, delta.signed) == ("delta", 8, True)


@pytest.mark.parametrize(
    ("values", "bits"),
    [([-16, 15], 5), ([0, 31], 5), ([-17, 0], 6), ([1, 1], 1), ([0, 0], 0), ([-1, 0], 1)],
)
def test_an_int8_tensor_takes_the_bits_its_values_need(values: list[int], bits: int) -> None:
    tensor = torch.tensor(values, dtype=torch.int8).repeat(500)
    assert formats(tensor)["dense"].value_bits == bits
    stored, header = pack({"t": tensor})
    assert header["t"]["value_bits"] == bits
    assert header["t"]["bits"] == min(formats(tensor)[f].bits for f in FORMATS)
    assert 0 <= 8 * len(stored["t"]) - header["t"]["bits"] < 16


def test_negative_zeros_and_nans_are_kept_where_they_are_sparse() -> None:
    tensor = torch.zeros(4000)
    tensor[[7, 900]] = torch.tensor([-0.0, float("nan")])
    tensor.view(torch.int32)[3000] = 0x7F812345  # a signalling NaN with a payload
    stored, header = pack({"t": tensor})
    assert header["t"]["format"] == "delta" and header["t"]["stored"] >= 3
    assert identical(unpack(stored, header, "f")["t"], tensor)


@given(st.lists(TENSORS, max_size=4), st.randoms(use_true_random=False))
def test_packing_never_makes_a_file_larger(tensors: list[Tensor], random: Any) -> None:
    """And the layouts told without writing are those that are written."""
    named = {f"t{k}": tensor for k, tensor in enumerate(tensors)}
    stored, header = pack(named)
    entries = {
        key: len(json.dumps({key: entry}, separators=(",", ":"))) for key, entry in header.items()
    }
    for key, tensor in named.items():
        size = stored[key].numel() * stored[key].element_size() + entries.get(key, 0)
        assert size <= tensor.numel() * tensor.element_size()
    told = layouts(named)
    assert {key: told[key].bits for key in header} == {k: e["bits"] for k, e in header.items()}
    back = unpack(stored, header, "f")
    assert back.keys() == named.keys() and all(identical(back[k], named[k]) for k in named)


def test_a_mask_costs_almost_nothing_beside_its_weight() -> None:
    """It is where the weight is not zero, but for 20 kept weights that were rounded to zero."""
    draw = torch.Generator().manual_seed(0)
    mask = torch.rand(64, 576, generator=draw) < 0.1
    weight = torch.where(mask, torch.randint(1, 16, mask.shape, generator=draw), 0).to(torch.int8)
    for rounded, most in ((0, 0), (20, 20 * 14)):
        weight.view(-1)[mask.flatten().nonzero()[:rounded, 0]] = 0
        _, alone = pack({"mask": mask})
        stored, header = pack({"weight": weight, "bias": torch.ones(64), "mask": mask})
        assert header["mask"]["relative_to"] == "weight" and header["mask"]["bits"] <= most
        assert alone["mask"]["bits"] > 10_000
        assert identical(unpack(stored, header, "f")["mask"], mask)


@given(SHAPES, DENSITIES, DENSITIES, st.sampled_from(FLOATS), st.integers(0, 10**6))
def test_any_mask_beside_any_weight_comes_back(
    shape: tuple[int, ...], kept: float, filled: float, kind: torch.dtype, seed: int
) -> None:
    shape = (30, *shape)
    named = {
        "other": torch.ones(shape, dtype=torch.int8),
        "weight": random_tensor(kind, shape, filled, seed),
        "mask": random_tensor(torch.bool, shape, kept, seed + 1),
    }
    stored, header = pack(named)
    assert all(identical(back, named[key]) for key, back in unpack(stored, header, "f").items())
