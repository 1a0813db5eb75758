"""What is known of a data set before any of it is read."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from .fetch import Download
from .made import Made


@dataclass(frozen=True)
class Arrays:
    """What is read of one part of a data set; fields as `Samples` has them."""

    x: Tensor
    y: Tensor
    lengths: Tensor | None = None
    label_lengths: Tensor | None = None
    made_by: str = ""  # the program that made them here, with its version, where they depend on it


@dataclass(frozen=True)
class Split:
    """One part of a data set: its size, and how it is read from the folder of its files."""

    count: int
    read: Callable[[Path], Arrays]
    shipped: bool = False  # comes with the installation: the folder is not looked at
    tests: bool = False  # networks are tested on it: nothing may be learnt from it


@dataclass(frozen=True)
class DataSet:
    """One data set: its shape, its rights, its parts and the way to its files.

    Without a download, and not made by a program, all of it comes with the installation.
    """

    name: str
    summary: str
    shape: tuple[int, ...]  # of images channel, row, column; of sequences element, *features
    classes: tuple[str, ...]
    licence: str
    citation: str
    splits: Mapping[str, Split]
    download: Download | None = None
    made: Made | None = None
