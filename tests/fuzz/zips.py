"""Zip archives written by hand, so that what they say of themselves can be false in every field."""

import io
import struct
import zipfile
import zlib
from dataclasses import dataclass, field, replace
from functools import cache
from random import Random

from .raw import damaged
from .watch import PAYLOAD


@dataclass(frozen=True)
class Member:
    """One entry; `local` and `central` overrule what the two headers say."""

    name: bytes
    content: bytes
    deflated: bool = False
    zeros: int = 0  # megabytes of them, in few bytes, in place of the content
    local: dict[str, int | bytes] = field(default_factory=dict)
    central: dict[str, int | bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class Archive:
    """Entries in order, and what stands before, between and behind them."""

    members: tuple[Member, ...]
    before: bytes = b""
    behind: bytes = b""
    comment: bytes = b""
    end: dict[str, int] = field(default_factory=dict)
    hidden: tuple[Member, ...] = ()  # with a local header only


def unzipped(data: bytes) -> Archive:
    """The entries of an honest archive."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        if sum(i.file_size for i in archive.infolist()) > _MOST:
            raise ValueError("too large to be forged again")
        return Archive(
            tuple(
                Member(
                    i.filename.encode(), archive.read(i), i.compress_type == zipfile.ZIP_DEFLATED
                )
                for i in archive.infolist()
            )
        )


def zipped(archive: Archive) -> bytes:
    """The bytes of an archive, as its parts say."""
    out, directory = bytearray(archive.before), bytearray()
    for member in archive.members:
        place = len(out)
        facts = _facts(member)
        out += _local(member, facts)
        directory += _central({**facts, **member.central}, place)
    for member in archive.hidden:
        out += _local(member, _facts(member))
    start = len(out)
    count = len(archive.members)
    end = {"count": count, "size": len(directory), "start": start, **archive.end}
    tail = struct.pack(
        "<IHHHHIIH", 0x06054B50, 0, 0, end["count"] & 0xFFFF, end["count"] & 0xFFFF,
        end["size"] & 0xFFFFFFFF, end["start"] & 0xFFFFFFFF, len(archive.comment),
    )  # fmt: skip
    return bytes(out + directory + tail + archive.comment + archive.behind)


_ZEROS = bytes(1 << 20)
_MOST = 1 << 23  # bytes of an archive's contents


@cache
def _folded_zeros() -> bytes:
    """A megabyte of zeros, so that it can stand in any deflated stream."""
    folder = zlib.compressobj(9, zlib.DEFLATED, -15)
    return folder.compress(_ZEROS) + folder.flush(zlib.Z_FULL_FLUSH)


@cache
def _check_of_zeros(count: int) -> int:
    check = 0
    for _ in range(count):
        check = zlib.crc32(_ZEROS, check)
    return check


def _packed(member: Member) -> bytes:
    if member.zeros:
        return _folded_zeros() * member.zeros + b"\x03\x00"
    if not member.deflated:
        return member.content
    folder = zlib.compressobj(9, zlib.DEFLATED, -15)
    return folder.compress(member.content) + folder.flush()


def _facts(member: Member) -> dict[str, int | bytes]:
    packed = _packed(member)
    check = _check_of_zeros(member.zeros) if member.zeros else zlib.crc32(member.content)
    size = member.zeros * len(_ZEROS) or len(member.content)
    return {
        "name": member.name, "flags": 0, "method": 8 if member.deflated or member.zeros else 0,
        "crc": check, "packed": len(packed), "size": size,
        "extra": b"", "data": packed, "offset": 0, "attributes": 0,
    }  # fmt: skip


def _local(member: Member, facts: dict[str, int | bytes]) -> bytes:
    said = {**facts, **member.local}
    name, extra, data = (bytes(said[k]) for k in ("name", "extra", "data"))
    numbers = [int(said[k]) for k in ("flags", "method", "crc", "packed", "size")]
    head = struct.pack(
        "<IHHHHHIIIHH", 0x04034B50, 20, numbers[0] & 0xFFFF, numbers[1] & 0xFFFF, 0, 0x21,
        numbers[2] & 0xFFFFFFFF, numbers[3] & 0xFFFFFFFF, numbers[4] & 0xFFFFFFFF,
        len(name), len(extra),
    )  # fmt: skip
    return head + name + extra + data


def _central(said: dict[str, int | bytes], place: int) -> bytes:
    name, extra = bytes(said["name"]), bytes(said["extra"])
    numbers = [int(said[k]) for k in ("flags", "method", "crc", "packed", "size")]
    return struct.pack(
        "<IHHHHHHIIIHHHHHII", 0x02014B50, 20, 20, numbers[0] & 0xFFFF, numbers[1] & 0xFFFF, 0, 0x21,
        numbers[2] & 0xFFFFFFFF, numbers[3] & 0xFFFFFFFF, numbers[4] & 0xFFFFFFFF,
        len(name), len(extra), 0, 0, 0, int(said["attributes"]),
        (place + int(said["offset"])) & 0xFFFFFFFF,
    ) + name + extra  # fmt: skip


def forged_archive(archive: Archive, rng: Random, names: tuple[bytes, ...] = ()) -> Archive:
    """The archive with one lie in it."""
    if not archive.members:
        return replace(archive, members=(Member(b"x", b""),))
    members = list(archive.members)
    k = rng.randrange(len(members))
    chosen = members[k]
    how = rng.randrange(13)
    if how == 0:
        members[k] = replace(chosen, name=_name(chosen.name, rng, names))
    elif how == 1:  # the same name twice, other content
        members.insert(
            rng.randrange(len(members) + 1), replace(chosen, content=damaged(chosen.content, rng))
        )
    elif how == 2:
        del members[k]
    elif how == 3:
        side = {rng.choice(("crc", "packed", "size", "flags", "method")): rng.choice(
            (0, 1, 8, 12, 99, 0xFFFF, 0xFFFFFFFF, 2**31, len(chosen.content) + 1))}  # fmt: skip
        members[k] = replace(chosen, **{rng.choice(("local", "central")): side})
    elif how == 4:
        lie = {"name": _name(chosen.name, rng, names)}
        members[k] = replace(chosen, **{rng.choice(("local", "central")): lie})
    elif how == 5:
        members[k] = replace(chosen, deflated=not chosen.deflated)
    elif how == 6:  # unfolds to much more than it takes
        members[k] = replace(chosen, zeros=rng.choice((1, 1, 1, 2000)))
    elif how == 7:
        members[k] = replace(chosen, central={"offset": rng.choice((1, -1, 30, -4000, 2**31))})
    elif how == 8:
        lie = {rng.choice(("count", "size", "start")): rng.choice((0, 1, 0xFFFF, 2**31, 2**32 - 1))}
        return replace(archive, end=lie)
    elif how == 9:
        part = rng.choice(("before", "behind", "comment"))
        return replace(
            archive, **{part: rng.choice((b"\0" * 22, b"PK\5\6" + bytes(18), rng.randbytes(40)))}
        )
    elif how == 10:
        return replace(archive, hidden=(replace(chosen, content=damaged(chosen.content, rng)),))
    elif how == 11:
        other = rng.choice(members)
        members[k] = replace(chosen, content=other.content)
    else:
        side = {
            "extra": rng.choice(
                (b"\1\0\x10\0" + b"\xff" * 16, rng.randbytes(7), b"up\5\0\1" + bytes(9))
            )
        }
        members[k] = replace(chosen, **{rng.choice(("local", "central")): side})
    return replace(archive, members=tuple(members))


def _name(name: bytes, rng: Random, names: tuple[bytes, ...]) -> bytes:
    top, _, inner = name.partition(b"/")
    return rng.choice(
        (
            *(name + b"\0", name + b"\0x", b"/" + name, b"../" + name, name.replace(b"/", b"\\")),
            *(name.upper(), name + b"/", b"", top + b"//" + inner, b"./" + name, b"\xff" + name),
            *(
                inner or name,
                b"../canary.bin",
                PAYLOAD.encode(),
                top + b"/data.pkl",
                top + b"/x",
                *names,
            ),
        )
    )
