"""An input: files of a seed, changed step by step, the same for the same numbers."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random

from .raw import damaged

Files = dict[str, bytes]
Change = Callable[[bytes, Random], bytes]


@dataclass(frozen=True)
class Loader:
    """One kind of files, and what commands do with it.

    `seeds` gives small valid files by name; `beside` are files that stay as they are. Those whose
    names match `changed` are changed by a row of `changes`, and now and then as bytes. `commands`
    are words of the command line; or functions, where no command reads such a file by its name.
    """

    name: str
    seeds: Callable[[], Mapping[str, Files]]
    changes: tuple[Change, ...]
    commands: tuple[tuple[str, ...] | Callable[[Path], object], ...]
    share: int
    beside: Callable[[], Files] = dict
    changed: tuple[str, ...] = ("",)
    bytewise: float = 0.25


@dataclass(frozen=True)
class Step:
    """One change: to which file, by which row (-1: as bytes), drawn by which number."""

    file: str
    row: int
    number: int


@dataclass(frozen=True)
class Recipe:
    """How an input is made, and which command it is given to."""

    loader: str
    seed: str
    steps: tuple[Step, ...]
    command: int


def drawn(loader: Loader, seed: int, index: int) -> Recipe:
    """The recipe of one input of a campaign."""
    rng = Random(f"{seed} {loader.name} {index}")
    seeds = loader.seeds()
    chosen = rng.choice(sorted(seeds))
    files = [name for name in sorted(seeds[chosen]) if name.endswith(loader.changed)]
    steps = []
    for _ in range(rng.choice((1, 1, 1, 2, 2, 3, 5))):
        plain = not loader.changes or rng.random() < loader.bytewise
        row = -1 if plain else rng.randrange(len(loader.changes))
        steps.append(Step(rng.choice(files), row, rng.randrange(2**32)))
    steps.sort(key=lambda step: step.row < 0)  # what no parser takes comes last
    return Recipe(loader.name, chosen, tuple(steps), rng.randrange(len(loader.commands)))


def made(loader: Loader, recipe: Recipe) -> Files:
    """The files of a recipe, without those beside."""
    files = dict(loader.seeds()[recipe.seed])
    for step in recipe.steps:
        change = damaged if step.row < 0 else loader.changes[step.row]
        rng = Random(step.number)
        try:
            files[step.file] = change(files[step.file], rng)
        except Exception:  # an earlier step left nothing to parse
            files[step.file] = damaged(files[step.file], rng)
    return files


def put(files: Mapping[str, bytes], folder: Path) -> None:
    """Write files into a folder."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
