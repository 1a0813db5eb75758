"""Samples by name: `NAME:SPLIT[:N]`, an `.npz` file (`FILE.npz[:N]`) or a folder of images."""

import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from spikemorph.graph.errors import InputError

from .cifar import CIFAR10
from .data_card import DataSet, Split
from .digits import DIGITS
from .fashion import FASHION_MNIST
from .fetch import Tell, obtain
from .image_folder import read_image_folder
from .made import keep
from .mnist import MNIST
from .npz_samples import read_npz
from .samples import Samples
from .sequences import SEQUENCES

_DATA_SETS: Mapping[str, DataSet] = MappingProxyType(
    {entry.name: entry for entry in (DIGITS, FASHION_MNIST, MNIST, CIFAR10, *SEQUENCES)}
)


def data_catalogue() -> tuple[DataSet, ...]:
    """Every data set that has a name here."""
    return tuple(_DATA_SETS.values())


def npz_part(spec: str) -> tuple[Path, int | None] | None:
    """The file of `FILE.npz` or `FILE.npz:N`, and the N; None for other data."""
    found = re.fullmatch(r"(.+\.npz)(?::([1-9][0-9]{0,17}))?", spec, re.DOTALL)
    if found is None:
        return None
    return Path(found[1]), None if found[2] is None else int(found[2])


def card_of(spec: str) -> tuple[DataSet, Split] | None:
    """The data set and the split that a name stands for; None for a file or a folder.

    Raises
    ------
    InputError
        If there is no such data set or split.
    """
    if npz_part(spec) is not None or (spec and Path(spec).is_dir()):
        return None
    entry, name, _ = _parse(spec)
    return entry, entry.splits[name]


def load_data(
    spec: str,
    *,
    most: int | None = None,
    home: Path | None = None,
    tell: Tell | None = None,
) -> Samples:
    """Read samples, fetching them first if they are not on this machine.

    Parameters
    ----------
    spec
        `digits:test`, `mnist:test:1000` (the first thousand), a path to an `.npz` with `x` and
        optionally `y`, `lengths`, `label_lengths`, `FILE.npz:1000`, or a path to a folder of images.
    most
        How many are looked at: of a file that may be larger than memory no more are read.
    home
        Where downloads are kept; `SPIKEMORPH_HOME` or the platform's cache folder by default.
    tell
        Is told, in a line, what is being fetched.

    Raises
    ------
    InputError
        If there is no such thing, or what is there cannot be used.
    """
    if (part := npz_part(spec)) is not None:
        return read_npz(*part, most)
    if spec and Path(spec).is_dir():
        return read_image_folder(Path(spec))
    entry, name, count = _parse(spec)
    split = entry.splits[name]
    samples = _read(entry, name, _folder(entry, split, home, tell))
    return samples if count is None else samples.take(count)


def fetch_data(name: str, *, home: Path | None = None, tell: Tell | None = None) -> Path | None:
    """The folder with a data set's files, verified or made here; none if it comes installed."""
    return _kept(_data_set(name, name), home, tell)


def _data_set(name: str, spec: str) -> DataSet:
    if name in _DATA_SETS:
        return _DATA_SETS[name]
    raise InputError(
        f"data {spec!r}: no data set, .npz file or folder of that name; "
        f"known sets: {', '.join(_DATA_SETS)}"
    )


def _parse(spec: str) -> tuple[DataSet, str, int | None]:
    """The parts of `NAME:SPLIT[:N]`."""
    name, *rest = spec.split(":")
    entry = _data_set(name, spec)
    choices = " or ".join(f"{name}:{split}" for split in entry.splits)
    if not rest or rest[0] not in entry.splits or len(rest) > 2:
        raise InputError(f"data {spec!r}: not NAME:SPLIT[:N]; give {choices}")
    if len(rest) == 1:
        return entry, rest[0], None
    if not (rest[1].isascii() and rest[1].isdigit() and int(rest[1]) > 0):
        raise InputError(f"data {spec!r}: {rest[1]!r} is no number of samples; give 1 or more")
    return entry, rest[0], int(rest[1])


def _folder(entry: DataSet, split: Split, home: Path | None, tell: Tell | None) -> Path:
    return Path() if split.shipped else _kept(entry, home, tell) or Path()


def _kept(entry: DataSet, home: Path | None, tell: Tell | None) -> Path | None:
    """The folder with the files of a data set that has any."""
    if entry.made is not None:
        return keep(entry.made, home, tell)
    return None if entry.download is None else obtain(entry.download, home, tell)


def _read(entry: DataSet, split: str, folder: Path) -> Samples:
    found = entry.splits[split].read(folder)
    expected = (entry.splits[split].count, *entry.shape)
    if tuple(found.x.shape) != expected:
        raise InputError(
            f"{entry.name}:{split}: samples of shape {tuple(found.x.shape)}, not {expected}; "
            "delete them from the cache and fetch again"
        )
    return Samples(
        name=f"{entry.name}:{split}",
        x=found.x,
        y=found.y,
        classes=entry.classes,
        licence=entry.licence,
        source=f"{entry.citation}; made by {found.made_by}" if found.made_by else entry.citation,
        lengths=found.lengths,
        label_lengths=found.label_lengths,
    )
