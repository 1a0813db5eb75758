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
    names = [path.stem for path in paths]
    if len(set(names)) < len(names):
        raise InputError(f"{names}: two files have one name; rename one, so that rows can be told")
    other = None if dense is None else load_network(dense)[0]
    rows, costs = [], []
    for path in paths:
        network, certificate, notes = load_certified(path)
        low, high = notes.get("input_range", (0.0, 1.0))
        x = values(data, (low, high), network.entry.shape)
        steps = curve_steps(certificate)
        engine = DenseEngine(network, device, most_steps=max(steps))
        seen = evaluate(
            network, engine, certificate, x, data.y, steps=steps, names=(path.stem, data.name),
            watch=watch,
        )  # fmt: skip
        few = values(first(data, samples), (low, high), network.entry.shape)
        cost = estimate_energy(
            network, few, max(steps), dense=other, price_lists=price_lists, model=path.stem,
            data=data.name,
        )  # fmt: skip
        rows.append(compared(path.stem, seen.to_dict(), cost.to_dict()))
        costs.append(cost)
    return side_by_side(data.name, rows), tuple(costs)
