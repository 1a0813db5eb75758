"""Add up what one network does, node by node and sample by sample."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from spikemorph.layers.ladder import Ladder

from .counts import PER_SAMPLE, Counts, LayerCounts
from .edge_values import Visit
from .layer_facts import Site

Tally = dict[str, Tensor]  # count name -> (sample,) int64


@dataclass
class Seen:
    """What is gathered of one node over all batches."""

    tallies: list[Tally]
    levels: set[int]
    fired: Tensor | None = None


def tally_twin(site: Site, visit: Visit, tally: Tally) -> None:
    """The integer network's one pass over one node."""
    _, sources, _ = visit
    for index, source in enumerate(sources):
        active = source != 0
        for name, maps in (
            ("adds_active", site.reach.adds),
            ("scalings_active", site.reach.scalings),
        ):
            if maps:
                add(tally, name, work(active, maps[index]))
        if site.reach.masked:
            masked, dense = site.reach.masked[index], site.reach.dense[index]
            analog, bits = site.analog[index], set_bits(source)
            add(tally, "active_inputs", _events(active))
            add(tally, "mac_effective", work(active, masked))
            add(tally, "mac_active", work(active, dense))
            add(tally, "mac_bits", work(bits, masked))
            add(tally, "mac_bits_dense_weights", work(bits, dense))
            add(tally, "analog_macs_once", work(active, masked * analog))
            add(tally, "analog_macs_once_dense_weights", work(active, dense * analog))


def tally_time(site: Site, visit: Visit, tally: Tally, seen: Seen, steps: int) -> None:
    """All steps of one node; what is read and made is (step, sample, *shape)."""
    _, sources, made = visit
    for index, source in enumerate(sources):
        busy = (source != 0).sum(0)  # events of every cell
        for name, maps in (("adds", site.reach.adds), ("scalings", site.reach.scalings)):
            if maps:
                add(tally, name, work(busy, maps[index]))
        if site.reach.masked:
            _tally_synapses(site, index, source, busy, tally)
            seen.levels |= set(torch.unique(source * ~site.analog[index]).tolist())
    if isinstance(site.node.op, Ladder):
        _tally_neurons(sources[0], made, tally, steps)
        fired = made.ne(0).any(0).any(0)
        seen.fired = fired if seen.fired is None else seen.fired | fired


def _tally_synapses(site: Site, index: int, source: Tensor, busy: Tensor, tally: Tally) -> None:
    """Events reaching weights, by the size of the event."""
    analog, masked, dense = site.analog[index], site.reach.masked[index], site.reach.dense[index]
    add(tally, "analog_events", _events(busy * analog))
    add(tally, "spikes_in", _events(busy * ~analog))
    size = source.abs().to(torch.int64)
    single = (size & (size - 1)) == 0  # a power of two, or nothing
    shifted = (single & (size > 1)).sum(0)
    graded = (~single).sum(0)
    unit = busy - shifted - graded
    bits = set_bits(source).sum(0)
    spiking, entering = masked * ~analog, masked * analog
    all_spiking, all_entering = dense * ~analog, dense * analog
    add(tally, "synops_unit", work(unit, spiking))
    add(tally, "synops_shifted", work(shifted, spiking))
    add(tally, "synops_graded", work(graded, spiking))
    add(tally, "synop_bits", work(bits, spiking))
    add(tally, "synops_dense_weights", work(busy, all_spiking))
    add(tally, "synops_dense_shifted", work(shifted, all_spiking))
    add(tally, "synops_dense_graded", work(graded, all_spiking))
    add(tally, "synop_bits_dense_weights", work(bits, all_spiking))
    add(tally, "analog_macs", work(busy, entering))
    add(tally, "analog_macs_dense_weights", work(busy, all_entering))


def _tally_neurons(current: Tensor, spikes: Tensor, tally: Tally, steps: int) -> None:
    """Spikes and updates of a neuron layer; (step, sample, *shape)."""
    driven = _events(((current != 0) | (spikes != 0)).sum(0))
    neurons = spikes[0, 0].numel()
    add(tally, "spikes_out", _events((spikes != 0).sum(0)))
    add(tally, "negative_spikes", _events((spikes < 0).sum(0)))
    add(tally, "graded_spikes", _events((spikes.abs() > 1).sum(0)))
    add(tally, "updates_driven", driven)
    add(tally, "updates_idle", steps * neurons - driven)


def tally_constants(site: Site, times: int, tally: Tally, samples: int) -> None:
    """What is done for every sample alike: biases, so many times, and the read-out's scalings."""
    add(tally, "bias_adds", torch.full((samples,), site.still.bias_cells * times))
    for name in ("scalings", "scalings_active"):
        add(tally, name, torch.full((samples,), site.reach.once))


def set_bits(values: Tensor) -> Tensor:
    """How many bits of each integer's magnitude are set, int64.

    >>> set_bits(torch.tensor([0, 1, -3, 8]))
    tensor([0, 1, 2, 1])
    """
    left = values.abs().to(torch.int64)
    found = torch.zeros_like(left)
    while bool(left.any()):
        found += left & 1
        left = left >> 1
    return found


def _events(cells: Tensor) -> Tensor:
    """(sample,) sum over cells."""
    return cells.flatten(1).sum(1)


def work(cells: Tensor, reach: Tensor) -> Tensor:
    """(sample,) sum over cells of how often each was used times what it sets off; int64, exact."""
    return (cells * reach).flatten(1).sum(1)


def add(tally: Tally, name: str, amount: Tensor) -> None:
    tally[name] = tally[name] + amount if name in tally else amount


def gathered(
    known: Mapping[str, Site], seen: Mapping[str, Seen], samples: int, steps: int
) -> Counts:
    """One table of all batches."""
    rows: list[LayerCounts] = []
    table: dict[str, list[Tensor]] = {name: [] for name in PER_SAMPLE}
    for node, site in known.items():
        own = seen[node]
        totals: dict[str, Any] = {}
        for name in PER_SAMPLE:
            parts = [tally[name] for tally in own.tallies if name in tally]
            column = torch.cat(parts) if parts else torch.zeros(samples, dtype=torch.int64)
            table[name].append(column)
            totals[name] = int(column.sum())
        silent = torch.zeros(1, 1).bool() if own.fired is None else ~own.fired
        rows.append(
            replace(
                site.still,
                **totals,
                event_levels=len(own.levels) if site.still.weights else 0,
                silent_neurons=int(silent.sum()),
                silent_channels=int(silent.reshape(len(silent), -1).all(1).sum()),
            )
        )
    stacked = {name: torch.stack(columns) for name, columns in table.items()}
    return Counts(tuple(rows), samples, steps, stacked)
