"""Carry out a recipe: network by network, stage by stage, going on where a stopped run ended."""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from spikemorph.graph import InputError
from spikemorph.graph.plain import read_plain
from spikemorph.graph.saving import read_header, write_bytes
from spikemorph.robust.cascade.blocks import REVISION
from spikemorph.zoo import load_data

from ..choices.settings import IN_TIME, LEARNED, TRAIN
from ..measures.comparison import Compared, Comparison, compared, in_time_row, side_by_side
from ..provenance import provenance
from ..report.html import write_report
from ..report.record import Report, read_run
from ..sources.models import Model, load_graph, normalised, ranged
from ..sources.sampling import Read
from ..sources.subjects import CPU
from ..training.extra import extra_of
from . import exact_stages, robust_stages
from .exact_stages import Bench, Tell
from .origins import Hashes, origins, training_by_content
from .recipe import Recipe

STAMPS = "stages.json"
ROBUST = "robust.json"  # all networks under attack, beside the comparison
_LAST = (
    "report.html",
    "report.json",
    "comparison.json",
    "reproduce.json",
)  # of all stages together


@dataclass(frozen=True)
class Stage:
    """One stage: what it does, the files it leaves, and all that these depend on.

    `after` is the stage that it goes on from; `depends` gives the rest as plain data.
    """

    name: str
    work: Callable[[Bench], None]
    files: tuple[str, ...]
    after: str | None
    depends: Callable[[Bench, Hashes], Any]


def _pruning(bench: Bench, hashes: Hashes) -> Any:
    choice, recipe = bench.network, bench.recipe
    source = hashes["model"] if bench.start is None else _stamps(bench.start)["prune"]
    if choice.method is None:
        return source
    training = training_by_content(recipe.training_of(choice), hashes)
    how = [choice.method, choice.sparsity, choice.allocation, training]
    return [source, hashes["training data"], recipe.seed, how, choice.fresh]


def _conversion(bench: Bench, hashes: Hashes) -> Any:
    recipe, choice = bench.recipe, bench.network
    learnt = None
    if choice.road == LEARNED:
        learnt = training_by_content(recipe.fine_tuning_of(choice), hashes)
    how = [asdict(recipe.convert), choice.road, learnt]
    return [recipe.model, hashes["training data"], recipe.seed, how]


def _timing(bench: Bench, hashes: Hashes) -> Any:
    recipe = bench.recipe
    how = [asdict(recipe.time), training_by_content(recipe.fine_tuning_of(bench.network), hashes)]
    return [hashes["training data"], recipe.seed, how]


def _attacking(bench: Bench, hashes: Hashes) -> Any:
    attack, compared = bench.recipe.attack, not bench.recipe.untrained
    how = None if attack is None else asdict(attack)
    model = hashes["model"] if compared else None
    return [hashes["test data"], bench.recipe.seed, how, model, REVISION]


def _pricing(bench: Bench, hashes: Hashes) -> Any:
    dense = None if bench.dense is None else _stamps(bench.dense)["convert"]
    return [hashes["test data"], bench.recipe.measure.energy, dense]


_PRUNE = Stage("prune", exact_stages.prune, ("model.safetensors", "sparsity.json"), None, _pruning)
_EXACT = (
    _PRUNE,
    Stage(
        "convert", exact_stages.convert, ("network.safetensors", "model.json", "certificate.json"),
        "prune", _conversion,
    ),
    Stage(
        "measure", exact_stages.measure, ("evaluation.json",), "convert",
        lambda bench, hashes: [hashes["test data"], bench.recipe.measure.spiking],
    ),
    Stage("energy", exact_stages.energy, ("energy.json", "activity.json"), "convert", _pricing),
)  # fmt: skip
_IN_TIME = (
    _PRUNE,
    Stage(
        "fine-tune", robust_stages.fine_tune,
        ("trained.safetensors", "deployed.safetensors", "model.json"), "prune", _timing,
    ),
    Stage(
        "measure", robust_stages.measure, ("timing.json",), "fine-tune",
        lambda bench, hashes: [hashes["test data"], asdict(bench.recipe.measure)],
    ),
)  # fmt: skip


def _attack(after: str) -> Stage:
    files = ("robustness.json", "robustness_ann.json")
    return Stage("attack", robust_stages.attack, files, after, _attacking)


_ALL = (*_EXACT, *_IN_TIME, _attack("convert"), _attack("fine-tune"))


def stages_of(bench: Bench) -> tuple[Stage, ...]:
    """What one network goes through, by its road; attacks come last where the recipe has some."""
    in_time = bench.network.road == IN_TIME
    found = _IN_TIME if in_time else _EXACT
    if not _is_attacked(bench):
        return found
    after = "fine-tune" if in_time else "convert"
    return (*found, _attack(after))


def _is_attacked(bench: Bench) -> bool:
    return bench.recipe.attack is not None and bench.network.attacked


def run_recipe(
    recipe: Recipe,
    out: Path,
    command: str,
    *,
    read: Read = load_data,
    tell: Tell = lambda _: None,
    device: torch.device = CPU,
) -> Comparison:
    """Make, prove, measure and report every network of a recipe.

    Every network gets a folder in `out`, with a report of its own; ``comparison.json`` sets them side
    by side. Un-pruned networks are made first. A stage whose files are there, made with the same
    settings, is not done again; a training that was stopped goes on.

    Raises
    ------
    InputError
        If a name in the recipe is unknown, or data does not fit the model: before anything is made.
        If a file of an earlier run is damaged.
    """
    model = _model(recipe, tell)
    train, test = (
        replace(read(name), task=recipe.data.task) for name in (recipe.data.train, recipe.data.test)
    )
    extra = extra_of(recipe.data.extra, recipe.data.extra_share, recipe.data.labeller, read, train)
    hashes = origins(recipe, model, train, test, extra)
    first = Bench(
        recipe, recipe.network[0], model, train, test, out, None, tell, extra=extra, device=device
    )
    benches = {n.name: replace(first, network=n, folder=out / n.name) for n in recipe.network}
    for bench in benches.values():
        exact_stages.check(bench)
        robust_stages.check(bench)
    dense = None
    for bench in sorted(benches.values(), key=_rank):
        _made(bench.folder)
        start = bench.network.start
        begun = replace(bench, dense=dense, start=None if start is None else out / start)
        _through(begun, hashes)
        if dense is None and _is_dense(bench):
            dense = bench.folder
    rows = [_row(bench) for bench in benches.values()]
    shown = min(recipe.measure.spiking or len(test), len(test))
    result = side_by_side(test.name, rows, shown)
    if recipe.attack is not None:
        attacked = filter(_is_attacked, benches.values())
        names = ("robustness", "robustness_ann")
        robust = [
            robust_stages.table_row(bench, *_parts(bench.folder, *names)) for bench in attacked
        ]
        _write(out / ROBUST, {"data": test.name, "networks": robust})
    else:
        (out / ROBUST).unlink(missing_ok=True)
    for bench in benches.values():
        _report(bench, result, command, hashes)
    _write(out / "comparison.json", result.to_dict())
    return result


def _model(recipe: Recipe, tell: Tell = lambda _: None) -> Model:
    """The recipe's model, behind its normalisation where it gives one, its input range declared."""
    shape = (1, *recipe.input_shape) if recipe.input_shape else None
    model = load_graph(recipe.model, input_shape=shape)
    for remark in model.remarks:
        tell(remark)
    try:
        if recipe.mean or recipe.std:
            model = replace(model, graph=normalised(model.graph, recipe.mean, recipe.std))
        return ranged(model, recipe.input_range or None, tell)
    except InputError as error:
        raise InputError(f"recipe {recipe.name!r}: {error}".replace("--", "")) from error


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
    before, wanted = _stamps(bench.folder), stages_of(bench)
    now: dict[str | None, str] = {None: ""}
    _forget(bench.folder, before, [s for s in _ALL if s not in wanted], wanted)
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
        _write(bench.folder / STAMPS, before)
    exact_stages.clear(bench)


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
        _write(folder / STAMPS, stamps)
    for file in {file for stage in gone for file in stage.files} - held:
        (folder / file).unlink(missing_ok=True)


def _stamps(folder: Path) -> dict[str, str]:
    """What the stages in a folder were made with; nothing, where none was done."""
    path = folder / STAMPS
    if not path.is_file():
        return {}
    found = _json(path)
    if not isinstance(found, dict) or not all(isinstance(v, str) for v in found.values()):
        raise InputError(f"{path}: holds no stages; delete it to make this network again")
    return found


def _row(bench: Bench) -> Compared:
    if bench.network.road == IN_TIME:
        return in_time_row(bench.network.name, *_parts(bench.folder, "timing"))
    return compared(bench.network.name, *_parts(bench.folder, "evaluation", "energy"))


def _parts(folder: Path, *names: str) -> tuple[Any, ...]:
    """Parts of one network's run, checked."""
    found = {name: _json(folder / f"{name}.json") for name in names}
    with _naming(folder):
        checked = Report(found).parts
    return tuple(checked[name] for name in names)


def _report(bench: Bench, result: Comparison, command: str, hashes: Hashes) -> None:
    folder = bench.folder
    if bench.network.road == IN_TIME:
        network = read_header(folder / "deployed.safetensors")["sha256"]
    else:
        (certificate,) = _parts(folder, "certificate")
        network = certificate["network_hash"]
    found = provenance(command, {"recipe": bench.recipe.seed}, {**hashes, "network": network})
    _write(folder / "reproduce.json", found.to_dict())
    _write(folder / "comparison.json", result.to_dict())
    with _naming(folder):
        report = read_run(folder)
    write_report(report, folder / "report.html")


@contextmanager
def _naming(folder: Path) -> Iterator[None]:
    """Say in which folder a part of a run is damaged."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{folder}: {error} (delete that file and run again)") from error


def _json(path: Path) -> Any:
    try:
        return read_plain(path.read_bytes(), path)
    except (OSError, InputError) as error:
        raise InputError(f"{error}; delete {path} and run again: it is made again") from error


def _made(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"{folder}: cannot be made: {error.strerror}; choose another --out"
        ) from error


def _write(path: Path, plain: Any) -> None:
    write_bytes(path, (json.dumps(plain, indent=1) + "\n").encode())
