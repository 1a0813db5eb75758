"""Forged pictures: PNG chunks under right checksums, and the other formats as they are."""

import io
import struct
import zlib
from functools import cache
from random import Random

import numpy as np
from PIL import Image

from .raw import damaged

_SIZES = (0, 1, 7, 8, 9, 16, 32, 5000, 60000, 2**31 - 1, 2**32 - 1)


@cache
def _folded(zeros: int) -> bytes:
    return zlib.compress(bytes(zeros))


def picture(size: tuple[int, int], mode: str = "L", form: str = "PNG", seed: int = 0) -> bytes:
    """A picture of noise."""
    depth = {"L": (), "RGB": (3,), "RGBA": (4,), "1": (), "P": ()}[mode]
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, *depth)).astype(np.uint8)
    kind = "RGB" if mode == "RGB" else "RGBA" if mode == "RGBA" else "L"
    image = Image.fromarray(pixels, kind).convert(mode)
    out = io.BytesIO()
    image.save(out, form)
    return out.getvalue()


def _chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    place, found = 8, []
    while place + 12 <= len(data):
        size = int.from_bytes(data[place : place + 4], "big")
        found.append((data[place + 4 : place + 8], data[place + 8 : place + 8 + size]))
        place += 12 + size
    return found


def with_other_chunks(data: bytes, rng: Random) -> bytes:
    """A PNG with one chunk forged; anything else is damaged as bytes."""
    if not data.startswith(b"\x89PNG"):
        return damaged(data, rng)
    chunks = _chunks(data)
    k = rng.randrange(len(chunks))
    kind, content = chunks[k]
    how = rng.randrange(6)
    if how <= 2:
        kind, content = chunks[0]
        field = rng.randrange(7)
        if field < 2:
            size = struct.pack(">I", rng.choice(_SIZES))
            content = content[: 4 * field] + size + content[4 * field + 4 :]
        else:
            spot = 6 + field
            content = (
                content[:spot]
                + bytes([rng.choice((0, 1, 2, 3, 4, 6, 8, 16, 255))])
                + content[spot + 1 :]
            )
        chunks[0] = (kind, content)
    elif how == 3:
        chunks[k] = (kind, damaged(content, rng))
    elif how == 4:
        chunks.insert(k, rng.choice(chunks))
    else:
        made = rng.choice((
            (b"iCCP", b"x\0\0" + _folded(10**7)), (b"tEXt", b"a\0" + b"x" * 500),
            (b"zTXt", b"a\0\0" + _folded(3 * 10**7)), (b"acTL", bytes(8)), (b"tRNS", bytes(2)),
            (b"PLTE", bytes(9)), (b"IDAT", _folded(10**6)), (b"eXIf", rng.randbytes(30)),
        ))  # fmt: skip
        chunks.insert(rng.randrange(1, len(chunks)), made)
    out = data[:8]
    for kind, content in chunks:
        check = zlib.crc32(kind + content)
        out += struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)
    return out


def idx(sizes: tuple[int, ...], seed: int = 0, classes: int = 256) -> bytes:
    """An IDX file of bytes."""
    content = np.random.default_rng(seed).integers(0, classes, sizes).astype(np.uint8).tobytes()
    return bytes((0, 0, 8, len(sizes))) + b"".join(struct.pack(">I", n) for n in sizes) + content
