"""What a stage of a recipe is."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ..origins import Hashes
from .bench import Bench

Stamps = Mapping[str, str]
"""The hash of all that a stage depended on, by its name."""


def nothing(bench: Bench) -> None:
    """Of a stage that has nothing to refuse early."""


@dataclass(frozen=True)
class Stage:
    """One stage: from files to files of one network's folder.

    Parameters
    ----------
    name : str
        As messages and stamps say it.
    work : callable
        What it does.
    files : tuple of str
        What it leaves in the folder.
    after : str or None
        The stage that it goes on from.
    depends : callable
        The rest of what its files depend on, as plain data.
    check : callable
        Refuses now what the work would refuse only after other stages were done, in hours perhaps;
        raises `InputError` or `UnsupportedError`.
    """

    name: str
    work: Callable[[Bench], None]
    files: tuple[str, ...]
    after: str | None
    depends: Callable[[Bench, Hashes], Any]
    check: Callable[[Bench], None] = nothing
