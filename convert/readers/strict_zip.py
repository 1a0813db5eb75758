"""Read a zip archive so strictly that no other reader can see other bytes in it.

Readers of zip archives differ: which of two members of one name counts, where a name ends, whether
the list at the end or the headers before the members are right. Here only an archive passes in
which all of these agree, whose members lie side by side from its first byte to its list, stored as
they are; and other libraries are given a copy of our own making (`packed`), never the file.
"""

import io
import struct
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from spikemorph.graph import InputError, containers

_LOCAL = struct.Struct("<4s5H3I2H")
_ENTRY = struct.Struct("<4s6H3I5H2I")
_END = struct.Struct("<4s4H2IH")
_WIDE_END = struct.Struct("<4sQ2H2I4Q4sIQI")  # the same in 64 bits, with where it stands
_DESCRIPTORS = (struct.Struct("<4s3I"), struct.Struct("<4sI2Q"))
_MAGIC = b"PK\x03\x04"
_UTF8, _HAS_DESCRIPTOR = 0x800, 0x8
_LONGEST = 200  # characters of a name


class OddZipError(Exception):
    """Why an archive is not read."""


@dataclass(frozen=True)
class _Entry:
    """A member as the list at the end has it."""

    raw: bytes
    flags: int
    check: int
    size: int
    offset: int

    @property
    def name(self) -> str:
        return self.raw.decode("ascii", "backslashreplace")


def read_bytes(path: Path) -> bytes:
    """A model's bytes, read once.

    Raises
    ------
    InputError
        If the file is missing, empty, cannot be read or does not fit into memory.
    """
    try:
        content = containers.read_bytes(path)
    except MemoryError as error:
        raise InputError(f"{path}: does not fit into memory") from error
    if not content:
        raise InputError(f"{path}: the file is empty; export the model again")
    return content


def is_zip(content: bytes) -> bool:
    """Whether the bytes begin as a zip archive does."""
    return content.startswith(_MAGIC)


def members(content: bytes) -> dict[str, bytes]:
    """The members of an archive in one folder, by their names in it.

    Raises
    ------
    OddZipError
        If it is damaged, or anything in it could be read in two ways.
    """
    if not is_zip(content):
        raise OddZipError("it does not begin as a zip archive does")
    entries, start = _listed(content)
    found: dict[str, bytes] = {}
    end = 0
    for entry in sorted(entries, key=lambda e: e.offset):
        if entry.offset != end:
            raise OddZipError(f"there is a gap or an overlap before member {entry.name!r}")
        data, end = _stored(content, entry, start)
        found[entry.name] = data
    if end != start:
        raise OddZipError("there are bytes between its members and its list of members")
    if len({name.lower() for name in found}) != len(entries):
        raise OddZipError("two of its members have one name")
    return _in_one_folder(found)


def packed(content: Mapping[str, bytes], folder: str = "archive") -> io.BytesIO:
    """An archive of our own making with these members, in memory."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_STORED) as archive:
        for name, data in content.items():
            archive.writestr(zipfile.ZipInfo(f"{folder}/{name}"), data)
    made.seek(0)
    return made


def _listed(content: bytes) -> tuple[list[_Entry], int]:
    """The members that the list at the end names, and where that list starts."""
    at = len(content) - _END.size
    if at < 0:
        raise OddZipError("it ends too early")
    magic, disk, disk_of_list, here, count, length, start, comment = _END.unpack_from(content, at)
    if magic != b"PK\x05\x06" or comment:
        raise OddZipError("it does not end with its list of members (cut, or something follows)")
    if disk or disk_of_list or here != count or count == 0xFFFF or start == 0xFFFFFFFF:
        raise OddZipError("it is in parts, or above 4 GiB")
    end = at - (_WIDE_END.size if _has_wide_end(content, at, (count, length, start)) else 0)
    if start + length != end:
        raise OddZipError("its list of members is not where it says")
    entries, place = [], start
    for _ in range(count):
        if place + _ENTRY.size > end:
            raise OddZipError("its list of members is cut")
        entry, place = _entry(content, place)
        entries.append(entry)
    if place != end:
        raise OddZipError("its list of members is longer than its members")
    return entries, start


def _has_wide_end(content: bytes, at: int, end: tuple[int, int, int]) -> bool:
    """Whether torch's writer has put the end in 64 bits too, before `at`: it must say the same."""
    count, length, start = end
    place = start + length
    wanted = _WIDE_END.pack(
        b"PK\x06\x06", 44, 798, 45, 0, 0, count, count, length, start, b"PK\x06\x07", 0, place, 1
    )
    found = content[place:at]
    return found[:12] + found[16:] == wanted[:12] + wanted[16:]  # but for versions


def _entry(content: bytes, place: int) -> tuple[_Entry, int]:
    (magic, _, _, flags, method, _, _, check, small, size, name_length, extra, comment, disk, _,
     _, offset) = _ENTRY.unpack_from(content, place)  # fmt: skip
    name_at = place + _ENTRY.size
    raw = content[name_at : name_at + name_length]
    entry = _Entry(raw, flags, check, size, offset)
    if magic != b"PK\x01\x02" or len(raw) != name_length or not 0 < name_length <= _LONGEST:
        raise OddZipError("its list of members is damaged")
    if not all(32 <= c < 127 and c != ord("\\") for c in raw):
        raise OddZipError(f"member {entry.name!r} has an odd name")
    if any(part in ("", ".", "..") for part in entry.name.split("/")):
        raise OddZipError(f"member {entry.name!r} has a name that is no plain path")
    if flags & ~(_UTF8 | _HAS_DESCRIPTOR):
        raise OddZipError(f"member {entry.name!r} is encrypted or of an unknown kind")
    if method or small != size:
        raise OddZipError(f"member {entry.name!r} is compressed")
    if disk or comment or size == 0xFFFFFFFF or offset == 0xFFFFFFFF:
        raise OddZipError(f"member {entry.name!r} is in parts, commented, or above 4 GiB")
    return entry, name_at + name_length + extra + comment


def _stored(content: bytes, entry: _Entry, limit: int) -> tuple[bytes, int]:
    """A member's bytes, whose own header must say what the list says; and where it ends."""
    if entry.offset + _LOCAL.size > limit:
        raise OddZipError(f"member {entry.name!r} lies outside the archive")
    magic, _, flags, method, _, _, check, small, size, length, extra = _LOCAL.unpack_from(
        content, entry.offset
    )
    name_at = entry.offset + _LOCAL.size
    begin = name_at + length + extra
    end = begin + entry.size
    later = bool(flags & _HAS_DESCRIPTOR) and (check, small, size) == (0, 0, 0)
    same = later or (check, small, size) == (entry.check, entry.size, entry.size)
    if (
        magic != _MAGIC
        or (flags, method) != (entry.flags, 0)
        or content[name_at : name_at + length] != entry.raw
        or not same
        or end > limit
    ):
        raise OddZipError(f"member {entry.name!r} has a header that differs from the list")
    data = content[begin:end]
    if zlib.crc32(data) != entry.check:
        raise OddZipError(f"member {entry.name!r} does not fit its checksum")
    return data, _after(content, entry, end) if flags & _HAS_DESCRIPTOR else end


def _after(content: bytes, entry: _Entry, end: int) -> int:
    """Where the sizes end that are written once more behind a member."""
    for kind in _DESCRIPTORS:
        if (
            kind.pack(b"PK\x07\x08", entry.check, entry.size, entry.size)
            == (content[end : end + kind.size])
        ):
            return end + kind.size
    raise OddZipError(f"member {entry.name!r} has sizes behind it that differ from the list")


def _in_one_folder(found: Mapping[str, bytes]) -> dict[str, bytes]:
    folders = {name.partition("/")[0] for name in found}
    if len(folders) != 1 or not all("/" in name for name in found):
        raise OddZipError("its members do not lie in one folder")
    return {name.partition("/")[2]: data for name, data in found.items()}
