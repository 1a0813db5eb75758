"""Take single files out of package archives without unpacking the rest."""

import io
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path

from spikemorph.graph.errors import InputError

from .reasons import reason

_SYSTEM = (OSError, EOFError, KeyError, ValueError)
_DAMAGED = (*_SYSTEM, tarfile.TarError, zipfile.BadZipFile, lzma.LZMAError, zlib.error)


def read_members(archive: Path, members: Iterable[str]) -> dict[str, bytes]:
    """The content of each member of a `.whl`, `.deb` or tar archive, by the member's path."""
    try:
        if archive.suffix == ".whl":
            return _from_zip(archive, members)
        if archive.suffix == ".deb":
            return _from_tar(_debian_files(archive.read_bytes()), members)
        return _from_tar(archive.read_bytes(), members)
    except _DAMAGED as error:
        raise InputError(f"{archive.name}: cannot be read ({reason(error)})") from error


def _from_zip(archive: Path, members: Iterable[str]) -> dict[str, bytes]:
    with zipfile.ZipFile(archive) as file:
        return {member: file.read(member) for member in members}


def _from_tar(content: bytes, members: Iterable[str]) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(content)) as file:
        return {member: _member(file, member) for member in members}


def _member(file: tarfile.TarFile, member: str) -> bytes:
    stream = file.extractfile(member)
    if stream is None:
        raise KeyError(f"{member} is no plain file")
    with stream:
        return stream.read()


def _debian_files(content: bytes) -> bytes:
    """The tar archive `data.tar.*` within a Debian package.

    A package is an `ar` archive: eight magic bytes, then for each part a header of 60 bytes (name
    in the first 16, size in bytes 48 to 57), its content, and a padding byte after an odd size.
    """
    position = 8
    while content.startswith(b"!<arch>\n") and position + 60 <= len(content):
        header = content[position : position + 60]
        size = int(header[48:58])
        if header[:16].startswith(b"data.tar"):
            return content[position + 60 : position + 60 + size]
        position += 60 + size + size % 2
    raise ValueError("no data.tar in it")
