"""Count rooms, floors and arrows of a checkout, from its imports: `benchmarks/rooms.py [CHECKOUT ...]`.

A room is a folder of code, and a loose file beside the rooms of `app/`. An arrow is a room that
imports another. Rooms that import each other stand on one floor; a floor stands on all that it
imports.
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

FOLDERS = (
    *("app", "convert", "energy", "graph", "layers", "prune", "quant", "robust", "spiking"),
    *("surrogate", "train", "zoo"),
)


def parts_of(path: Path) -> list[str]:
    """The dotted name of a file, below the package."""
    parts = list(path.with_suffix("").parts)
    parts = parts[1:] if parts[0] == "app" else parts
    return parts[:-1] if parts[-1] == "__init__" else parts


def room_of(path: Path) -> str:
    """Its folder; the file itself where it lies loose in `app/`."""
    return str(path.with_suffix("")) if path.parts[:-1] == ("app",) else str(path.parent)


def imported(path: Path, source: str) -> Iterator[str]:
    """Dotted names below the package, of all that a file imports."""
    package = parts_of(path) if path.stem == "__init__" else parts_of(path)[:-1]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            start = [*base, *(node.module or "").split(".")]
            if not node.level and start[0] != "spikemorph":
                continue
            start = [part for part in start if part and part != "spikemorph"]
            yield from (".".join([*start, alias.name]) for alias in node.names)


def arrows_of(root: Path) -> tuple[set[str], set[tuple[str, str]]]:
    """Rooms, and pairs of a room and one that it imports."""
    files = [p.relative_to(root) for f in FOLDERS for p in sorted((root / f).rglob("*.py"))]
    rooms = {".".join(parts_of(path)): room_of(path) for path in files}
    arrows = set()
    for path in files:
        for name in imported(path, (root / path).read_text(encoding="utf-8")):
            while name and name not in rooms:
                name = name.rpartition(".")[0]
            if name and rooms[name] != room_of(path):
                arrows.add((room_of(path), rooms[name]))
    return set(rooms.values()), arrows


def floors(rooms: set[str], arrows: set[tuple[str, str]]) -> int:
    """How many rooms stand on each other, those that import each other taken for one."""
    below = {room: {b for a, b in arrows if a == room} for room in rooms}
    for middle in rooms:  # all that can be reached
        for room in rooms:
            if middle in below[room]:
                below[room] |= below[middle]
    circle = {
        room: frozenset({room, *(b for b in below[room] if room in below[b])}) for room in rooms
    }
    height: dict[frozenset[str], int] = {}

    def of(one: frozenset[str]) -> int:
        if one not in height:
            lower = {circle[b] for room in one for b in below[room]} - {one}
            height[one] = 1 + max(map(of, lower), default=0)
        return height[one]

    return max(map(of, circle.values()))


def main() -> None:
    for argument in sys.argv[1:] or ["."]:
        rooms, arrows = arrows_of(Path(argument))
        loose = sum(
            room.startswith("app/") and (Path(argument) / f"{room}.py").exists() for room in rooms
        )
        print(
            f"{argument}: {len(rooms)} rooms, {floors(rooms, arrows)} floors, {len(arrows)} arrows; "
            f"{loose} loose files in app/"
        )


if __name__ == "__main__":
    main()
