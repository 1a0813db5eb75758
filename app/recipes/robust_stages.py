"""The stages of a recipe that train through time and attack."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from spikemorph.convert import canonical
from spikemorph.graph import InputError
from spikemorph.graph.grid import Grid
from spikemorph.graph.saving import load_graph_file
from spikemorph.quant.integers import prepared
from spikemorph.quant.learning_steps import refuse_unlearnable
from spikemorph.robust.gates.context import Companions
from spikemorph.robust.paths.by_name import choose_paths
from spikemorph.robust.paths.exact import RULES, exact_target
from spikemorph.robust.paths.through_time import (
    extra_paths,
    paper_paths,
    spiking_target,
)
from spikemorph.robust.target import GradientPath, Target
from spikemorph.surrogate import SpikingModule
from spikemorph.surrogate.folded_network import load_deployed, save_deployed
from spikemorph.surrogate.folding import fold
from spikemorph.surrogate.trained_file import save_trained

from ..choices.settings import EXACT, IN_TIME, LEARNED, AttackChoice
from ..conversion import convert_graph
from ..measures.evaluation import float_answers
from ..measures.inspection import inspect_graph
from ..measures.robustness import Where, attack_model, check_attack, check_distance
from ..sources.sampling import CALIBRATION_SAMPLES, drawn, labels_of, values
from ..sources.subjects import on_device, open_file, open_float, seen, weight_counts
from ..sources.tasks import task_for
from ..training.through_time import measure_in_time, settings_of, started, train_in_time
from .exact_stages import Bench, conversion_settings, fine_tuning_lesson, naming

_FEW = 8  # samples, where only their shape matters
BLOCKS = "blocks"  # the folder of an attack's blocks, in a network's own


def check(bench: Bench) -> None:
    """As `stages.check`: fine-tuning, training through time, and attacks.

    Raises
    ------
    InputError
        If a name is unknown, a number outside its range, or there are no labels to attack by; names
        the network.
    UnsupportedError
        Naming every node that cannot be trained on its road.
    """
    recipe, road, graph = bench.recipe, bench.network.road, bench.model.graph
    with naming(bench):
        if road != EXACT:
            fine_tuning_lesson(bench, graph)
        if road == LEARNED:
            few = values(drawn(bench.train, recipe.seed, _FEW), graph.entry)
            grid = Grid.over(graph.entry.interval)
            refuse_unlearnable(*prepared(canonical(graph), few, grid)[:2])
        if road == IN_TIME:
            SpikingModule(graph, settings_of(recipe.time)[0])
        if recipe.attack is not None:
            check_distance(recipe.attack, graph.entry)
            task = task_for(graph, bench.test).one_class("attack")
            check_attack(recipe.attack, task.classes, graph.entry)
            labels_of(bench.test)
            _check_paths(road, recipe.attack)


def _check_paths(road: str, choice: AttackChoice) -> None:
    timed = {**paper_paths(), **extra_paths()}
    names = list(timed) if road == IN_TIME else [name for name, _ in RULES]
    wish = choice.in_time_paths if road == IN_TIME else choice.paths
    choose_paths(Target(road, _unused, tuple(GradientPath(n, _unused) for n in names)), wish)


def _unused(x: Tensor) -> Tensor:
    return x


def fine_tune(bench: Bench) -> None:
    """``trained.safetensors``, ``deployed.safetensors``, ``model.json``: trained through time."""
    recipe, name = bench.recipe, bench.network.name
    graph = load_graph_file(bench.folder / "model.safetensors")
    lesson, validation = fine_tuning_lesson(bench, graph)
    found = train_in_time(graph, recipe.time, lesson, validation)
    notes = {
        "model": name,
        "thresholds": found.thresholds,
        "validation": [found.validation_before, found.validation_after],
    }
    save_trained(bench.folder / "trained.safetensors", found.module, notes)
    save_deployed(bench.folder / "deployed.safetensors", fold(found.module), notes)
    about = {"Made from": recipe.model, "Trained through time on": bench.train.name}
    said = {"about": about, "seconds": found.seconds}
    bench.write("model", inspect_graph(name, graph).to_dict() | said)


def measure(bench: Bench) -> None:
    """``timing.json``: accuracy over time, spikes and operations of the folded network."""
    network, _ = load_deployed(bench.folder / "deployed.safetensors")
    graph = load_graph_file(bench.folder / "model.safetensors")
    x, y = bench.test_values(0)
    measured = bench.recipe.measure
    task = task_for(graph, bench.test)
    found = measure_in_time(network, x, y, measured.energy, measured.spiking, task=task)
    weights, nonzero = weight_counts(graph)
    answers, n = float_answers(graph, x, task), found["n"]
    found["whole"]["float_accuracy"] = task.share(answers, y)
    about = {
        "model": bench.network.name,
        "data": bench.test.name,
        "float_accuracy": task.share(answers[:n], None if y is None else y[:n]),
        "sparsity": 100 * (1 - nonzero / weights),
    }
    bench.write("timing", {**about, **found})


def attack(bench: Bench) -> None:
    """``robustness.json`` and ``robustness_ann.json``: the spiking network, its float one."""
    choice = bench.recipe.attack
    assert choice is not None
    name = bench.network.name
    in_time = bench.network.road == IN_TIME
    file = "trained.safetensors" if in_time else "network.safetensors"
    opened = open_file(bench.folder / file, bench.device)
    subject = replace(opened, subject=replace(opened.subject, model=name))
    graph = load_graph_file(bench.folder / "model.safetensors")
    twin = open_float(name, graph, bench.device)
    companions = Companions(
        undefended(bench), (twin.target,), other_steps=subject.other_steps, trained=subject.trained
    )
    where, seed = Where(bench.folder / BLOCKS), bench.recipe.seed
    timed = replace(
        choice,
        attacks=choice.in_time,
        paths=choice.in_time_paths,
        gate_samples=choice.in_time_gates,
    )
    own = timed if in_time else choice
    spiking = attack_model(
        subject, bench.test, own, seed, companions=companions, where=where,
        sources=(twin,) if choice.transfer else (),
    )  # fmt: skip
    bench.write("robustness", spiking.to_dict())
    plain = replace(choice, attacks=choice.ann, paths="all", gate_samples=0, corruptions=False)
    bench.write(
        "robustness_ann", attack_model(twin, bench.test, plain, seed, where=where).to_dict()
    )


def undefended(bench: Bench) -> Target | None:
    """The recipe's model, trained but not to be robust, made spiking in the same way.

    None where it is not trained at all.
    """
    entry, recipe = bench.model.entry, bench.recipe
    if recipe.untrained:
        return None
    in_time = bench.network.road == IN_TIME
    most = recipe.time.calibration_samples if in_time else CALIBRATION_SAMPLES
    x = values(drawn(bench.train, recipe.seed, most), entry)
    if in_time:
        module = started(bench.model.graph, recipe.time, x, bench.device).requires_grad_(False)
        target = spiking_target("undefended", module)
        return seen(on_device(target, bench.device), bench.model.graph)
    grid = Grid.over(entry.interval, recipe.convert.input_bits)
    made = convert_graph(bench.model.graph, x, grid=grid, **conversion_settings(recipe.convert))
    target = exact_target("undefended", made.network)
    return seen(on_device(target, bench.device), bench.model.graph)


def table_row(bench: Bench, plain: Mapping[str, Any], ann: Mapping[str, Any]) -> dict[str, Any]:
    """What the table of robust networks says of one: clean, worst case by eps, flags; per cent.

    `plain` and `ann` are its checked parts, of the spiking network and of its float twin.

    Raises
    ------
    InputError
        If they count no weights.
    """
    weights, nonzero = plain["sparsity"]["weights"], plain["sparsity"]["nonzero"]
    if not weights or nonzero is None:
        raise InputError(
            f"{bench.folder}: robustness.json counts no weights; delete it and run again"
        )
    return {
        "name": bench.network.name,
        "road": bench.network.road,
        "sparsity": 100 * (1 - nonzero / weights),
        "n": plain["n"],
        "clean": plain["clean"]["accuracy"],
        "robust": {f"{row['eps']:.6g}": row["worst_case"] for row in plain["eps"]},
        "ci95": {f"{row['eps']:.6g}": row["ci95"] for row in plain["eps"]},
        "ann_clean": ann["clean"]["accuracy"],
        "ann_robust": {f"{row['eps']:.6g}": row["worst_case"] for row in ann["eps"]},
        "gates": len(plain["gates"]),
        "flags": [gate["name"] for gate in plain["gates"] if gate["passed"] is False],
        "not_run": [gate["name"] for gate in plain["gates"] if gate["passed"] is None],
    }
