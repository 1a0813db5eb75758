"""Bring verified files into the cache, by the first route that works."""

import hashlib
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from spikemorph.graph.errors import InputError
from spikemorph.graph.saving import write_bytes

from .archives import read_members
from .cache import default_home, made
from .downloads import Route
from .reasons import reason

Tell = Callable[[str], None]  # is told what is being tried, for a user who waits


@dataclass(frozen=True)
class Download:
    """Files that are fetched once: their names with the sha256 of each, and the ways to them."""

    name: str
    files: Mapping[str, str]
    routes: tuple[Route, ...]


def sha256_of(content: bytes) -> str:
    """The checksum that the catalogue pins."""
    return hashlib.sha256(content).hexdigest()


def obtain(download: Download, home: Path | None = None, tell: Tell | None = None) -> Path:
    """The folder holding the download's files, fetched now if they are not there intact."""
    home = home or default_home()
    folder = home / download.name
    if all(_is_intact(folder / file, digest) for file, digest in download.files.items()):
        return folder
    refusals = []
    for route in download.routes:
        if tell is not None:
            tell(f"{download.name}: trying {route.name}")
        try:
            contents = _bring(route, download, made(home))
        except InputError as refusal:
            refusals.append(f"{route.name}: {refusal}")
            continue
        for file, content in contents.items():
            write_bytes(made(folder) / file, content)
        return folder
    raise InputError(_nothing_worked(download, home, refusals))


def _is_intact(file: Path, digest: str) -> bool:
    return file.is_file() and sha256_of(file.read_bytes()) == digest


def _bring(route: Route, download: Download, home: Path) -> dict[str, bytes]:
    """The verified content of every file, by one route; the folder it used is gone afterwards."""
    try:
        with tempfile.TemporaryDirectory(dir=home, prefix=".fetch-") as scratch:
            contents = _contents(route, home, Path(scratch))
    except OSError as error:
        raise InputError(reason(error)) from error
    for file, digest in download.files.items():
        _verify(file, contents[file], digest)
    return contents


def _contents(route: Route, home: Path, scratch: Path) -> dict[str, bytes]:
    if not route.archive:
        route.run(scratch)
        return {file: (scratch / path).read_bytes() for file, path in route.members.items()}
    archive = home / "archives" / route.archive  # put there by hand, where no registry answers
    if not archive.is_file():
        route.run(scratch)
        archive = scratch / route.archive
    _verify(archive.name, archive.read_bytes(), route.sha256)
    found = read_members(archive, route.members.values())
    return {file: found[path] for file, path in route.members.items()}


def _verify(file: str, content: bytes, digest: str) -> None:
    actual = sha256_of(content)
    if actual != digest:
        raise InputError(f"{file} has sha256 {actual}, not {digest}; it was not used")


def _nothing_worked(download: Download, home: Path, refusals: list[str]) -> str:
    archives = " or ".join(route.archive for route in download.routes if route.archive)
    return (
        f"{download.name}: no route worked ({'; '.join(refusals)}); "
        f"get online, or put {archives} into {home / 'archives'}"
    )
