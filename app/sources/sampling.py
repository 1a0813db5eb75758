"""Which samples are shown to what: calibration and test never the same, drawn by a seed."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from spikemorph.graph import Graph, Input, InputError
from spikemorph.graph.brief import brief_repr
from spikemorph.graph.errors import Repair, Setting
from spikemorph.zoo import Samples, load_data
from spikemorph.zoo.datasets import card_of, npz_part

from .tasks import task_for

Read = Callable[[str], Samples]


def values(samples: Samples, entry: Input, *, mixed: bool = False) -> Tensor:
    """The samples' real values as a network takes them that they enter by `entry`.

    Every command reads data by this: bytes are mapped onto the declared range of the network's
    inputs, floats are in its own units. One that takes sequences of `mixed` lengths reads these too
    (`ends`); to any other they would look longer than they are.

    Raises
    ------
    InputError
        If their shape is not the network's, they lie outside its range, or that is not declared; if
        they have different lengths, and may not.
    """
    _require_shape(samples.name, tuple(samples.x.shape[1:]), entry)
    if not mixed and (long := ends(samples)) is not None:
        raise InputError(
            f"{samples.name}: sequences of {int(long.min())} to {int(long.max())} elements; this takes "
            "sequences of one length: cut them, or evaluate, certify or stream"
        )
    return samples.values(entry.interval, entry.slack)


def refuse_unfit(entry: Input, *specs: str | None) -> None:
    """Refuse named data that a network does not take, before any of it is fetched.

    Raises
    ------
    InputError
        If the shape of its samples is another, or there is no such data.
    """
    for spec in specs:
        if spec is not None and (card := card_of(spec)) is not None:
            _require_shape(spec, card[0].shape, entry)


def refuse_test_data(*specs: str | None) -> None:
    """Refuse to learn from what networks are tested on.

    Raises
    ------
    InputError
        Naming the data, or if there is no such data.
    """
    for spec in specs:
        if spec is not None and (card := card_of(spec)) is not None and card[1].tests:
            raise InputError(
                f"{spec}: networks are tested on this split, and never trained or calibrated on it; "
                f"give {card[0].name}:train"
            )


def _require_shape(name: str, found: tuple[int, ...], entry: Input) -> None:
    if found != entry.shape:
        raise InputError(
            f"{name}: samples have shape {found}, the model takes {entry.shape}; "
            f"{_repair(found, entry.shape)}"
        )


def _repair(found: tuple[int, ...], wanted: tuple[int, ...]) -> str:
    if len(found) == len(wanted) > 1 and (found[-1], *found[:-1]) == wanted:
        return "channels come first: numpy.moveaxis(x, -1, 1)"
    if math.prod(found) == math.prod(wanted):
        sizes = ", ".join(map(str, wanted))
        return f"so many values, in another shape: x.reshape(-1, {sizes}), if their order is right"
    return "give the data set the model was made for"


def labels_of(samples: Samples) -> Tensor:
    """The samples' labels.

    Raises
    ------
    InputError
        If they have none.
    """
    if samples.y is None:
        raise InputError(f"{samples.name}: no labels; give samples with labels")
    return samples.y


def first(samples: Samples, most: int) -> Samples:
    """The first `most` samples, or all where there are fewer.

    Raises
    ------
    InputError
        If that is none.
    """
    if most < 1:
        raise InputError(f"{most} samples of {samples.name}: nothing to count on; give 1 or more")
    return samples.take(min(most, len(samples)))


def ends(samples: Samples) -> Tensor | None:
    """(sample,) how many elements each sequence has; None where all are full."""
    lengths = samples.lengths
    return None if lengths is None or bool((lengths == samples.x.shape[1]).all()) else lengths


def fitting(samples: Samples, graph: Graph, *, mixed: bool = False) -> Tensor:
    """The samples' real values as a network takes them, known to fit it before anything is run.

    `mixed` as for `values`.

    Raises
    ------
    InputError
        As `values` and `task_for` do.
    """
    x = values(samples, graph.entry, mixed=mixed)
    task_for(graph, samples)
    return x


@dataclass(frozen=True)
class DataPair:
    """Samples to calibrate on and samples to test on, never the same."""

    calibration: Samples
    test: Samples

    __repr__ = brief_repr


CALIBRATION_SAMPLES = 2000


def split_data(data: str, calibration: str | None, seed: int, read: Read = load_data) -> DataPair:
    """Which samples a conversion is calibrated on, and which it is tested on; `read` gets both.

    A named test split is calibrated on its set's train split and the other way round; a file or a
    folder is cut in halves. At most 2000 calibration samples are drawn, by the seed.
    """
    test = data
    refuse_test_data(calibration)
    if calibration is None:
        name, colon, rest = data.partition(":")
        part = rest.partition(":")[0]
        if not colon or Path(data).exists() or npz_part(data) is not None:
            return _halves(read(data), seed)
        calibration = data if part == "train" else f"{name}:train"
        test = f"{name}:test" if part == "train" else data
    tested, shown = read(test), read(calibration)  # what the user named comes first
    if (shown.name, shown.source) == (tested.name, tested.source):
        raise InputError(
            "the network would be tested on what it is calibrated on; give other samples",
            where=Setting("calibration", calibration),
        )
    return DataPair(drawn(shown, seed), tested)


def drawn(samples: Samples, seed: int, most: int = CALIBRATION_SAMPLES) -> Samples:
    """At most so many samples, drawn without order by the seed."""
    if len(samples) <= most:
        return samples
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(len(samples), generator=generator)[:most]
    return samples.picked(chosen)


def _halves(samples: Samples, seed: int) -> DataPair:
    if len(samples) < 2:
        raise InputError(f"{samples.name}: one sample cannot be split", Repair("calibration"))
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(samples), generator=generator)
    half = len(samples) // 2
    return DataPair(
        drawn(samples.picked(order[:half]), seed), samples.picked(order[half:].sort().values)
    )
