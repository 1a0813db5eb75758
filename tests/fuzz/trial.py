"""Try inputs, confirm what is found in a process of its own, and make it small."""

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from random import Random

import torch

from spikemorph.cli.failures import in_line
from spikemorph.graph import SpikemorphError

from .commands import call
from .ends import End
from .inputs import Files, Loader, Recipe, made, put
from .seeds import bench
from .workers import Budget, ends_of

Table = Mapping[str, Loader]
Item = Recipe | tuple[str, Files, int]  # how to make it; or a loader's name, files, and the command
BUDGET = Budget()


def _settle() -> None:
    torch.set_num_threads(1)


def warm(table: Table) -> None:
    """Carry out every command on valid files, so that all modules are there; they must end well."""
    for loader in table.values():
        for name, seed in loader.seeds().items():
            for command in dict.fromkeys(loader.commands):
                with bench() as folder:
                    put({**loader.beside(), **seed}, folder)
                    act = command if isinstance(command, tuple) else None
                    status = call(*act) if act else _status(command, folder)  # type: ignore[arg-type]
                    if status != 0:
                        said = getattr(sys.stderr, "getvalue", str)()
                        raise AssertionError(f"{loader.name}, {name}, {command}: {status}, {said}")


def files_of(table: Table, item: Item) -> Files:
    """The changed files of an input."""
    return made(table[item.loader], item) if isinstance(item, Recipe) else item[1]


def _task(table: Table) -> Callable[[Item, Path], Callable[[], int]]:
    def prepare(item: Item, folder: Path) -> Callable[[], int]:
        name, number = (
            (item.loader, item.command) if isinstance(item, Recipe) else (item[0], item[2])
        )
        loader = table[name]
        put(loader.beside(), folder)
        put(files_of(table, item), folder)
        command = loader.commands[number]
        if isinstance(command, tuple):
            return lambda: call(*command)
        return lambda: _status(command, folder)

    return prepare


def _status(command: Callable[[Path], object], folder: Path) -> int:
    """What the command line makes of a function's end."""
    try:
        command(folder)
    except SpikemorphError as error:
        sys.stderr.write(f"error: {in_line(error)}\n")
        return 2
    return 0


def tried(
    table: Table, items: Iterable[Item], budget: Budget = BUDGET
) -> Iterator[tuple[Item, End]]:
    """Every input with its end; a finding is tried again alone: one that does not come back is none."""
    for item, end in ends_of(_task(table), items, budget, _settle):
        if not end.allowed:
            ((_, end),) = ends_of(_task(table), [item], budget, _settle)
        yield item, end


def reduced(table: Table, recipe: Recipe, end: End, most: int = 12) -> tuple[Files, int]:
    """Fewer steps and shorter files that end alike; and the command."""

    def same(item: Item) -> bool:
        ((_, found),) = ends_of(_task(table), [item], BUDGET, _settle)
        return found.signature == end.signature

    for step in recipe.steps:
        fewer = replace(recipe, steps=tuple(s for s in recipe.steps if s != step))
        if fewer.steps and same(fewer):
            recipe = fewer
    files = files_of(table, recipe)
    if end.kind == "overtime":
        return files, recipe.command
    seed = table[recipe.loader].seeds()[recipe.seed]
    changed = [name for name in files if files[name] != seed.get(name)]
    rng = Random(0)
    for _ in range(most if len(changed) == 1 else 0):
        content = files[changed[0]]
        if len(content) < 8 or len(content) > 1 << 20:
            break
        size = max(1, len(content) >> rng.randrange(1, 8))
        start = rng.randrange(len(content))
        shorter = {**files, changed[0]: content[:start] + content[start + size :]}
        if same((recipe.loader, shorter, recipe.command)):
            files = shorter
    return files, recipe.command
