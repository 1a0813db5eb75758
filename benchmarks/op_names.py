"""Count the files outside layers/ that name an op class: what a new op, or a changed one, would touch.

    python benchmarks/op_names.py [FOLDER OF THE REPOSITORY]

Only names are read, nothing is imported, so it counts any revision: `git worktree add FOLDER REVISION`,
then give that folder.
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

ROOMS = "app convert energy graph prune quant robust spiking surrogate train zoo".split()  # noqa: SIM905


def op_classes(layers: Path) -> set[str]:
    """The classes in `layers` that can be a node's op: those that call something, or are neurons."""
    bases: dict[str, set[str]] = {}
    for path in layers.rglob("*.py"):
        for item in ast.walk(ast.parse(path.read_text())):
            if isinstance(item, ast.ClassDef):
                bases[item.name] = {base.id for base in item.bases if isinstance(base, ast.Name)}
    found: set[str] = set()
    traits = {"Op", "Moves", "Pools", "Weighted", "Fires", "Ends"}
    while more := {name for name, above in bases.items() if above & (found | traits)} - found:
        found |= more
    return found - {"Activation"}  # no op itself: what all activations are


def names_in(path: Path) -> Iterator[str]:
    """Every name that a file imports from the layers."""
    for item in ast.walk(ast.parse(path.read_text())):
        if isinstance(item, ast.ImportFrom) and "layers" in (item.module or "").split("."):
            yield from (alias.name for alias in item.names)


def main(root: Path) -> None:
    """Print how many files name any op, and each op's own files."""
    files: dict[str, set[str]] = {name: set() for name in sorted(op_classes(root / "layers"))}
    for room in ROOMS:
        for path in sorted((root / room).rglob("*.py")):
            for name in set(names_in(path)) & set(files):
                files[name].add(str(path.relative_to(root)))
    every = set[str]().union(*files.values())
    print(f"{len(every)} files outside layers/ name an op; {sum(map(len, files.values()))} names")
    for name, where in sorted(files.items(), key=lambda item: -len(item[1])):
        print(f"  {name:14} {len(where):3}  {', '.join(sorted(where))}")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[1])
