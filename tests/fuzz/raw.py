"""Damage to plain bytes: flips, cuts, repeats, splices, and numbers in other places."""

import re
import struct
from collections.abc import Callable, Sequence
from random import Random

Damage = Callable[[bytes, Random], bytes]
_NUMBERS = (0, 1, 2, 7, 8, 127, 128, 255, 256, 65535, 1 << 24, 2**31 - 1, 2**31, 2**32 - 1, 2**63)
_TEXTS = (b"-1", b"0", b"1e400", b"99999999999999999999", b"nan", b"[]", b"{}", b'""', b"null")
_FORMS = ("<B", "<H", "<I", "<Q", ">H", ">I", ">Q")


def _flip(data: bytes, rng: Random) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8))):
        changed[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _byte(data: bytes, rng: Random) -> bytes:
    changed = bytearray(data)
    changed[rng.randrange(len(data))] = rng.choice(
        (0, 1, 0x20, 0x7F, 0x80, 0xFF, rng.randrange(256))
    )
    return bytes(changed)


def _cut(data: bytes, rng: Random) -> bytes:
    return data[: rng.randrange(len(data))]


def _without(data: bytes, rng: Random) -> bytes:
    start, size = rng.randrange(len(data)), rng.choice((1, 2, 4, 16, 64))
    return data[:start] + data[start + size :]


def _repeat(data: bytes, rng: Random) -> bytes:
    start, size = rng.randrange(len(data)), rng.choice((1, 4, 16, 64, 1024))
    piece = data[start : start + size] * rng.choice((1, 2, 50))
    return data[:start] + piece + data[start:]


def _splice(data: bytes, rng: Random) -> bytes:
    size = rng.choice((4, 16, 64))
    here, there = rng.randrange(len(data)), rng.randrange(len(data))
    return data[:here] + data[there : there + size] + data[here + size :]


def _number(data: bytes, rng: Random) -> bytes:
    form = rng.choice(_FORMS)
    size = struct.calcsize(form)
    number = rng.choice(_NUMBERS) % (1 << 8 * size)
    start = rng.choice((rng.randrange(len(data)), rng.randrange(min(len(data), 64))))
    return data[:start] + struct.pack(form, number) + data[start + size :]


def _digits(data: bytes, rng: Random) -> bytes:
    found = list(re.finditer(rb"\d+", data))
    if not found:
        return _byte(data, rng)
    spot = rng.choice(found)
    return data[: spot.start()] + rng.choice(_TEXTS) + data[spot.end() :]


def _insert(data: bytes, rng: Random) -> bytes:
    start = rng.randrange(len(data))
    return data[:start] + rng.randbytes(rng.choice((1, 3, 8, 100))) + data[start:]


_DAMAGES: Sequence[Damage] = (
    *(_flip, _byte, _cut, _without, _repeat, _splice, _number, _digits, _insert),
)


def damaged(data: bytes, rng: Random) -> bytes:
    """The bytes with one damage."""
    if not data:
        return rng.randbytes(rng.choice((1, 8, 100)))
    return rng.choice(_DAMAGES)(data, rng)
