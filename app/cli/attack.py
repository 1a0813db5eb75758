"""``spikemorph attack``: how robust a network is, attacked as hard as asked, with sanity gates."""

import re
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from spikemorph.graph import InputError
from spikemorph.robust.gates.context import Companions
from spikemorph.train.processes import Processes

from ..choices import by_name
from ..choices.attacks import ATTACKS, PATHS, PATIENCE
from ..choices.settings import AttackChoice
from ..measures.robustness import Progress, Where, attack_model, check_attack, eps_words
from ..report.robust import gate_lines, robustness_lines, robustness_table
from ..sources.subjects import Opened, open_subject
from . import options, output
from .meter import meter


def attack(
    model: Annotated[
        str,
        typer.Argument(
            help="A network that convert or finetune saved; zoo:NAME; or a model as inspect takes it."
        ),
    ],
    data: Annotated[str, typer.Option("--data", help="digits:test, FILE.npz, folder")],
    eps: Annotated[str, typer.Option(help="How far, in shares of the inputs' range: 4/255,8/255")],
    attacks: Annotated[
        str, typer.Option(help="In this order; NAME=STEPS sets steps or queries; or standard.")
    ] = ATTACKS,
    paths: Annotated[
        str, typer.Option(help="Gradient paths: strong (7), all, paper, or names.")
    ] = PATHS,
    patience: Annotated[
        str,
        typer.Option(
            help="STEPS,QUERIES of a further round, from the best image so far, on every sample that the "
            "round before brought nearer; 0: none."
        ),
    ] = PATIENCE,
    norm: Annotated[str, typer.Option(help="linf or l2")] = "linf",
    eps_units: Annotated[
        str, typer.Option(help="Of --eps: range (its share), or input (the inputs' own units).")
    ] = by_name.SHARE,
    samples: Annotated[int, typer.Option(help="The first so many.", min=1)] = 200,
    gates: Annotated[int, typer.Option(help="Samples for the gates; 0: no gates.", min=0)] = 50,
    undefended: Annotated[
        str | None, typer.Option(help="A network of the same kind, trained without attacks.")
    ] = None,
    transfer: Annotated[
        list[str] | None,
        typer.Option(
            help="A network whose images are tried, too: the ANN twin, another seed; may be repeated."
        ),
    ] = None,
    corruptions: Annotated[bool, typer.Option(help="Also the 15 common corruptions.")] = False,
    folder: Annotated[
        Path | None,
        typer.Option(
            help="Keeps finished blocks, for torchrun; default: runs/attack-NAME until all is done, "
            "where the same command goes on when it was stopped."
        ),
    ] = None,
    block: Annotated[
        int | None,
        typer.Option(
            help="Samples that a stop loses at most; default 100, or a process's share.", min=1
        ),
    ] = None,
    input_range: options.RangeOption = None,
    mean: options.MeanOption = None,
    std: options.StdOption = None,
    input_shape: options.ShapeOption = None,
    weights: options.WeightsOption = None,
    task: options.TaskOption = None,
    json_file: output.JsonOption = None,
    csv_file: output.CsvOption = None,
    quiet: output.QuietOption = False,
    seed: Annotated[int, typer.Option("--seed", help="Of all draws.", min=0)] = 0,
    device: options.DeviceOption = "cpu",
) -> None:
    """Clean and worst-case accuracy at every eps, member by member; gates; exits 0 also with flags."""
    where = options.device(device)
    choice = AttackChoice(
        tuple(eps.split(",")), attacks, paths=paths, norm=norm, eps_units=eps_units, samples=samples,
        gate_samples=gates, corruptions=corruptions, patience=patience,
    )  # fmt: skip
    check_attack(choice)
    if undefended is not None and not gates:
        raise InputError("--undefended is for the gates: leave it or --gates 0 out")
    processes = Processes.from_environment()
    if processes.world > 1 and folder is None:
        raise InputError(f"{processes.world} processes share a folder: give it with --folder")
    if processes.rank:  # the first one alone says what was found
        choice = replace(choice, gate_samples=0, corruptions=False)
    options.can_be_written(
        None, json_file, model, weights, data, undefended, *transfer or (), csv_file=csv_file
    )
    opened = open_subject(
        model, input_shape=options.shape(input_shape), weights=weights,
        normalisation=options.normalisation(mean, std),
        input_range=options.input_range(input_range), device=where, tell=output.tell,
    )  # fmt: skip
    sources = [open_subject(name, device=where) for name in transfer or ()]
    calm = None if undefended is None else open_subject(undefended, device=where)
    found = options.read_data(data, samples, task, opened.entry)
    place, named = folder or _own_folder(model), folder is not None
    with _kept(place, named), meter() as watch:
        shown = watch if named else _after(place, watch)
        result = attack_model(
            opened, found, choice, seed, sources=sources,
            companions=_others(opened, sources, calm),
            where=Where(place, processes, output.tell, block, named, shown),
            command=shlex.join(["spikemorph", *sys.argv[1:]]),
        ).to_dict()  # fmt: skip
    if processes.rank:
        return
    output.write_json(json_file, result)
    output.write_csv(csv_file, _by_attack(result))
    output.show(robustness_table(result))
    output.say(eps_words(choice, opened.entry), *robustness_lines(result), *gate_lines(result))


def _others(opened: Opened, sources: Sequence[Opened], undefended: Opened | None) -> Companions:
    """The networks that gates compare with."""
    return Companions(
        None if undefended is None else undefended.target,
        tuple(source.target for source in sources),
        other_steps=opened.other_steps,
        trained=opened.trained,
    )


def _own_folder(model: str) -> Path:
    """Where blocks of an attack on what the user calls so are kept until all is done."""
    name = re.sub(r"[^\w.-]+", "-", Path(model).stem)
    return Path("runs") / f"attack-{name}"


@contextmanager
def _kept(place: Path, named: bool) -> Iterator[None]:
    """An attack that ends before its first block leaves no folder that nobody named."""
    try:
        yield
    finally:
        if not named and not any(place.rglob("block-*")):
            shutil.rmtree(place, ignore_errors=True)
            with suppress(OSError):  # others are at work there
                place.parent.rmdir()


def _after(place: Path, watch: Callable[[Progress], None]) -> Callable[[Progress], None]:
    """Says where blocks are, once there are some: what is refused before has none to go on with."""
    line = f"finished blocks are kept in {place}; if stopped, the same command goes on there"
    first = iter((line,))

    def told(at: Progress) -> None:
        for said in first:
            output.tell(said)
        watch(at)

    return told


def _by_attack(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A row for every attack at every eps."""
    return [{"eps": row["eps"], **one} for row in result["eps"] for one in row["attacks"]]
