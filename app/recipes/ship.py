"""The command that ships a network of a run with the zoo: `python -m spikemorph.recipes.ship --help`."""

import json
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from spikemorph.graph.errors import InputError, SpikemorphError
from spikemorph.graph.plain import read_plain
from spikemorph.graph.saving import write_bytes
from spikemorph.zoo import data_catalogue
from spikemorph.zoo.derived import FLOAT, SPIKING, TIMED, MadeCard, MadeKind
from spikemorph.zoo.fetch import sha256_of

from ..provenance import PACKAGES
from ..sources.subjects import open_subject

FILES = {FLOAT: "model", SPIKING: "network", TIMED: "trained"}
_NOT_ATTACKED: dict[str, Any] = {"robust": {}, "ann_robust": {}, "n": 0}
app = typer.Typer(add_completion=False)


@app.command()
def ship(
    run: Annotated[Path, typer.Argument(help="The folder of a recipe's run.")],
    network: Annotated[str, typer.Argument(help="One of its networks.")],
    name: Annotated[str, typer.Argument(help="What the zoo is to call it.")],
    kind: Annotated[str, typer.Option(help=", ".join(FILES))] = FLOAT,
    certified: Annotated[
        Path | None, typer.Option(help="What was proved of the network, as JSON.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for the file and its card.")] = Path(),
) -> None:
    """Write NAME.safetensors and NAME.made.json."""
    try:
        typer.echo(
            json.dumps(shipped(run, network, name, kind, out, certified).to_dict(), indent=2)
        )
    except SpikemorphError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error


def shipped(
    run: Path, network: str, name: str, kind: str, out: Path, certified: Path | None = None
) -> MadeCard:
    """Copy the network's file and write its card.

    Raises
    ------
    InputError
        If the run lacks a part, the kind is unknown, or what was proved is of another network.
    """
    if kind not in FILES:
        raise InputError(f"kind {kind!r}: choose one of {', '.join(FILES)}")
    folder = run / network
    source = folder / f"{FILES[kind]}.safetensors"
    attacked = (run / "robust.json").is_file() or certified is None
    row = _row(_json(run / "robust.json"), network) if attacked else _NOT_ATTACKED
    reproduce, compared = _json(folder / "reproduce.json"), _json(run / "comparison.json")
    opened = open_subject(str(source))
    spiking = kind != FLOAT
    dataset = compared["data"].partition(":")[0]
    (entry,) = [one for one in data_catalogue() if one.name == dataset]
    content = source.read_bytes()
    weights, nonzero = opened.subject.weights or 0, opened.subject.nonzero or 0
    card = MadeCard(
        name=name,
        kind=cast(MadeKind, kind),
        dataset=dataset,
        input_shape=opened.entry.shape,
        input_range=opened.entry.interval.ends,
        command=reproduce["command"],
        made_as=network,
        sparsity=round(100 * (1 - nonzero / weights), 3),
        nonzero=nonzero,
        accuracy=round(_accuracy(folder, kind), 3),
        robust=row["robust" if spiking else "ann_robust"],
        robust_samples=row["n"],
        licence="Apache-2.0",
        data_licence=entry.licence,
        sha256=sha256_of(content),
        versions={package: version(package) for package in PACKAGES},
        **({} if certified is None else _proved(_json(certified), opened.identity)),
    )
    write_bytes(out / f"{name}.safetensors", content)
    write_bytes(out / f"{name}.made.json", (json.dumps(card.to_dict(), indent=2) + "\n").encode())
    return card


def _proved(plain: Any, identity: str) -> dict[str, Any]:
    """What a card says of a proof."""
    if plain["reproduce"]["hashes"].get("network") != identity:
        raise InputError("what was certified is another network; certify this one again")
    by_eps = {f"{row['eps']:.6g}": row["certified"]["accuracy"] for row in plain["eps"]}
    return {"certified": by_eps, "certified_samples": plain["n"]}


def _accuracy(folder: Path, kind: str) -> float:
    """Of all test samples, per cent; the settled spikes' accuracy is the integer network's."""
    timing = folder / "timing.json"
    if timing.is_file():
        return float(_json(timing)["whole"]["accuracy" if kind == TIMED else "float_accuracy"])
    whole = _json(folder / "evaluation.json")["whole"]
    return float(whole["float_accuracy" if kind == FLOAT else "integer_accuracy"])


def _row(plain: Any, network: str) -> Any:
    for row in plain["networks"]:
        if row["name"] == network:
            return row
    known = ", ".join(row["name"] for row in plain["networks"])
    raise InputError(f"no network {network!r} in that run; it has {known}")


def _json(path: Path) -> Any:
    try:
        return read_plain(path.read_bytes(), path)
    except (OSError, InputError) as error:
        raise InputError(f"{error}; run the recipe first") from error


if __name__ == "__main__":
    app()
