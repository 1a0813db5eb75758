"""Damaged and forged files for every loader end well, or in one line: a few thousand of them here."""

import json
from pathlib import Path

import pytest
from fuzz.inputs import Files, drawn
from fuzz.loaders import LOADERS
from fuzz.trial import tried, warm

CORPUS = Path(__file__).parent / "fuzz" / "corpus"
KEPT = sorted(path.parent for path in CORPUS.glob("*/*/finding.json"))
INPUTS = 2400  # of all loaders
WHOLE = sum(row.share for row in LOADERS.values())


@pytest.mark.parametrize("name", LOADERS)
def test_inputs_end_well(name: str) -> None:
    """The same inputs in every run; `python -m fuzz --seed` draws others."""
    table = {name: LOADERS[name]}
    warm(table)
    count = max(12, INPUTS * LOADERS[name].share // WHOLE)
    inputs = [drawn(LOADERS[name], 2026, k) for k in range(count)]
    found = [
        f"{k}: {end.kind}: {end.text}"
        for k, (_, end) in enumerate(tried(table, inputs))
        if not end.allowed
    ]
    assert not found, f"{len(found)} of {count}; the first: {found[0]}"


def kept(folder: Path) -> tuple[str, Files, int]:
    """A finding of the past: its loader, its files, and the number of its command."""
    told = json.loads((folder / "finding.json").read_text())
    names = (path for path in folder.rglob("*") if path.is_file() and path.name != "finding.json")
    return (
        told["loader"],
        {str(p.relative_to(folder)): p.read_bytes() for p in names},
        told["command"],
    )


@pytest.mark.parametrize("name", sorted({folder.parent.name for folder in KEPT}))
def test_what_was_found_ends_well_now(name: str) -> None:
    """The corpus: what once hung, burst, ran, or ended in a traceback."""
    folders = [folder for folder in KEPT if folder.parent.name == name]
    warm({name: LOADERS[name]})
    ends = tried(LOADERS, [kept(folder) for folder in folders])
    found = [
        f"{f.name}: {end.kind}: {end.text}"
        for f, (_, end) in zip(folders, ends, strict=True)
        if not end.allowed
    ]
    assert not found, found


def test_every_loader_is_there() -> None:
    """A kind of file that is read has a row."""
    wanted = {
        "onnx",
        "pt2",
        "weights",
        "graph",
        "network",
        "recurrent",
        "state",
        "timed",
        "deployed",
        "npz",
        "images",
        "kept",
    }
    assert wanted | {"cards", "recipe", "parts", "run", "blocks", "checkpoint"} <= set(LOADERS)
