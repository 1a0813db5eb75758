"""The shape of the repository, checked: arrows point down, no cycles, small files, all installed."""

import ast
import configparser
import importlib
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = "spikemorph"
BELOW = {  # room -> the rooms it may import; docs/architecture.md says why
    "app": {
        *("zoo", "convert", "energy", "robust", "surrogate", "prune", "quant", "train"),
        *("spiking", "layers", "graph"),
    },
    "robust": {"surrogate", "quant", "spiking", "train", "layers", "graph"},
    "surrogate": {"spiking", "train", "layers", "graph"},
    "zoo": {"train", "graph"},
    "convert": {"quant", "spiking", "layers", "graph"},
    "energy": {"spiking", "layers", "graph"},
    "prune": {"train", "layers", "graph"},
    "quant": {"train", "layers", "graph"},
    "train": {"graph"},
    "spiking": {"layers", "graph"},
    "layers": {"graph"},
    "graph": set[str](),
}
INNER = {  # inner room -> the inner rooms and loose files of its folder that it may import
    "app/choices": set[str](),
    "app/sources": set[str](),
    "app/measures": {"choices", "provenance", "sources"},
    "app/training": {"choices", "conversion", "measures", "sources"},
    "app/report": {"measures", "provenance", "training"},
    "app/front": {"choices", "conversion", "measures", "report", "sources", "training"},
    "app/recipes": {
        *("choices", "conversion", "measures", "provenance", "report", "sources", "training"),
    },
    "app/cli": {
        "choices",
        "conversion",
        "front",
        "measures",
        "recipes",
        "report",
        "sources",
        "start",
        "training",
    },
    "convert/readers": set[str](),
    "energy/counting": set[str](),
    "energy/memory": set[str](),
    "energy/prices": {"counting", "results"},
    "robust/attacks": {"draws", "target", "threat"},
    "robust/cascade": {"attacks", "draws", "intervals", "target", "threat"},
    "robust/certified": {"cascade", "result", "threat"},
    "robust/corruptions": {"draws", "threat"},
    "robust/gates": {"attacks", "cascade", "draws", "intervals", "target", "threat"},
    "robust/paths": {"target"},
    "robust/training": {"attacks", "draws", "target", "threat"},
    "zoo/making": {
        *(
            "architectures",
            "cache",
            "cards",
            "data_card",
            "datasets",
            "fashion",
            "fetch",
            "samples",
            "sequences",
        ),
    },
    "zoo/sequences": {
        *("data_card", "downloads", "fetch", "made", "mnist", "npz_samples", "reasons"),
    },
}
LINES, FUNCTION_LINES, PUBLIC_NAMES = 350, 40, 10
FILES = sorted(path for room in BELOW for path in (ROOT / room).rglob("*.py"))
each_file = pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))


def room_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0]


def module_of(path: Path) -> str:
    room, *rest = path.relative_to(ROOT).with_suffix("").parts
    parts = [PACKAGE, *([] if room == "app" else [room]), *rest]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> Iterator[tuple[str, ast.stmt]]:
    """Every imported module of the package, by its absolute name, with the statement."""
    inside = module_of(path).split(".")
    package = inside if path.stem == "__init__" else inside[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            start = ".".join([*base, *([node.module] if node.module else [])])
            yield from ((f"{start}.{alias.name}", node) for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from ((alias.name, node) for alias in node.names)


def known_module(name: str) -> str | None:
    """The module of the package that an imported name lives in."""
    while name and name not in MODULES:
        name = name.rpartition(".")[0]
    return name or None


PATHS = {module_of(path): path for path in FILES}
MODULES = frozenset(PATHS)


@each_file
def test_arrows_point_down(path: Path) -> None:
    for name, statement in imports(path):
        parts = name.split(".")
        if parts[0] != PACKAGE:
            continue
        room = parts[1] if len(parts) > 1 and parts[1] in BELOW else "app"
        allowed = BELOW[room_of(path)] | {room_of(path)}
        assert room in allowed, f"line {statement.lineno}: {room_of(path)} may not import {room}"


@each_file
def test_arrows_point_down_inside_a_folder(path: Path) -> None:
    """Of a folder with rooms in it, each room imports what its row says; loose files see all."""
    folder, inner, *deeper = path.relative_to(ROOT).parts
    if not deeper or inner == "models":
        return
    for name, statement in imports(path):
        found = PATHS.get(known_module(name) or "", path).relative_to(ROOT).parts
        target = found[1].removesuffix(".py")
        if found[0] == folder and target != inner:
            allowed = target in INNER[f"{folder}/{inner}"]
            assert allowed, f"line {statement.lineno}: {folder}/{inner} may not import {target}"


@each_file
def test_imports_are_relative_inside_a_room_and_absolute_between(path: Path) -> None:
    depth = len(path.relative_to(ROOT).parts) - 1
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level <= depth, f"line {node.lineno} climbs out of {room_of(path)}/"
            assert all(alias.name != "*" for alias in node.names), f"line {node.lineno}: a star"
            parts = (node.module or "").split(".")
            own = room_of(path) if room_of(path) != "app" else "cli"
            assert parts[:2] != [PACKAGE, own] or node.level, (
                f"line {node.lineno}: say it relatively"
            )


@each_file
def test_imports_stand_at_the_top(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef):
            inner = [n for n in ast.walk(node) if isinstance(n, ast.Import | ast.ImportFrom)]
            assert not inner, f"{node.name}, line {node.lineno}, imports inside"


def test_no_cycles() -> None:
    reads = {module_of(path): set[str]() for path in FILES}
    for path in FILES:
        for name, _ in imports(path):
            target = known_module(name)
            if target and target != module_of(path):
                reads[module_of(path)].add(target)
    done: set[str] = set()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, " -> ".join([*trail[trail.index(module) :], module])
        if module not in done:
            for target in reads[module]:
                visit(target, (*trail, module))
            done.add(module)

    for module in reads:
        visit(module, ())


@each_file
def test_file_opens_with_one_sentence_and_is_short(path: Path) -> None:
    source = path.read_text()
    assert ast.get_docstring(ast.parse(source)), "say in one sentence what the file is for"
    assert source.count("\n") <= LINES


@each_file
def test_functions_are_short(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            lines = (node.end_lineno or 0) - body[0].lineno + 1 if body else 0
            assert lines <= FUNCTION_LINES, f"{node.name} has {lines} lines"


@pytest.mark.parametrize("room", BELOW)
def test_rooms_show_few_names(room: str) -> None:
    package = importlib.import_module(PACKAGE if room == "app" else f"{PACKAGE}.{room}")
    names = package.__all__
    if room != "layers":  # its names are the ops, as many as there are kinds of layers
        assert len(names) <= PUBLIC_NAMES
    for name in names:
        assert hasattr(package, name)
        if name in BELOW:  # a room that is called like a function
            assert isinstance(getattr(package, name), ModuleType), f"{name} hides a room"
            assert callable(getattr(package, name))


@each_file
def test_file_is_installed(path: Path) -> None:
    if path.stem != "__main__":
        try:
            importlib.import_module(module_of(path))
        except ModuleNotFoundError as error:
            pytest.fail(f"{error}; list its folder in setup.cfg and run `pip install -e .` again")


def test_every_folder_of_code_is_listed_in_setup() -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    listed = set(setup["options"]["packages"].split())
    assert listed == {module_of(path) for path in FILES if path.stem == "__init__"}


@pytest.mark.parametrize("path", sorted((ROOT / "benchmarks").glob("*.py")), ids=lambda p: p.name)
def test_benchmarks_import_what_is_there(path: Path) -> None:
    """They are not installed and seldom run, so a name that is gone would go unseen."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(PACKAGE):
            module = importlib.import_module(node.module or "")
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                assert hasattr(module, alias.name) or importlib.util.find_spec(inner), inner
