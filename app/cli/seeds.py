"""The same training by several seeds: a file for each, and mean and deviation over them."""

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from spikemorph.graph import InputError

from ..measures.spread import Spread
from . import options

SeedsOption = Annotated[
    str | None,
    typer.Option(
        "--seeds",
        help="0..4 or 1,5,7: a training for each, saved as OUT with -seed-N; mean and deviation.",
        rich_help_panel="Training",
    ),
]


@dataclass(frozen=True)
class Turn:
    """One training of several, or the only one."""

    seed: int
    out: Path
    checkpoint: Path | None


def turns(
    context: typer.Context, seed: int, several: str | None, out: Path, checkpoint: Path | None
) -> tuple[Turn, ...]:
    """What is to be trained.

    Raises
    ------
    InputError
        If both --seed and --seeds were given, or the seeds are none.
    """
    if several is None:
        return (Turn(seed, out, checkpoint),)
    source = context.get_parameter_source("seed")
    if source is not None and source.name == "COMMANDLINE":
        raise InputError("--seed and --seeds: give one of them")
    return tuple(
        Turn(
            one,
            out.with_stem(f"{out.stem}-seed-{one}"),
            None if checkpoint is None else checkpoint.with_name(f"{checkpoint.name}-seed-{one}"),
        )
        for one in options.seeds(several)
    )


def together(
    done: Sequence[Turn], results: Sequence[dict[str, Any]], measured: Sequence[float | None]
) -> tuple[dict[str, Any], list[str]]:
    """Plain data of all, and what to say of them; `measured` is what held-out samples gave after."""
    plain: dict[str, Any] = {"seeds": [turn.seed for turn in done], "runs": list(results)}
    values = [value for value in measured if value is not None]
    if len(values) < len(done):
        return plain, [
            f"{len(done)} seeds; nothing was measured: keep samples back with --held-out"
        ]
    spread = Spread(statistics.fmean(values), statistics.stdev(values))
    plain["validation_after"] = asdict(spread)
    return plain, [f"held-out samples after training, over {len(done)} seeds: {spread}"]
