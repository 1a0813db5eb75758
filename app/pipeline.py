"""Carry out a recipe: network by network, stage by stage, going on where a stopped run ended."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from spikemorph.graph import InputError
from spikemorph.graph.saving import graph_hash, write_bytes
from spikemorph.zoo import load_data

from . import stages
from .comparison import Compared, Comparison, compared, side_by_side
from .models import load_graph
from .provenance import provenance
from .recipe import NetworkChoice, Recipe
from .report.html import write_report
from .report.record import read_run
from .sampling import Read
from .stages import Bench, Tell

STAMPS = "stages.json"


@dataclass(frozen=True)
class Stage:
    """One stage: what it does, the files it leaves, and the part of the recipe it depends on."""

    name: str
    work: Callable[[Bench], None]
    files: tuple[str, ...]
    depends: Callable[[Recipe, NetworkChoice], Any]


STAGES = (
    Stage(
        "prune", stages.prune, ("model.safetensors", "sparsity.json"),
        lambda r, n: [asdict(n), asdict(r.training_of(n)), r.model, asdict(r.data), r.seed],
    ),
    Stage(
        "convert", stages.convert, ("network.safetensors", "model.json", "certificate.json"),
        lambda r, n: asdict(r.convert),
    ),
    Stage("measure", stages.measure, ("evaluation.json",), lambda r, n: r.measure.spiking),
    Stage(
        "energy", stages.energy, ("energy.json", "activity.json"), lambda r, n: r.measure.energy
    ),
)  # fmt: skip


def run_recipe(
    recipe: Recipe, out: Path, command: str, *, read: Read = load_data, tell: Tell = lambda _: None
) -> Comparison:
    """Make, prove, measure and report every network of a recipe.

    Every network gets a folder in `out`, with a report of its own; ``comparison.json`` sets them side
    by side. A stage whose files are there, made with the same settings, is not done again.

    Raises
    ------
    InputError
        If a name in the recipe is unknown, or data does not fit the model.
    """
    model = load_graph(recipe.model)
    train, test = read(recipe.data.train), read(recipe.data.test)
    if train.name == test.name:
        raise InputError(
            f"{recipe.name}: it would be tested on what it learns from; give test data"
        )
    rows, dense = [], None
    hashes = {"model": graph_hash(model.graph)}
    for choice in recipe.network:
        folder = _made(out / choice.name)
        bench = Bench(recipe, choice, model, train, test, folder, dense, tell)
        _through(bench, hashes["model"])
        if choice.method is None and dense is None:
            dense = folder
        rows.append(_row(bench))
    result = side_by_side(f"{test.name}", rows)
    for choice in recipe.network:
        _report(out / choice.name, result, command, recipe, hashes)
    _write(out / "comparison.json", result.to_dict())
    return result


def _through(bench: Bench, before: str) -> None:
    """All stages of one network; what was done before, with the same settings, is left."""
    path = bench.folder / STAMPS
    stamps: dict[str, str] = json.loads(path.read_text()) if path.is_file() else {}
    other = "" if bench.dense is None else (bench.dense / STAMPS).read_text()
    for stage in STAGES:
        settings = [stage.name, stage.depends(bench.recipe, bench.network), before]
        settings += [other] if stage.name == "energy" else []
        before = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
        done = all((bench.folder / file).is_file() for file in stage.files)
        if done and stamps.get(stage.name) == before:
            bench.tell(f"{bench.network.name}: {stage.name} was done before")
            continue
        bench.tell(f"{bench.network.name}: {stage.name}")
        stage.work(bench)
        stamps[stage.name] = before
        _write(path, stamps)


def _row(bench: Bench) -> Compared:
    parts = [json.loads((bench.folder / f"{p}.json").read_text()) for p in ("evaluation", "energy")]
    return compared(bench.network.name, *parts)


def _report(
    folder: Path, result: Comparison, command: str, recipe: Recipe, hashes: Mapping[str, str]
) -> None:
    certificate = json.loads((folder / "certificate.json").read_text())
    found = provenance(
        command, {"recipe": recipe.seed}, {**hashes, "network": certificate["network_hash"]}
    )
    _write(folder / "reproduce.json", found.to_dict())
    _write(folder / "comparison.json", result.to_dict())
    write_report(read_run(folder), folder / "report.html")


def _made(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"{folder}: cannot be made: {error.strerror}; choose another --out"
        ) from error
    return folder


def _write(path: Path, plain: Any) -> None:
    write_bytes(path, (json.dumps(plain, indent=1) + "\n").encode())
