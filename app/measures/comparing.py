"""Measure saved networks on the same samples and set them side by side."""

from collections.abc import Sequence
from pathlib import Path

import torch

from spikemorph.convert import load_certified
from spikemorph.energy import EnergyResult, PriceList, estimate_energy
from spikemorph.graph import InputError
from spikemorph.spiking import DenseEngine, SpikingNetwork
from spikemorph.zoo import Samples

from ..sources.sampling import first, fitting
from ..sources.tasks import task_for
from .comparison import Comparison, compared, side_by_side
from .evaluation import Watch, curve_steps, evaluate, steps_of

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
    other, own_steps = dense_network(dense)
    rows, costs = [], []
    for name, path in zip(names, paths, strict=True):
        network, certificate, _ = load_certified(path)
        x = fitting(data, network.graph)
        steps = curve_steps(certificate)
        engine = DenseEngine(network, device, most_steps=max(steps))
        seen = evaluate(
            network, engine, certificate, x, data.y, steps=steps, names=(name, data.name),
            watch=watch, task=task_for(network.graph, data),
        )  # fmt: skip
        counted = x[: len(few)]
        cost = estimate_energy(
            network, counted, max(steps), dense=other, dense_steps=own_steps,
            price_lists=price_lists, model=name, data=data.name,
        )  # fmt: skip
        rows.append(compared(name, seen.to_dict(), cost.to_dict()))
        costs.append(cost)
    return side_by_side(data.name, rows, len(data)), tuple(costs)


def dense_network(path: Path | None) -> tuple[SpikingNetwork | None, int | None]:
    """The un-pruned network that energies are compared with, and how long it runs: as long as its own
    certificate asks for.

    Raises
    ------
    InputError
        If the file is no spiking network.
    """
    if path is None:
        return None, None
    network, certificate, _ = load_certified(path)
    return network, steps_of(certificate)


def _names(paths: Sequence[Path]) -> list[str]:
    """The files' names; their folders' where two files are called alike, as those of one run."""
    stems, folders = ([p.stem for p in paths], [p.resolve().parent.name for p in paths])
    both = [f"{folder}/{stem}" for folder, stem in zip(folders, stems, strict=True)]
    for names in (stems, folders, both):
        if len(set(names)) == len(names):
            return names
    twice = ", ".join(
        sorted({str(p) for p, name in zip(paths, both, strict=True) if both.count(name) > 1})
    )
    raise InputError(f"{twice}: given twice, or called alike; rename one, so that rows can be told")
