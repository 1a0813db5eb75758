"""Options that several commands share, and how their text becomes values."""

import glob
import json
import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from spikemorph.graph import InputError
from spikemorph.graph.saving import write_bytes
from spikemorph.train.checkpoint import load_checkpoint
from spikemorph.train.loop import EpochRecord
from spikemorph.zoo import Samples, load_data

JsonOption = Annotated[
    Path | None, typer.Option("--json", help="Also write the result as JSON.", metavar="FILE")
]
SeedOption = Annotated[
    int,
    typer.Option("--seed", help="Which calibration samples are drawn.", min=0, max=2**63 - 1),
]
DeviceOption = Annotated[str, typer.Option("--device", help="cpu, cuda, ...")]
ShapeOption = Annotated[
    str | None,
    typer.Option("--input-shape", help="1,3,32,32: for a factory, or open ONNX sizes."),
]
WeightsOption = Annotated[
    Path | None, typer.Option("--weights", help="For a factory: safetensors or a plain state dict.")
]
RangeOption = Annotated[
    str | None, typer.Option("--input-range", help="Pixels 0..255 become low,high.")
]

out = Console()
progress_console = Console(stderr=True)


def say(*lines: str) -> None:
    """Print sentences as they are, each on a line of its own however long."""
    for line in lines:
        out.print(line, highlight=False, markup=False, soft_wrap=True)


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


def input_range(text: str | None, known: tuple[float, float] | None) -> tuple[float, float]:
    """The range of a model's inputs: given, known of the model, or 0..1."""
    if text is None:
        return known or (0.0, 1.0)
    ends = numbers(text, "--input-range")
    if len(ends) != 2:
        raise InputError(f"--input-range {text}: give low,high")
    return ends[0], ends[1]


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


def write_json(path: Path | None, result: Any) -> None:
    """Write a result as JSON, whole or not at all."""
    if path is not None:
        write_bytes(path, (json.dumps(result, indent=2) + "\n").encode())


def can_be_written(*files: Path | None) -> None:
    """Refuse a place for results before a training, not after it.

    Raises
    ------
    InputError
        Naming the file that is a folder, or has none.
    """
    for file in files:
        if file is not None and (file.is_dir() or not file.parent.is_dir()):
            kind = "is a folder" if file.is_dir() else f"{file.parent} is no folder"
            raise InputError(f"{file}: cannot be written: {kind}; choose another --out or --json")


def made_folder(path: Path) -> None:
    """Make a folder for results, with its parents.

    Raises
    ------
    InputError
        If the system refuses.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"{path}: cannot be made: {error.strerror}; choose another --out"
        ) from error


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


def tell(line: str) -> None:
    """Progress, beside the output."""
    progress_console.print(line, highlight=False)


def tell_epoch(record: EpochRecord) -> None:
    """One line on the error stream for an epoch of training."""
    tell(f"epoch {record.epoch}: loss {record.loss:.4f} ({record.seconds:.1f} s)")


def read_data(spec: str) -> Samples:
    """Samples, telling on the error stream what is fetched."""
    return load_data(spec, tell=tell)


@contextmanager
def progress(total: int, text: str) -> Iterator[Any]:
    """A progress bar on the error stream, if that is a terminal; yields what to call with a count."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(
        *columns, console=progress_console, transient=True, disable=not sys.stderr.isatty()
    ) as bar:
        task = bar.add_task(text, total=total)
        yield lambda count: bar.advance(task, count)
