"""Measure saved networks on the same samples and set them side by side."""

from collections.abc import Sequence
from pathlib import Path

import torch

from spikemorph.convert import load_certified
from spikemorph.energy import EnergyResult, PriceList, estimate_energy
from spikemorph.graph import InputError
from spikemorph.spiking import DenseEngine, load_network
from spikemorph.zoo import Samples

from .comparison import Comparison, compared, side_by_side
from .evaluation import Watch, curve_steps, evaluate
from .sampling import first, values

_CPU = torch.device("cpu")


def compare_networks(
    paths: Sequence[Path],
    data: Samples,
    *,
    dense: Path | None = None,
    samples: int,
    price_lists: tuple[PriceList, ...],
    device: torch.device = _CPU,
    watch: Watch = lambda _: None,
) -> tuple[Comparison, tuple[EnergyResult, ...]]:
    """Accuracy on all of `data`, energy on the first `samples`, for every saved network.

    Raises
    ------
    InputError
        If a file is no network, two have one name, or the data does not fit.
    """
    names, few = _names(paths), first(data, samples)
    other = None if dense is None else load_network(dense)[0]
    rows, costs = [], []
    for name, path in zip(names, paths, strict=True):
        network, certificate, notes = load_certified(path)
        low, high = notes.get("input_range", (0.0, 1.0))
        x = values(data, (low, high), network.entry.shape)
        steps = curve_steps(certificate)
        engine = DenseEngine(network, device, most_steps=max(steps))
        seen = evaluate(
            network, engine, certificate, x, data.y, steps=steps, names=(name, data.name),
            watch=watch,
        )  # fmt: skip
        counted = values(few, (low, high), network.entry.shape)
        cost = estimate_energy(
            network, counted, max(steps), dense=other, price_lists=price_lists, model=name,
            data=data.name,
        )  # fmt: skip
        rows.append(compared(name, seen.to_dict(), cost.to_dict()))
        costs.append(cost)
    return side_by_side(data.name, rows, len(data)), tuple(costs)


def _names(paths: Sequence[Path]) -> list[str]:
    """The files' names; their folders' where two files are called alike, as those of one run."""
    stems, folders = ([p.stem for p in paths], [p.resolve().parent.name for p in paths])
    both = [f"{folder}/{stem}" for folder, stem in zip(folders, stems, strict=True)]
    for names in (stems, folders, both):
        if len(set(names)) == len(names):
            return names
    twice = sorted({name for name in both if both.count(name) > 1})
    raise InputError(f"{twice}: two files have one name; rename one, so that rows can be told")
