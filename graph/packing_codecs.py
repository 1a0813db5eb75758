"""Four ways to store the non-zero values of a matrix: their exact sizes, and how each is written.

For N = R x C values of b bits, nnz of them not zero (energy.md, section 1.11):

    dense     N b
    bitmask   N + nnz b                                        a bit for every value: is it there?
    csr       nnz (b + ceil log2 C) + (R + 1) ceil log2(nnz + 1)       columns, and where rows start
    delta     entries (b + k)                 before each entry the number of zeros skipped, in k bits

A delta entry skips ``2**k - 1`` zeros at most; over longer gaps stand fillers, entries whose value is
zero. Zeros behind the last value need none. k is the number that makes the whole smallest.

The only values a bool tensor stores are ones: they take no bits, but one in delta, where a filler
must be told from them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod

import numpy as np
from numpy.typing import NDArray

from .packing_bits import Bytes, Words, byte_count, pack_bits, unpack_bits

Places = NDArray[np.int64]
Section = tuple[int, int]  # how many numbers, of how many bits each
_WIDEST_GAP = 32  # bits; no sum of so wide gaps passes 63 bits


@dataclass(frozen=True)
class Layout:
    """How one tensor is stored.

    Parameters
    ----------
    format : str
        ``dense``, ``bitmask``, ``csr`` or ``delta``.
    shape : tuple of int
        The tensor's; as a matrix it is (first axis, all others), a vector is one row.
    value_bits : int
        Bits of one stored value.
    stored : int
        Values stored: all, the non-zero ones, or those and the fillers.
    index_bits : int
        Bits, all together, that say where the stored values belong.
    """

    format: str
    shape: tuple[int, ...]
    value_bits: int
    stored: int
    index_bits: int

    @property
    def bits(self) -> int:
        """Bits of values and index together."""
        return self.stored * self.value_bits + self.index_bits

    @property
    def matrix(self) -> tuple[int, int]:
        """Rows and columns."""
        rows = self.shape[0] if len(self.shape) > 1 else 1
        return rows, prod(self.shape[1:] if len(self.shape) > 1 else self.shape)

    @property
    def sections(self) -> tuple[Section, ...]:
        """What is written, in order: numbers of equal width, each run padded to whole bytes."""
        rows, columns = self.matrix
        values = (self.stored, self.value_bits)
        match self.format:
            case "dense":
                return (values,)
            case "bitmask":
                return (rows * columns, 1), values
            case "csr":
                return (rows + 1, self.stored.bit_length()), (self.stored, _log2(columns)), values
        return (self.stored, self.index_bits // max(self.stored, 1)), values

    @property
    def consistent(self) -> bool:
        """Whether the index has the size that the format gives it."""
        size = prod(self.shape)
        if self.format == "delta" and self.index_bits > self.stored * _WIDEST_GAP:
            return False
        index = sum(count * bits for count, bits in self.sections[:-1])
        return index == self.index_bits and (
            self.stored == size if self.format == "dense" else self.stored <= size
        )

    @property
    def byte_count(self) -> int:
        """Bytes of the sections."""
        return sum(byte_count(count, bits) for count, bits in self.sections)


def places_of(words: Words) -> Places:
    """Where a flat array is not zero."""
    return np.flatnonzero(words)


def layouts_for(
    shape: tuple[int, ...], places: Places, value_bits: int, *, ones: bool = False
) -> dict[str, Layout]:
    """The layout that every format gives a tensor with values at `places`.

    `ones`: it is a bool tensor. The dict is in order of preference.
    """
    size, count, sparse = prod(shape), len(places), 0 if ones else value_bits
    csr = Layout("csr", shape, sparse, count, 0)
    index = sum(number * bits for number, bits in csr.sections[:-1])
    return {
        "dense": Layout("dense", shape, 1 if ones else value_bits, size, 0),
        "bitmask": Layout("bitmask", shape, sparse, count, size),
        "csr": replace(csr, index_bits=index),
        "delta": _delta(shape, _gaps(places), 1 if ones else value_bits),
    }


def smallest(layouts: Mapping[str, Layout]) -> Layout:
    """The layout of fewest bits; of equals, the first."""
    return min(layouts.values(), key=lambda layout: layout.bits)


def encode(layout: Layout, words: Words) -> Bytes:
    """A flat array as the bytes that its layout says; `layout` was made for it."""
    match layout.format:
        case "dense":
            parts = [words]
        case "bitmask":
            there = words != 0
            parts = [there.view(np.uint8), words[there]]
        case "csr":
            rows, columns = layout.matrix
            places = places_of(words)
            starts = np.searchsorted(places, np.arange(rows + 1) * columns)
            parts = [starts, places % columns, words[places]]
        case _:
            parts = _delta_parts(layout, words)
    numbers = zip(parts, layout.sections, strict=True)
    return np.concatenate([pack_bits(part, bits) for part, (_, bits) in numbers])


def decode(layout: Layout, packed: Bytes, size: int) -> Words:
    """The flat array, in words of `size` bytes, that `encode` wrote.

    Raises
    ------
    ValueError
        If the bytes are no such encoding; the layout must be consistent.
    """
    parts, start = [], 0
    for number, (count, bits) in enumerate(layout.sections):
        stop = start + byte_count(count, bits)
        last = number == len(layout.sections) - 1
        parts.append(unpack_bits(packed[start:stop], count, bits, size if last else _word(bits)))
        start = stop
    *index, values = parts
    if layout.format == "dense":
        return values
    if not layout.value_bits:
        values = np.ones(layout.stored, values.dtype)
    places = _places(layout, index)
    words = np.zeros(prod(layout.shape), values.dtype)
    words[places] = values
    return words


def _delta_parts(layout: Layout, words: Words) -> list[Words]:
    """The gaps and values of every entry, fillers among them."""
    _, k = layout.sections[0]
    places = places_of(words)
    gaps = _gaps(places)
    ends = np.cumsum((gaps >> k) + 1) - 1
    codes = np.full(layout.stored, (1 << k) - 1, np.int64)
    values = np.zeros(layout.stored, words.dtype)
    codes[ends], values[ends] = gaps & ((1 << k) - 1), words[places]
    return [codes, values]


def _places(layout: Layout, index: Sequence[Words]) -> Places:
    """Where the stored values belong."""
    rows, columns = layout.matrix
    if layout.format == "bitmask":
        places = places_of(index[0])
        if len(places) != layout.stored:
            raise ValueError(f"its bit mask marks {len(places)} values, {layout.stored} are stored")
        return places
    first, *others = (numbers.astype(np.int64) for numbers in index)
    if layout.format == "delta":
        places = np.cumsum(first + 1) - 1
        if len(places) and int(places[-1]) >= rows * columns:
            raise ValueError("its gaps lead past its end")
        return places
    counts = np.diff(first)
    if first[0] != 0 or first[-1] != layout.stored or bool((counts < 0).any()):
        raise ValueError("its row starts do not rise from nothing to all")
    if bool((others[0] >= columns).any()):
        raise ValueError("it names a column that is not there")
    return np.repeat(np.arange(rows) * columns, counts) + others[0]


def _delta(shape: tuple[int, ...], gaps: Places, value_bits: int) -> Layout:
    best = Layout("delta", shape, value_bits, 0, 0)
    for k in range(1, _WIDEST_GAP + 1):
        fillers = int((gaps >> k).sum())
        stored = len(gaps) + fillers
        tried = Layout("delta", shape, value_bits, stored, stored * k)
        best = tried if k == 1 or tried.bits < best.bits else best
        if not fillers:
            break
    return best


def _gaps(places: Places) -> Places:
    """The zeros before each value, since the one before it."""
    return np.diff(places, prepend=-1) - 1


def _word(bits: int) -> int:
    """Bytes of the smallest word that holds so many bits."""
    return next(size for size in (1, 2, 4, 8) if bits <= 8 * size)


def _log2(number: int) -> int:
    """The logarithm of a count, rounded up: bits that tell so many things apart."""
    return max(number - 1, 0).bit_length()
