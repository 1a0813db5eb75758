"""Forged numpy archives: other arrays, other headers over the same bytes, other archives around them."""

import ast
import io
from dataclasses import replace
from random import Random
from typing import Any

import numpy as np

from .trees import ODD
from .watch import PAYLOAD
from .zips import Archive, Member, forged_archive, unzipped, zipped

_TYPES = ("<f4", "<f8", "<f2", ">f4", "<i8", "<u8", "|u1", "|b1", "<c8", "<U3", "|S3", "|V4", "|O",
          "<M8[s]", "<m8[s]", "<f16",
          "[('a','<f4')]", "<f4,<f4", "f", "x", "|u0", "<U0", "<f4\0")  # fmt: skip
_SHAPES = ((), (0,), (1,), (2,), (2**31,), (2**62, 4), (-1,), (2**63,), (1, 0, 8, 8), (6, 1, 8, 8),
           (2**20, 2**20), (3, True), (10**30,), (2.0,), ("x",), [6], 6, None)  # fmt: skip


def npy(array: Any) -> bytes:
    """One array, as numpy writes it; objects are pickled."""
    out = io.BytesIO()
    np.lib.format.write_array(out, np.asarray(array), allow_pickle=True)
    return out.getvalue()


def npz(**arrays: Any) -> bytes:
    """An honest archive."""
    return zipped(Archive(tuple(Member(f"{k}.npy".encode(), npy(v)) for k, v in arrays.items())))


def with_other_header(data: bytes, rng: Random) -> bytes:
    """One member's description of its array, forged."""
    archive = unzipped(data)
    k = rng.randrange(len(archive.members))
    member = archive.members[k]
    content = _described(member.content, rng)
    chosen = replace(member, content=content)
    members = (*archive.members[:k], chosen, *archive.members[k + 1 :])
    return zipped(replace(archive, members=members))


def _described(content: bytes, rng: Random) -> bytes:
    size = int.from_bytes(content[8:10], "little")
    said = ast.literal_eval(content[10 : 10 + size].decode("latin1").strip())
    how = rng.randrange(6)
    if how <= 1:
        said["descr"] = rng.choice(_TYPES)
    elif how <= 3:
        said["shape"] = rng.choice(_SHAPES)
    elif how == 4:
        said[rng.choice(("fortran_order", "descr", "shape"))] = rng.choice(ODD)
    text = repr(said)
    if how == 5:
        text = rng.choice((text[:-1], text + text, "(" * 200, "{" + "'a':" * 9, "\0" * 8, "x", PAYLOAD,
                           "[" * 5000, text.replace("False", "1/0"), "'" + "a" * 9000 + "'"))  # fmt: skip
    text = text.encode("latin1", "replace").decode("latin1")
    version = (
        rng.choice((content[6:8], b"\2\0", b"\3\0", b"\x09\0"))
        if rng.random() < 0.1
        else content[6:8]
    )
    width = 2 if version[0] == 1 else 4
    body = text.encode("latin1") + b"\n"
    return content[:6] + version + len(body).to_bytes(width, "little") + body + content[10 + size :]


def with_other_arrays(data: bytes, rng: Random) -> bytes:
    """Samples and labels of other types and shapes, with other values."""
    with np.load(io.BytesIO(data)) as file:
        arrays = {name: file[name] for name in file.files}
    name = rng.choice(sorted(arrays))
    array = arrays[name]
    how = rng.randrange(8)
    if how == 0:
        kinds = (
            "f2",
            "f4",
            "f8",
            "g",
            "i1",
            "i8",
            "u1",
            "u8",
            "?",
            "c8",
            "O",
            "U3",
            "S2",
            "M8[s]",
            "V4",
        )
        arrays[name] = array.astype("O" if name == "y" else "f8").astype(rng.choice(kinds[:11]))
        if rng.random() < 0.3:
            arrays[name] = np.zeros(array.shape, rng.choice(kinds))
    elif how == 1:
        arrays[name] = rng.choice((array[:0], array[:1], array[0], array.reshape(-1), array[None],
                                   array[..., None], array.T, array.sum(), array[::2]))  # fmt: skip
    elif how == 2:
        del arrays[name]
    elif how == 3:
        arrays[rng.choice(("x", "y", "z", "arr_0"))] = array
    else:
        array = array.copy()
        odd = (
            -1,
            0,
            1,
            10,
            255,
            2**31,
            -(2**40),
            2**62,
            float("nan"),
            float("inf"),
            -float("inf"),
            1e300,
            1e-300,
        )
        place = slice(None) if rng.random() < 0.2 else rng.randrange(array.size)
        value: Any = rng.choice(odd)
        if array.dtype.kind in "iu" and not abs(value) < 2**60:
            value = np.iinfo(array.dtype).max
        with np.errstate(all="ignore"):
            array.reshape(-1)[place] = np.asarray(value).astype(array.dtype)
        arrays[name] = array
    return npz(**arrays)


def with_other_zip(data: bytes, rng: Random) -> bytes:
    """Another archive around the same arrays."""
    return zipped(
        forged_archive(unzipped(data), rng, (b"x.npy", b"y.npy", b"x", b"x.npy\0", b"X.npy"))
    )
