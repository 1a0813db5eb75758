"""Attack a network, and its float twin."""

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from torch import Tensor

from spikemorph.graph import Graph, InputError
from spikemorph.graph.grid import Grid
from spikemorph.graph.saving import load_graph_file
from spikemorph.robust.cascade.blocks import REVISION
from spikemorph.robust.gates.context import Companions
from spikemorph.robust.paths.by_name import choose_paths
from spikemorph.robust.paths.exact import RULES, exact_target
from spikemorph.robust.paths.through_time import all_paths, spiking_target
from spikemorph.robust.target import GradientPath, Target

from ...choices import by_name
from ...choices.settings import IN_TIME, AttackChoice
from ...conversion import conversion_settings, convert_graph
from ...measures.robustness import Progress, Where, attack_model, check_attack, check_distance
from ...sources.sampling import CALIBRATION_SAMPLES, drawn, labels_of, values
from ...sources.subjects import on_device, open_file, open_float, seen
from ...sources.tasks import task_for
from ...training.through_time import started
from ..origins import Hashes
from .bench import Bench, Watch
from .stage import Stage

BLOCKS = "blocks"  # the folder of an attack's blocks, in a network's own


def attack(bench: Bench) -> None:
    """``robustness.json`` and ``robustness_ann.json``: the spiking network, its float one."""
    choice = bench.recipe.attack
    assert choice is not None
    name = bench.network.name
    in_time = bench.network.road == IN_TIME
    file = "trained.safetensors" if in_time else "network.safetensors"
    opened = open_file(bench.folder / file, bench.device)
    trained = bench.recipe.trained_eps(bench.network)
    trained_eps = None if trained is None else by_name.eps_of(trained)
    named = replace(opened.subject, model=name, trained_eps=trained_eps)
    subject = replace(opened, subject=named)
    graph = load_graph_file(bench.folder / "model.safetensors")
    twin = open_float(name, graph, bench.device)
    companions = Companions(
        undefended(bench), (twin.target,), other_steps=subject.other_steps, trained=subject.trained
    )
    where, seed = Where(bench.folder / BLOCKS, watch=_of(bench)), bench.recipe.seed
    timed = replace(
        choice,
        attacks=choice.in_time or choice.attacks,
        paths=choice.in_time_paths or choice.paths,
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


def _of(bench: Bench) -> Watch:
    """Tells how far the attack is, and on which network."""

    def watch(at: Progress) -> None:
        bench.watch(replace(at, doing=f"{bench.network.name}: {at.doing}"))

    return watch


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


def _check(bench: Bench) -> None:
    choice, graph = bench.recipe.attack, bench.model.graph
    assert choice is not None
    check_distance(choice, graph.entry)
    task = task_for(graph, bench.test).one_class("attack")
    check_attack(choice, task.classes, graph.entry)
    labels_of(bench.test)
    _check_paths(bench.network.road, choice, graph)


def _check_paths(road: str, choice: AttackChoice, graph: Graph) -> None:
    names = list(all_paths(graph)) if road == IN_TIME else [name for name, _ in RULES]
    timed_wish = choice.in_time_paths or choice.paths
    wish = timed_wish if road == IN_TIME else choice.paths
    choose_paths(Target(road, _unused, tuple(GradientPath(n, _unused) for n in names)), wish)


def _unused(x: Tensor) -> Tensor:
    return x


def _depends(bench: Bench, hashes: Hashes) -> Any:
    attack, compared = bench.recipe.attack, not bench.recipe.untrained
    how = None if attack is None else asdict(attack)
    model = hashes["model"] if compared else None
    return [hashes["test data"], bench.recipe.seed, how, model, REVISION]


def attack_after(stage: str) -> Stage:
    """The attack on the network that a stage made."""
    files = ("robustness.json", "robustness_ann.json")
    return Stage("attack", attack, files, stage, _depends, _check)
