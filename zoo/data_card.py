"""What is known of a data set before any of it is read."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from .fetch import Download


@dataclass(frozen=True)
class Split:
    """One part of a data set: its size, and how it is read from the folder of its files."""

    count: int
    read: Callable[[Path], tuple[Tensor, Tensor]]  # samples and labels
    shipped: bool = False  # comes with the installation: the folder is not looked at
    tests: bool = False  # networks are tested on it: nothing may be learnt from it


@dataclass(frozen=True)
class DataSet:
    """One data set: its shape, its rights, its parts and the way to its files."""

    name: str
    summary: str
    shape: tuple[int, int, int]  # channel, row, column
    classes: tuple[str, ...]
    licence: str
    citation: str
    splits: Mapping[str, Split]
    download: Download | None = None  # none: all of it comes with the installation
