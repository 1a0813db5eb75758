"""Gradient paths of a target, chosen by the names that a command line gives."""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from spikemorph.graph import InputError

from ..target import Target
from .through_time import paper_paths

STRONG = (
    7  # paths that are taken unless others are asked for: as many as exact networks have in all
)


def choose_paths(target: Target, wish: str) -> Target:
    """The target with some of its paths.

    Parameters
    ----------
    target : Target
        With any paths.
    wish : str
        "all"; "strong", the first `STRONG`; "paper", the 19 of the paper; or names with commas
        between them, in which a hyphen may stand for a blank: ``exp-0.3-2,bptr``. Their order is the
        target's.

    Raises
    ------
    InputError
        If a name is unknown or given twice, or none is given; it lists the known ones.
    """
    known = [path.name for path in target.paths]
    groups = {"all": known, "strong": known[:STRONG]}
    wanted = groups[wish.strip()] if wish.strip() in groups else _names(wish, known)
    chosen = [index for index, name in enumerate(known) if name in wanted]
    paths = tuple(target.paths[index] for index in chosen)
    mixed = None if target.mixed is None else _renumbered(target.mixed, tuple(chosen))
    return replace(target, paths=paths, mixed=mixed)


def _names(wish: str, known: list[str]) -> list[str]:
    asked = list(paper_paths()) if wish.strip() == "paper" else _split(wish, known)
    if unknown := [name for name in asked if name not in known]:
        raise InputError(
            f"gradient path {unknown[0]!r} is not known here; choose all, strong, paper, or of: "
            f"{', '.join(known) or 'none, this network has no gradient'}"
        )
    if twice := {name for name in asked if asked.count(name) > 1}:
        raise InputError(f"gradient path {min(twice)!r} is given twice; name it once")
    return asked


def _split(wish: str, known: list[str]) -> list[str]:
    plain = {name.replace("-", " "): name for name in known}
    words = [" ".join(part.replace("-", " ").split()) for part in wish.split(",")]
    return [plain.get(word, word) for word in words]


def _renumbered(
    mixed: Callable[[Tensor, Tensor], Tensor], chosen: tuple[int, ...]
) -> Callable[[Tensor, Tensor], Tensor]:
    """The same with `which` counting the chosen paths only."""
    return lambda x, which: mixed(x, torch.tensor(chosen, device=which.device)[which])
