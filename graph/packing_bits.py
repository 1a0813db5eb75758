"""Numbers at their real width: how many bits values need, and arrays of such numbers as bytes."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Words = NDArray[Any]  # flat and unsigned, little-endian: the bit patterns of a tensor's values
Bytes = NDArray[np.uint8]
_CHUNK = 1 << 18  # numbers at a time; a multiple of 8, so that every chunk ends with a whole byte


def width(low: int, high: int) -> tuple[int, bool]:
    """Bits that hold every integer from `low` to `high`, and whether one of them is a sign.

    >>> width(-8, 7), width(0, 8), width(0, 0)
    ((4, True), (4, False), (0, False))
    """
    if low >= 0:
        return high.bit_length(), False
    return 1 + max((-low - 1).bit_length(), max(high, 0).bit_length()), True


def sign_extended(words: Words, bits: int) -> Words:
    """Two's complement numbers of `bits` bits, widened to their words."""
    sign = words.dtype.type(1 << (bits - 1))
    wide: Words = (words ^ sign) - sign  # wraps around, as it should
    return wide


def byte_count(count: int, bits: int) -> int:
    """Bytes that `count` numbers of `bits` bits take."""
    return -(-count * bits // 8)


def pack_bits(words: Words, bits: int) -> Bytes:
    """The low `bits` bits of every word, the lowest first, without gaps; zeros fill the last byte."""
    if bits == 0 or not len(words):
        return np.zeros(0, np.uint8)
    raw = np.ascontiguousarray(words).view(np.uint8).reshape(len(words), -1)
    if bits % 8 == 0:
        return np.ascontiguousarray(raw[:, : bits // 8]).reshape(-1)
    pieces = []
    for start in range(0, len(raw), _CHUNK):
        single = np.unpackbits(raw[start : start + _CHUNK], axis=1, count=bits, bitorder="little")
        pieces.append(np.packbits(single, bitorder="little"))
    return np.concatenate(pieces)


def unpack_bits(packed: Bytes, count: int, bits: int, size: int) -> Words:
    """What `pack_bits` packed: `count` words of `size` bytes (1, 2, 4 or 8)."""
    raw = np.zeros((count, size), np.uint8)
    if bits and bits % 8 == 0:
        raw[:, : bits // 8] = packed.reshape(count, bits // 8)
    elif bits:
        for start in range(0, count, _CHUNK):
            stop = min(start + _CHUNK, count)
            part = packed[start * bits // 8 : byte_count(stop, bits)]
            single = np.unpackbits(part, count=(stop - start) * bits, bitorder="little")
            chunk = np.packbits(single.reshape(-1, bits), axis=1, bitorder="little")
            raw[start:stop, : chunk.shape[1]] = chunk
    return raw.reshape(-1).view(f"<u{size}")
