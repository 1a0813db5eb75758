"""What the documents show runs as shown: the README's Python, docstring examples, commands."""

import doctest
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from spikemorph.cli.program import program

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
ROOMS = (
    "app", "zoo", "convert", "energy", "prune", "quant", "train", "spiking", "layers", "graph",
)  # fmt: skip


def modules() -> Iterator[str]:
    """Every module of the package, by its installed name."""
    for room in ROOMS:
        for path in sorted((ROOT / room).rglob("*.py")):
            inside = path.relative_to(ROOT).with_suffix("").parts
            parts = [p for p in inside[room == "app" :] if p != "__init__"]
            if path.stem != "__main__":
                yield ".".join(["spikemorph", *parts])


def test_the_python_of_the_readme_runs(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, object] = {}
    for code in re.findall(r"```python\n(.*?)```", README, re.DOTALL):
        exec(compile(code, "README.md", "exec"), names)  # the second goes on from the first
    first, second = capsys.readouterr().out.strip().splitlines()
    assert first.startswith("A tensor([")
    assert re.fullmatch(r"[\d.]+ (lower|higher|model-dependent) Factors\(.*\)", second)


def test_commands_in_the_readme_exist() -> None:
    click_program = typer.main.get_command(program)
    known = set(getattr(click_program, "commands", {}))
    named = set(re.findall(r"^spikemorph (\w+)", README, re.MULTILINE))
    assert named
    assert named <= known


def test_docstring_examples_run() -> None:
    tried = 0
    for name in modules():
        result = doctest.testmod(importlib.import_module(name))
        assert result.failed == 0, name
        tried += result.attempted
    assert tried >= 10


def test_documents_point_at_files_that_exist() -> None:
    for document in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for target in re.findall(r"\]\(([^)#:]+)\)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name} points at {target}"


def test_the_python_of_the_robustness_page_runs() -> None:
    text = (ROOT / "docs" / "robustness.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    names: dict[str, object] = {}
    exec(compile(code, "robustness.md", "exec"), names)
    assert names["found"].clean_accuracy > names["found"].accuracy  # type: ignore[attr-defined]
