"""What the documents show runs as shown, and what they name is there: Python, commands, files, tests."""

import doctest
import functools
import importlib
import inspect
import re
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer

import spikemorph
from spikemorph.cli.program import program
from spikemorph.graph.tables import reads_torch

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
ROOMS = (
    "app", "zoo", "convert", "energy", "prune", "quant", "robust", "surrogate", "train", "spiking",
    "layers", "graph",
)  # fmt: skip
DOCUMENTS = sorted(
    path.relative_to(ROOT).as_posix()
    for folder in (".", "docs", "benchmarks", "recipes", "examples", "tests")
    for path in (ROOT / folder).glob("*.md" if folder != "docs" else "**/*.md")
    if path.name != "CHANGELOG.md"  # it names what was there
)
EXAMPLES = sorted(path.name for path in (ROOT / "examples").glob("*.py"))
EXAMPLES.remove("digits_net.py")  # the others import it
EXAMPLES.remove("front_door.py")  # run where the front door is tested
MADE = ("build", "runs", "demo")  # folders that commands write, so that nothing need be there


def modules() -> Iterator[str]:
    """Every module of the package, by its installed name."""
    for room in ROOMS:
        for path in sorted((ROOT / room).rglob("*.py")):
            inside = path.relative_to(ROOT).with_suffix("").parts
            parts = [p for p in inside[room == "app" :] if p != "__init__"]
            if path.stem != "__main__":
                yield ".".join(["spikemorph", *parts])


def blocks(document: str, language: str) -> list[str]:
    """What stands between fences of that language."""
    text = (ROOT / document).read_text()
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def commands(document: str) -> Iterator[list[str]]:
    """Every `spikemorph` command that a document shows, in words: indented, fenced, or within a line."""
    text = (ROOT / document).read_text().replace("\\\n", " ")
    fenced = "\n".join(re.findall(r"^```\w*\n(.*?)^```", text, re.DOTALL | re.MULTILINE))
    indented = "\n".join(re.findall(r"^ {4,}.*$", text, re.MULTILINE))
    for line in re.findall(
        r"^[ $]*(?:\w+=\S+ )*(spikemorph .*)$", f"{fenced}\n{indented}", re.MULTILINE
    ):
        yield line.partition(" #")[0].split()
    for line in re.findall(r"`(spikemorph [^`]*)`", text):
        yield line.split()


def files_named(document: str) -> Iterator[str]:
    """Every path that a document names: by its folder, one of ours, or by its ending."""
    folders = "|".join(sorted(path.name for path in ROOT.iterdir() if path.is_dir()))
    text = re.sub(r"https?://\S+", "", (ROOT / document).read_text())
    endings = r"(?:py|toml|md|svg|png|sh|cfg)\b"
    yield from re.findall(rf"(?<![\w./-])((?:[\w-]+/)+[\w.-]+\.{endings})", text)
    yield from re.findall(rf"(?<![\w./-])((?:{folders})/(?:[\w-]+/)*)(?=[\s`.,;:)])", text)


@pytest.fixture(scope="module")
def digits_net() -> Iterator[ModuleType]:
    """The module that all examples import, which trains its network once for all of them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "examples"))
        module = importlib.import_module("digits_net")
        patch.setattr(module, "trained", functools.cache(module.trained))
        yield module
        del sys.modules["digits_net"]


@pytest.fixture
def alone(digits_net: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to run an example in; rows that it enters in tables are gone afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(reads_torch, "_rows", dict(reads_torch._rows))
    return tmp_path


def run_python(code: str, name: str, names: dict[str, Any]) -> None:
    """Run Python of a document; `names` goes from block to block."""
    exec(compile(code, name, "exec"), names)


def test_there_is_something_to_check() -> None:
    assert {"README.md", "docs/results.md", "docs/results/robust.md"} <= set(DOCUMENTS)
    assert len([command for document in DOCUMENTS for command in commands(document)]) > 30
    assert len({path for document in DOCUMENTS for path in files_named(document)}) > 50


@pytest.mark.parametrize("document", DOCUMENTS)
def test_commands_and_their_options_exist(document: str) -> None:
    root: Any = typer.main.get_command(program)
    here = root.make_context("spikemorph", ["help"], resilient_parsing=True)
    for words in commands(document):
        known = {"--help", "--version"}
        if not words[1].startswith("-"):
            _, command, rest = root.resolve_command(here, words[1:])  # refuses what is none
            if hasattr(command, "commands"):
                command = command.commands[rest[0]]
            known |= {opt for p in command.params for opt in (*p.opts, *p.secondary_opts)}
        named = {word.partition("=")[0].rstrip(").,`") for word in words if word.startswith("--")}
        assert named <= known, f"{document}: {' '.join(words)}: no option {named - known}"


@pytest.mark.parametrize("document", DOCUMENTS)
def test_files_that_documents_name_exist(document: str) -> None:
    here = (ROOT / document).parent
    for path in files_named(document):  # whole, or within the room that the text is about
        if path.partition("/")[0] not in MADE and "NAME" not in path:
            found = (ROOT / path).exists() or (here / path).exists()
            found = found or any(next((ROOT / room).rglob(path), None) for room in ROOMS)
            assert found, f"{document} names {path}"


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_somewhere(document: str) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", (ROOT / document).read_text()):
        if ":" not in target:
            path, _, anchor = target.partition("#")
            found = (ROOT / document).parent / path if path else ROOT / document
            assert found.exists(), f"{document} points at {target}"
            assert not anchor or anchor in anchors(found), f"{document} points at {target}"


def anchors(path: Path) -> set[str]:
    """What headings of a page can be linked as."""
    titles = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("document", DOCUMENTS)
def test_tests_that_documents_name_exist(document: str) -> None:
    for file, name in re.findall(
        r"\b(test_\w+)(?:\.py)?::(test_\w+)", (ROOT / document).read_text()
    ):
        sources = [path.read_text() for path in (ROOT / "tests").rglob(f"{file}.py")]
        assert any(f"def {name}(" in source for source in sources), f"{document}: {file}::{name}"


def test_the_python_of_the_readme_runs(
    digits_net: ModuleType, alone: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (images, _), (x, y) = digits_net.digits("train"), digits_net.digits("test")
    names = {"model": digits_net.trained(), "images": images, "x": x, "y": y}
    (code,) = blocks("README.md", "python")
    run_python(code, "README.md", names)
    assert "certificate A" in capsys.readouterr().out
    assert (alone / "report.html").exists()
    assert (alone / "net.safetensors").exists()


@pytest.mark.slow  # the examples, which the fast tests run, call the same
def test_the_python_of_the_tutorial_runs(alone: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {}
    *parts, onnx = blocks("docs/tutorial.md", "python")
    for code in parts:
        run_python(code, "tutorial.md", names)
    said = capsys.readouterr().out
    for line in ("DigitsNet: every node converts", "certificate A", "worst case", "relu_1"):
        assert line in said
    assert "digits.onnx" in onnx  # the example of that name runs it


@pytest.mark.parametrize("example", EXAMPLES)
def test_examples_run(example: str, alone: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(ROOT / "examples" / example), run_name="__main__")
    assert "spiking 9" in capsys.readouterr().out  # per cent of the test images, or more


def test_the_python_of_the_robustness_page_runs() -> None:
    (code,) = blocks("docs/robustness.md", "python")
    names: dict[str, Any] = {}
    run_python(code, "robustness.md", names)
    assert names["found"].clean_accuracy > names["found"].accuracy


def test_docstring_examples_run() -> None:
    tried = 0
    for name in modules():
        result = doctest.testmod(importlib.import_module(name))
        assert result.failed == 0, name
        tried += result.attempted
    assert tried >= 10


def reference() -> dict[str, Any]:
    """The script that makes the Python reference."""
    return runpy.run_path(str(ROOT / "docs" / "api.py"))


def front_calls() -> Iterator[tuple[str, Any]]:
    """What a user of the front door calls: functions, classes, and methods of these."""
    for entry in reference()["entries"]("spikemorph"):
        yield entry.name, entry.value


def test_public_names_say_what_they_are_and_take() -> None:
    seen = set()
    for name, value in front_calls():
        text = inspect.getdoc(value) or ""
        seen.add(name)
        assert text, f"{name} has no docstring"
        assert re.match(r"[A-Z`].*?[.:;](\s|$)", text, re.DOTALL), f"{name}: no sentence"
        if inspect.isfunction(value):
            taken = [p for p in inspect.signature(value).parameters if p != "self"]
            if len(taken) > 2:  # what one or two are, names and types can say
                missing = [p for p in taken if not re.search(rf"^.*\b{p}\b", listed(text), re.M)]
                assert not missing, f"{name} does not say what {missing} are"
    assert seen >= set(spikemorph.__all__)


def listed(text: str) -> str:
    """The section of a docstring that lists parameters."""
    return text.partition("Parameters\n----------\n")[2].partition("\n\nRaises")[0]


def test_the_reference_names_all_that_is_public() -> None:
    page = reference()["rendered"]()
    for room in ("", ".quant", ".spiking", ".prune"):
        package = importlib.import_module(f"spikemorph{room}")
        for name in package.__all__:
            assert f'id="spikemorph{room}.{name}"' in page
