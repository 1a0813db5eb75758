"""Carry out a recipe: network by network, stage by stage, going on where a stopped run ended."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from spikemorph.graph import InputError
from spikemorph.graph.errors import Repair
from spikemorph.graph.saving import made_folder, read_header
from spikemorph.zoo import Samples, load_data

from ..choices.settings import IN_TIME, TRAIN
from ..measures.comparison import Compared, Comparison, compared, in_time_row, side_by_side
from ..provenance import provenance
from ..report.html import write_report
from ..report.index import Network, write_index
from ..report.record import Report, read_run
from ..sources.models import Model, load_graph, ranged
from ..sources.sampling import Read, refuse_test_data, refuse_unfit
from ..sources.subjects import CPU
from ..training.extra import extra_of
from .origins import Hashes, origins
from .recipe import Recipe
from .stages.attack import table_row
from .stages.bench import STAMPS, Bench, Tell, Watch, clear, read_part, stamps_of, write_part
from .stages.order import ALL, check, is_attacked, stages_of
from .stages.stage import Stage

ROBUST = "robust.json"  # all networks under attack, beside the comparison
_LAST = ("report.html", "report.json", "comparison.json", "reproduce.json")  # of all stages


def run_recipe(
    recipe: Recipe,
    out: Path,
    command: str,
    *,
    read: Read = load_data,
    tell: Tell = lambda _: None,
    device: torch.device = CPU,
    watch: Watch = lambda _: None,
) -> Comparison:
    """Make, prove, measure and report every network of a recipe.

    Every network gets a folder in `out`, with a report of its own; ``index.html`` leads to them, and
    ``comparison.json`` sets them side by side. Un-pruned networks are made first. A stage whose
    files are there, made with the same settings, is not done again; a stopped training goes on.
    `watch` is told how far attacks are.

    Raises
    ------
    InputError
        If a name in the recipe is unknown, or data does not fit the model: before anything is made.
        If a file of an earlier run is damaged.
    """
    model = _model(recipe, tell)
    train, test = _samples(recipe, model, read)
    extra = extra_of(recipe.data.extra, recipe.data.extra_share, recipe.data.labeller, read, train)
    hashes = origins(recipe, model, train, test, extra)
    first = Bench(
        recipe, recipe.network[0], model, train, test, out, None, tell, extra=extra, device=device,
        watch=watch,
    )  # fmt: skip
    benches = {n.name: replace(first, network=n, folder=out / n.name) for n in recipe.network}
    for bench in benches.values():
        check(bench)
    dense = None
    for bench in sorted(benches.values(), key=_rank):
        made_folder(bench.folder, Repair("out", words="choose another {}"))
        start = bench.network.start
        begun = replace(bench, dense=dense, start=None if start is None else out / start)
        _through(begun, hashes)
        if dense is None and _is_dense(bench):
            dense = bench.folder
    return _finished(first, benches, command, hashes)


def _finished(
    first: Bench, benches: Mapping[str, Bench], command: str, hashes: Hashes
) -> Comparison:
    """What is made of all networks together, once each of them is there."""
    recipe, test, out = first.recipe, first.test, first.folder
    rows = [_row(bench) for bench in benches.values()]
    shown = min(recipe.measure.spiking or len(test), len(test))
    result = side_by_side(test.name, rows, shown)
    _attacked(recipe, benches.values(), out, test.name)
    reports = [_report(bench, result, command, hashes) for bench in benches.values()]
    write_part(out / "comparison.json", result.to_dict())
    write_index(out, recipe.name, tuple(map(Network, benches, reports)))
    return result


def _model(recipe: Recipe, tell: Tell = lambda _: None) -> Model:
    """The recipe's model, behind its normalisation where it gives one, its input range declared."""
    shape = (1, *recipe.input_shape) if recipe.input_shape else None
    weights = None if recipe.weights is None else Path(recipe.weights)
    model = load_graph(recipe.model, input_shape=shape, weights=weights)
    for remark in model.remarks:
        tell(remark)
    with _of_recipe(recipe):
        if bool(recipe.mean) != bool(recipe.std):
            raise InputError("mean and std go together: give both, or neither")
        model = model.behind(recipe.mean or None, recipe.std or None)
        return ranged(model, recipe.input_range or None, lambda said: tell(str(said)))


def _attacked(recipe: Recipe, benches: Iterable[Bench], out: Path, data: str) -> None:
    """All networks under attack, side by side; nothing of an earlier run, where there are no attacks."""
    if recipe.attack is None:
        (out / ROBUST).unlink(missing_ok=True)
        return
    names = ("robustness", "robustness_ann")
    robust = [table_row(b, *_parts(b.folder, *names)) for b in benches if is_attacked(b)]
    write_part(out / ROBUST, {"data": data, "networks": robust})


def _samples(recipe: Recipe, model: Model, read: Read) -> list[Samples]:
    """To learn from and to test on; what cannot be used is refused before it is fetched."""
    data = recipe.data
    with _of_recipe(recipe):
        refuse_test_data(data.train, data.extra)
        refuse_unfit(model.entry, data.train, data.test, data.extra)
    return [replace(read(name), task=data.task) for name in (data.train, data.test)]


@contextmanager
def _of_recipe(recipe: Recipe) -> Iterator[None]:
    """Say of which recipe an error is."""
    try:
        yield
    except InputError as error:
        raise error.under(f"recipe {recipe.name!r}") from error


def _is_dense(bench: Bench) -> bool:
    """Whether energies are compared with this network: exact, and not pruned."""
    choice = bench.network
    return choice.method in (None, TRAIN) and choice.start is None and choice.road != IN_TIME


def _rank(bench: Bench) -> int:
    """The un-pruned networks are made first, in the recipe's order; nothing before its start."""
    return 0 if _is_dense(bench) else 1


def _through(bench: Bench, hashes: Hashes) -> None:
    """All stages of one network; what was done before, with the same settings, is left.

    Before a stage is done again, its files are removed, and with other settings those that were
    made from them: a run that is stopped never holds parts of two networks.
    """
    before, wanted = stamps_of(bench.folder), stages_of(bench)
    now: dict[str | None, str] = {None: ""}
    _forget(bench.folder, before, [s for s in ALL if s not in wanted], wanted)
    for stage in wanted:
        settings = [stage.name, stage.depends(bench, hashes), now[stage.after]]
        stamp = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
        now[stage.name] = stamp
        done = all((bench.folder / file).is_file() for file in stage.files)
        if done and before.get(stage.name) == stamp:
            bench.tell(f"{bench.network.name}: {stage.name} was done before")
            continue
        bench.tell(f"{bench.network.name}: {stage.name}")
        gone = [stage] if before.get(stage.name) == stamp else _with_dependents(stage, wanted)
        _forget(bench.folder, before, gone, ())
        for file in _LAST:
            (bench.folder / file).unlink(missing_ok=True)
        stage.work(replace(bench, stamp=stamp))
        before[stage.name] = stamp
        write_part(bench.folder / STAMPS, before)
    clear(bench)


def _with_dependents(stage: Stage, stages: Sequence[Stage]) -> list[Stage]:
    """A stage and all that goes on from it."""
    found = [stage]
    for later in stages:
        if later.after in {one.name for one in found}:
            found.append(later)
    return found


def _forget(
    folder: Path, stamps: dict[str, str], gone: Sequence[Stage], kept: Sequence[Stage]
) -> None:
    """Remove what stages left, apart from files of those that are kept."""
    held = {file for stage in kept for file in stage.files}
    names = {stage.name for stage in gone} - {stage.name for stage in kept}
    if names & set(stamps):
        for name in names:
            stamps.pop(name, None)
        write_part(folder / STAMPS, stamps)
    for file in {file for stage in gone for file in stage.files} - held:
        (folder / file).unlink(missing_ok=True)


def _row(bench: Bench) -> Compared:
    if bench.network.road == IN_TIME:
        return in_time_row(bench.network.name, *_parts(bench.folder, "timing"))
    return compared(bench.network.name, *_parts(bench.folder, "evaluation", "energy"))


def _parts(folder: Path, *names: str) -> tuple[Any, ...]:
    """Parts of one network's run, checked."""
    found = {name: read_part(folder / f"{name}.json") for name in names}
    with _naming(folder):
        checked = Report(found).parts
    return tuple(checked[name] for name in names)


def _report(bench: Bench, result: Comparison, command: str, hashes: Hashes) -> Report:
    folder = bench.folder
    if bench.network.road == IN_TIME:
        network = read_header(folder / "deployed.safetensors")["sha256"]
    else:
        (certificate,) = _parts(folder, "certificate")
        network = certificate["network_hash"]
    found = provenance(command, {"recipe": bench.recipe.seed}, {**hashes, "network": network})
    write_part(folder / "reproduce.json", found.to_dict())
    write_part(folder / "comparison.json", result.to_dict())
    with _naming(folder):
        report = read_run(folder)
    write_report(report, folder / "report.html")
    return report


@contextmanager
def _naming(folder: Path) -> Iterator[None]:
    """Say in which folder a part of a run is damaged."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{folder}: {error} (delete that file and run again)") from error
