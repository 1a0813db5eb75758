"""Options that several commands share, and how their text becomes values."""

import glob
import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import torch
import typer

from spikemorph.graph import Input, InputError
from spikemorph.train.checkpoint import load_checkpoint
from spikemorph.train.loop import EpochRecord
from spikemorph.train.processes import Processes
from spikemorph.zoo import Samples, load_data

from ..sources.models import Model, load_graph, ranged
from ..sources.sampling import refuse_unfit
from .output import STANDARD, tell, waiting
from .wording import worded

_SEEDS = 2**63  # torch takes as many
_MOST_SEEDS = 100


def seeds(text: str) -> tuple[int, ...]:
    """The seeds of ``0..4`` or ``1,5,7``: two or more, none twice.

    Raises
    ------
    InputError
        If they are not.
    """
    ends = re.fullmatch(r"(\d{1,18})\.\.(\d{1,18})", text, re.ASCII)
    if ends is not None:
        found = tuple(range(int(ends[1]), min(int(ends[2]), int(ends[1]) + _MOST_SEEDS) + 1))
    else:
        parts = text.split(",")
        found = tuple(int(p) for p in parts if re.fullmatch(r"\d{1,18}", p, re.ASCII))
        found = found if len(found) == len(parts) else ()
    if not 2 <= len(set(found)) == len(found) <= _MOST_SEEDS:
        raise InputError(
            f"--seeds {text}: give two or more, none twice, {_MOST_SEEDS} at most: 0..4 or 1,5,7"
        )
    return found


def whole_seed(value: int) -> int:
    """A seed, in place of bounds that would fill half of a help page.

    Raises
    ------
    BadParameter
        If it is none.
    """
    if not 0 <= value < _SEEDS:
        raise typer.BadParameter(f"{value} is not in the range 0<=x<={_SEEDS - 1}")
    return value


SeedOption = Annotated[
    int,
    typer.Option("--seed", help="Which calibration samples are drawn.", callback=whole_seed),
]
DeviceOption = Annotated[str, typer.Option("--device", help="cpu, cuda, ...")]
ShapeOption = Annotated[
    str | None,
    typer.Option("--input-shape", help="1,3,32,32: for a factory, or open ONNX sizes."),
]
WeightsOption = Annotated[
    Path | None, typer.Option("--weights", help="For a factory: safetensors or a plain state dict.")
]
MeanOption = Annotated[
    str | None, typer.Option("--mean", help="Normalisation, put inside the model: 0.13 or r,g,b")
]
StdOption = Annotated[
    str | None, typer.Option("--std", help="Normalisation, put inside the model.")
]
TaskOption = Annotated[
    str | None,
    typer.Option("--task", help="classes, binary or values, where labels do not tell."),
]
RangeOption = Annotated[
    str | None,
    typer.Option(
        "--input-range", help="low,high: what bytes 0..255 become; 0,1 where a model knows none."
    ),
]


def numbers(text: str, option: str) -> tuple[float, ...]:
    """The numbers of ``0.1,0.2``.

    Raises
    ------
    InputError
        If a part is no finite number.
    """
    try:
        found = tuple(float(part) for part in text.split(","))
    except ValueError:
        found = (math.nan,)
    if not all(math.isfinite(n) for n in found):
        raise InputError(f"{option} {text}: give numbers with commas between them")
    return found


def shape(text: str | None) -> tuple[int, ...] | None:
    """The sizes of ``1,3,32,32``, batch first."""
    if text is None:
        return None
    given = numbers(text, "--input-shape")
    sizes = tuple(int(n) for n in given)
    if len(sizes) < 2 or min(sizes) < 1 or sizes != given:
        raise InputError(
            f"--input-shape {text}: give the batch and at least one size, such as 1,784"
        )
    return sizes


def normalisation(
    mean: str | None, std: str | None
) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Means and deviations, one for each channel or for all; None where neither is given."""
    if mean is None and std is None:
        return None
    means = numbers(mean or "0", "--mean")
    deviations = numbers(std or ",".join("1" for _ in means), "--std")
    if len(means) == 1:
        means = means * len(deviations)
    return means, deviations


def load(
    source: str, input_shape: str | None, weights: Path | None, mean: str | None, std: str | None
) -> Model:
    """The model of that name, behind its normalisation where one is given; see `load_graph`."""
    found = load_graph(source, input_shape=shape(input_shape), weights=weights)
    pass_on(found)
    return found.behind(*(normalisation(mean, std) or (None, None)))


def pass_on(found: Model) -> None:
    """Tell what was done to a model while it was read."""
    for remark in found.remarks:
        tell(remark)


def input_range(text: str | None) -> tuple[float, ...] | None:
    """The numbers of ``-1,1``; None where none are given."""
    return None if text is None else numbers(text, "--input-range")


def declared(model: Model, text: str | None) -> tuple[Model, list[str]]:
    """The model with its input range declared, and what to say of it at the end; see `ranged`."""
    said: list[str] = []
    return ranged(model, input_range(text), lambda message: said.append(worded(message))), said


def device(name: str) -> torch.device:
    """The torch device of that name.

    Raises
    ------
    InputError
        If there is none here.
    """
    try:
        found = torch.device(name)
        torch.empty(1, device=found).tolist()  # some devices hold no values
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"--device {name}: not available ({reason}); use cpu") from error
    return found


def can_be_written(
    network: Path | None,
    json_file: Path | None,
    *reads: str | Path | None,
    csv_file: Path | None = None,
) -> None:
    """Refuse a place for results before a training, not after it.

    Parameters
    ----------
    network, json_file, csv_file : Path or None
        Where the network goes, and the result.
    reads : str or Path or None
        What the command reads, as the user calls it: results never replace it.

    Raises
    ------
    InputError
        Naming the file that is a folder, or has none, or is read, or is not called as networks are.
    """
    if json_file == csv_file == STANDARD:
        raise InputError("--json - and --csv -: one alone goes to standard output; name a file")
    for option, file in (("--out", network), ("--json", json_file), ("--csv", csv_file)):
        if file is None or file == STANDARD:
            continue
        if file.is_dir() or not file.parent.is_dir():
            kind = "is a folder" if file.is_dir() else f"{file.parent} is no folder"
            raise InputError(f"{file}: cannot be written: {kind}; choose another {option}")
        if any(read is not None and _same(file, Path(read)) for read in reads):
            raise InputError(
                f"{option} {file}: would replace a file that is read; choose another {option}"
            )
    if network is not None and network.suffix != ".safetensors":
        raise InputError(
            f"--out {network}: networks are saved as safetensors; give it the ending .safetensors"
        )


def _same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except (OSError, ValueError):  # one of them is no file
        return False


def clean_up(checkpoint: Path | None) -> None:
    """Remove what a training that is done was to go on from, phase by phase; other files stay."""
    if checkpoint is None:
        return
    phases = checkpoint.parent.glob(f"{glob.escape(checkpoint.name)}.*")
    for leftover in (checkpoint, *phases):
        try:
            load_checkpoint(leftover)
        except InputError:
            continue  # the user's own
        leftover.unlink()


def is_follower() -> bool:
    """Whether another process of this training says and saves what came out."""
    return Processes.from_environment().rank > 0


def tell_epoch(record: EpochRecord) -> None:
    """One line on the error stream for an epoch of training, by the first process."""
    if not is_follower():
        tell(f"epoch {record.epoch}: loss {record.loss:.4f} ({record.seconds:.1f} s)")


def read_data(
    spec: str, most: int | None = None, task: str | None = None, entry: Input | None = None
) -> Samples:
    """Samples, of which the first `most` are looked at; meanwhile says what is fetched.

    `task` is what the user says their labels mean. Those that a network with this `entry` does not
    take are refused before they are fetched.
    """
    if entry is not None:
        refuse_unfit(entry, spec)
    with waiting() as say_what:
        return replace(load_data(spec, most=most, tell=say_what), task=task)


def reader(task: str | None, entry: Input) -> Callable[[str], Samples]:
    """Reads samples for a network; what their labels mean the user says."""
    return lambda spec: read_data(spec, task=task, entry=entry)


def parsed_steps(text: str) -> list[int] | None:
    """The numbers of ``1,2,4``; None for ``auto``.

    Raises
    ------
    InputError
        If a number is not a whole number above zero.
    """
    if text == "auto":
        return None
    try:
        steps = [int(part) for part in text.split(",")]
    except ValueError:
        steps = []
    if not steps or min(steps) < 1 or max(steps) > 100_000:
        raise InputError(f"--steps {text}: give auto, or whole numbers above zero such as 1,2,4,8")
    return steps
