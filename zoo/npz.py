"""Read arrays of an `.npz` file: each header is checked against its member before a value is read."""

import math
import os
import re
import struct
import zipfile
import zlib
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spikemorph.graph.errors import InputError

from .reasons import reason

Array = NDArray[Any]

# zipfile names all that it finds wrong by one of these; it is the only reader of the archive here
_DAMAGED = (
    *(OSError, EOFError, ValueError, RuntimeError, LookupError, OverflowError, struct.error),
    *(zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error),
)
_SAVE = "save plain numbers with np.savez(..., x=..., y=...)"
_MAGIC, _LONGEST_HEADER, _MOST_AXES = b"\x93NUMPY", 10_000, 32
_HEADER = re.compile(
    r"\{\s*'descr':\s*(?:'(?P<kind>[^']*)'|(?P<odd>.*?)),\s*'fortran_order':\s*(?P<fortran>True|False),"
    r"\s*'shape':\s*\((?P<shape>[0-9, ]*)\),?\s*\}\s*"
)
_KIND = re.compile(r"[<>|=]?(?:b1|[iu][1248]|f[248])")
_OBJECTS = "objects"
_WORDS = {"O": _OBJECTS, "U": "text", "S": "text", "V": "records", "c": "complex", "M": "dates"}
UNFOLDS = 1032  # times: more than deflate can
_PIECE = 2**22  # bytes that are read at once


@dataclass(frozen=True)
class Header:
    """What an array is said to be, and where it begins in its member."""

    kind: np.dtype[Any]
    shape: tuple[int, ...]
    fortran: bool
    start: int

    @property
    def bytes(self) -> int:
        """Of all its values."""
        return math.prod(self.shape) * self.kind.itemsize


@contextmanager
def opened(path: Path) -> Iterator[zipfile.ZipFile]:
    """The archive, its members known to be arrays with names of their own.

    Raises
    ------
    InputError
        If it is none, or damaged; also for what is found while it is open.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file; check the path")
    try:
        with path.open("rb") as start:
            if start.read(len(_MAGIC)) == _MAGIC:
                raise InputError(f"{path}: one bare array; save it with np.savez(..., x=...)")
        with zipfile.ZipFile(path) as archive:
            _check_members(path, archive.infolist())
            yield archive
    except InputError:
        raise
    except MemoryError as error:
        raise InputError(
            f"{path}: more than memory holds; give the first N samples of it: {path}:N"
        ) from error
    except _DAMAGED as error:
        raise InputError(f"{path}: cannot be read ({reason(error)}); {_SAVE}") from error


def _check_members(path: Path, members: list[zipfile.ZipInfo]) -> None:
    seen: set[str] = set()
    for member in members:
        name = member.filename
        if name != member.orig_filename or not name.isprintable() or not name.endswith(".npy"):
            raise InputError(f"{path}: its member {member.orig_filename!r} is no array; {_SAVE}")
        if name in seen:
            raise InputError(f"{path}: it has {name!r} twice; {_SAVE}")
        seen.add(name)


def header_of(path: Path, archive: zipfile.ZipFile, name: str) -> Header:
    """The header of an array, which agrees with the size of its member.

    Raises
    ------
    InputError
        If it does not, or the array holds no plain numbers.
    """
    member = archive.getinfo(f"{name}.npy")
    packed, whole = member.compress_size, member.file_size
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise InputError(f"{path}: {name} is packed in an unknown way; {_SAVE}")
    if packed > path.stat().st_size or whole > (packed + 1) * UNFOLDS:
        raise InputError(
            f"{path}: {name} cannot be of {whole} bytes, being {packed} in the file; {_SAVE}"
        )
    with archive.open(member) as stream:
        header = _parsed(f"{path}: {name}", stream)
    if header.start + header.bytes != whole:
        raise InputError(
            f"{path}: {name} holds {whole - header.start} bytes where its header promises "
            f"{header.bytes}; {_SAVE}"
        )
    return header


def _parsed(where: str, stream: IO[bytes]) -> Header:
    """The header in front of the values, by numpy's own rules for the files that it writes."""
    magic = stream.read(8)
    long = magic[6:] in (b"\x02\x00", b"\x03\x00")
    if magic[:6] != _MAGIC or not (long or magic[6:] == b"\x01\x00"):
        raise InputError(f"{where} is no array of a known version; {_SAVE}")
    size = stream.read(4 if long else 2)
    length = int.from_bytes(size, "little")
    if length > _LONGEST_HEADER:
        raise InputError(f"{where} has a header of {length} bytes; {_SAVE}")
    found = _HEADER.fullmatch(stream.read(length).decode("latin-1"))
    if found is None:
        raise InputError(f"{where} has a header that cannot be read; {_SAVE}")
    sizes = [part.strip() for part in found["shape"].split(",")]
    if not all(part.isdecimal() for part in sizes[:-1]) or len(sizes) > _MOST_AXES:
        raise InputError(f"{where} has no shape; {_SAVE}")
    shape = tuple(int(part) for part in sizes if part)
    start = len(magic) + len(size) + length
    return Header(_number_kind(where, found), shape, found["fortran"] == "True", start)


def _number_kind(where: str, found: re.Match[str]) -> np.dtype[Any]:
    """Whole numbers, floats or truth values; nothing that is built of others, and no objects."""
    text = found["kind"] or ""
    if _KIND.fullmatch(text):
        return np.dtype(text)
    kind = _WORDS.get(text.lstrip("<>|=")[:1], text) if text else "records"
    ragged = (
        "; pad samples of several lengths to one array, and give lengths"
        if kind == _OBJECTS
        else ""
    )
    raise InputError(f"{where} holds {kind}, not plain numbers; {_SAVE}{ragged}")


def pieces(
    path: Path, archive: zipfile.ZipFile, name: str, header: Header, few: int
) -> Generator[Array, None, None]:
    """The values of the first `few` samples, some samples at a time.

    An array in Fortran's order has no first samples: it is read whole.
    """
    if header.fortran and len(header.shape) > 1:
        turned = Header(header.kind, header.shape[::-1], False, header.start)
        whole = np.concatenate(list(pieces(path, archive, name, turned, turned.shape[0])))
        yield np.ascontiguousarray(whole.T[:few])
        return
    size = math.prod(header.shape[1:]) * header.kind.itemsize
    with archive.open(f"{name}.npy") as stream:
        stream.read(header.start)
        for count in _counts(few, max(1, _PIECE // size)):
            content = stream.read(count * size)
            if len(content) != count * size:
                raise InputError(f"{path}: cannot be read ({name} ends too early); {_SAVE}")
            yield np.frombuffer(content, header.kind).reshape(count, *header.shape[1:])
        if few == header.shape[0]:
            stream.read(1)  # its checksum is compared at its end


def _counts(total: int, at_once: int) -> Iterator[int]:
    for first in range(0, total, at_once):
        yield min(at_once, total - first)


def gathered(shape: tuple[int, ...], kind: torch.dtype, parts: Iterator[Tensor]) -> Tensor:
    """The parts in one tensor, so that no more than it and one part are held.

    Raises
    ------
    MemoryError
        If it is larger than the machine's memory.
    """
    whole = math.prod(shape) * kind.itemsize
    if whole > _memory():
        raise MemoryError
    try:
        found = torch.empty(shape, dtype=kind)
    except RuntimeError as error:  # what torch says where memory is refused
        raise MemoryError from error
    at = 0
    for part in parts:
        found[at : at + len(part)] = part
        at += len(part)
    return found


def _memory() -> float:
    """Bytes that this machine has; without end where the system does not say."""
    if not hasattr(os, "sysconf"):
        return math.inf
    return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
