"""A campaign: many inputs for every loader, what was found kept with how to make it again."""

import json
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from .ends import End
from .inputs import Loader, Recipe, drawn, put
from .trial import Table, reduced, tried, warm

_ALIKE = 2  # findings of one signature that are kept
_PIECE = 400  # inputs between two notes of where a campaign stands


@dataclass
class Standing:
    """Where a campaign stands: inputs done and ends by loader, and seconds."""

    seed: int
    done: Counter[str] = field(default_factory=Counter)
    ends: dict[str, Counter[str]] = field(default_factory=dict)
    findings: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0

    def note(self, loader: str, end: End) -> None:
        self.done[loader] += 1
        self.ends.setdefault(loader, Counter())[end.kind] += 1

    @classmethod
    def read(cls, path: Path, seed: int) -> "Standing":
        """Of a campaign that was begun; a new one where there is none."""
        if not path.is_file():
            return cls(seed)
        plain = json.loads(path.read_text())
        if plain["seed"] != seed:
            raise SystemExit(
                f"{path}: is a campaign of seed {plain['seed']}; give it, or another folder"
            )
        ends = {k: Counter(v) for k, v in plain["ends"].items()}
        return cls(seed, Counter(plain["done"]), ends, Counter(plain["findings"]), plain["seconds"])


def shares(table: Table, inputs: int) -> Mapping[str, int]:
    """How many inputs every loader gets."""
    whole = sum(row.share for row in table.values())
    return {name: -(-inputs * row.share // whole) for name, row in table.items()}


def carry_out(
    table: Table, inputs: int, seed: int, folder: Path, tell: Callable[[str], None]
) -> Standing:
    """Go on with the campaign in `folder` until every loader has had its share of `inputs`."""
    folder.mkdir(parents=True, exist_ok=True)
    note = folder / "standing.json"
    standing = Standing.read(note, seed)
    warm(table)
    wanted = shares(table, inputs)
    while todo := {n: k - standing.done[n] for n, k in wanted.items() if k > standing.done[n]}:
        name = max(todo, key=lambda n: todo[n] / wanted[n])  # all loaders go on side by side
        began = time.monotonic()
        first = standing.done[name]
        numbers = range(first, min(wanted[name], first + _PIECE))
        found = tried(table, [drawn(table[name], seed, k) for k in numbers])
        for number, (item, end) in zip(numbers, found, strict=True):
            standing.note(name, end)
            if not end.allowed and isinstance(item, Recipe):
                _keep(table, item, number, end, standing, folder, tell)
        standing.seconds += time.monotonic() - began
        note.write_text(json.dumps(vars(standing), indent=1))
    return standing


def _keep(
    table: Table, recipe: Recipe, number: int, end: End, standing: Standing, folder: Path,
    tell: Callable[[str], None],
) -> None:  # fmt: skip
    key = f"{recipe.loader} {end.signature}"
    standing.findings[key] += 1
    if standing.findings[key] > _ALIKE:
        return
    place = folder / "findings" / f"{recipe.loader}-{number}"
    files, command = reduced(table, recipe, end)
    put(files, place)
    words = table[recipe.loader].commands[command]
    said = words if isinstance(words, tuple) else words.__name__
    told = {
        "loader": recipe.loader,
        "command": command,
        "words": said,
        "seed": standing.seed,
        "index": number,
        **vars(end),
    }
    (place / "finding.json").write_text(json.dumps(told, indent=1))
    tell(f"{place}: {key}\n{end.text[-1500:]}")


def table_of(standing: Standing) -> list[str]:
    """Counts by loader, in lines."""
    kinds = sorted({kind for ends in standing.ends.values() for kind in ends})
    rows = [["loader", "inputs", *kinds]]
    for name, ends in standing.ends.items():
        rows.append([name, str(standing.done[name]), *(str(ends[kind]) for kind in kinds)])
    total = [sum(ends[kind] for ends in standing.ends.values()) for kind in kinds]
    rows.append(["all", str(sum(standing.done.values())), *map(str, total)])
    return ["  ".join(f"{cell:>10}" for cell in row) for row in rows]


def loaders_named(table: Mapping[str, Loader], names: str | None) -> Table:
    """The rows of those names; all without any."""
    chosen = names.split(",") if names else list(table)
    if odd := sorted(set(chosen) - set(table)):
        raise SystemExit(f"no loaders {odd}; there are {', '.join(table)}")
    return {name: table[name] for name in chosen}
