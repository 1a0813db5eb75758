"""Count exactly what a spiking network does on some samples, node by node and sample by sample."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from spikemorph.graph import InputError
from spikemorph.graph.batches import HELD, samples_within
from spikemorph.layers.ladder import Ladder
from spikemorph.spiking import SpikingNetwork
from spikemorph.spiking.engine import Runs
from spikemorph.spiking.engines import engine_for

from .counts import PER_SAMPLE, Counts, LayerCounts
from .edge_values import Edges, Visit, last_step
from .layer_facts import Site, sites

Tally = dict[str, Tensor]  # count name -> (sample,) int64


@dataclass
class _Seen:
    """What is gathered of one node over all batches."""

    tallies: list[Tally]
    levels: set[int]
    fired: Tensor | None = None


def count(
    network: SpikingNetwork,
    x: Tensor,
    steps: int,
    *,
    engine: Runs | None = None,
    batch: int | None = None,
) -> Counts:
    """Run a network on samples and count everything it does.

    Parameters
    ----------
    network : SpikingNetwork
        The network; pruned weights are zero in it.
    x : Tensor
        (sample, *shape) real inputs on the network's grid.
    steps : int
        How many steps every sample is run for.
    engine : Engine, optional
        What runs it; the dense engine by default.
    batch : int, optional
        Samples held at a time; chosen from memory by default. Counts do not depend on it.

    Raises
    ------
    InputError
        If there are no samples, no steps, or a value outside the input grid.
    UnsupportedError
        Naming every node whose work cannot be counted.
    """
    if len(x) == 0 or steps < 1 or (batch is not None and batch < 1):
        raise InputError(f"{len(x)} samples for {steps} steps: give one or more of each")
    known, edges = sites(network, steps), Edges(network, steps)
    engine = engine_for(network, most_steps=steps) if engine is None else engine
    seen = {name: _Seen([], {0}) for name in known}
    if batch is None:
        neurons = sum(site.still.neurons for site in known.values())
        batch = samples_within(HELD, steps * neurons)
    for part in x.split(batch):
        trace = engine.run(part, steps, record=True)
        points = network.grid.to_integers(part)
        tallies: dict[str, Tally] = {name: {} for name in known}
        for visit in edges.at_once(points, steps):
            if visit[0].name in known:
                _tally_twin(known[visit[0].name], visit, tallies[visit[0].name])
        for visit in edges.in_time(points, trace, last_step(network, trace, steps)):
            if visit[0].name in known:
                name = visit[0].name
                _tally_time(known[name], visit, tallies[name], seen[name], steps)
                _tally_constants(known[name], network, steps, tallies[name], len(part))
        for name, tally in tallies.items():
            seen[name].tallies.append(tally)
    return _gathered(known, seen, len(x), steps)


def _tally_twin(site: Site, visit: Visit, tally: Tally) -> None:
    """The integer network's one pass over one node."""
    _, sources, _ = visit
    for index, source in enumerate(sources):
        active = source != 0
        for name, maps in (
            ("adds_active", site.reach.adds),
            ("scalings_active", site.reach.scalings),
        ):
            if maps:
                _add(tally, name, _work(active, maps[index]))
        if site.reach.masked:
            masked, dense = site.reach.masked[index], site.reach.dense[index]
            analog, bits = site.analog[index], set_bits(source)
            _add(tally, "active_inputs", _events(active))
            _add(tally, "mac_effective", _work(active, masked))
            _add(tally, "mac_active", _work(active, dense))
            _add(tally, "mac_bits", _work(bits, masked))
            _add(tally, "mac_bits_dense_weights", _work(bits, dense))
            _add(tally, "analog_macs_once", _work(active, masked * analog))
            _add(tally, "analog_macs_once_dense_weights", _work(active, dense * analog))


def _tally_time(site: Site, visit: Visit, tally: Tally, seen: _Seen, steps: int) -> None:
    """All steps of one node; what is read and made is (step, sample, *shape)."""
    _, sources, made = visit
    for index, source in enumerate(sources):
        busy = (source != 0).sum(0)  # events of every cell
        for name, maps in (("adds", site.reach.adds), ("scalings", site.reach.scalings)):
            if maps:
                _add(tally, name, _work(busy, maps[index]))
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
    _add(tally, "analog_events", _events(busy * analog))
    _add(tally, "spikes_in", _events(busy * ~analog))
    size = source.abs().to(torch.int64)
    single = (size & (size - 1)) == 0  # a power of two, or nothing
    shifted = (single & (size > 1)).sum(0)
    graded = (~single).sum(0)
    unit = busy - shifted - graded
    bits = set_bits(source).sum(0)
    spiking, entering = masked * ~analog, masked * analog
    all_spiking, all_entering = dense * ~analog, dense * analog
    _add(tally, "synops_unit", _work(unit, spiking))
    _add(tally, "synops_shifted", _work(shifted, spiking))
    _add(tally, "synops_graded", _work(graded, spiking))
    _add(tally, "synop_bits", _work(bits, spiking))
    _add(tally, "synops_dense_weights", _work(busy, all_spiking))
    _add(tally, "synops_dense_shifted", _work(shifted, all_spiking))
    _add(tally, "synops_dense_graded", _work(graded, all_spiking))
    _add(tally, "synop_bits_dense_weights", _work(bits, all_spiking))
    _add(tally, "analog_macs", _work(busy, entering))
    _add(tally, "analog_macs_dense_weights", _work(busy, all_entering))


def _tally_neurons(current: Tensor, spikes: Tensor, tally: Tally, steps: int) -> None:
    """Spikes and updates of a neuron layer; (step, sample, *shape)."""
    driven = _events(((current != 0) | (spikes != 0)).sum(0))
    neurons = spikes[0, 0].numel()
    _add(tally, "spikes_out", _events((spikes != 0).sum(0)))
    _add(tally, "negative_spikes", _events((spikes < 0).sum(0)))
    _add(tally, "graded_spikes", _events((spikes.abs() > 1).sum(0)))
    _add(tally, "updates_driven", driven)
    _add(tally, "updates_idle", steps * neurons - driven)


def _tally_constants(
    site: Site, network: SpikingNetwork, steps: int, tally: Tally, samples: int
) -> None:
    """What is done for every sample alike: biases, and the read-out's scalings."""
    times = steps if network.rate_coded else 1
    _add(tally, "bias_adds", torch.full((samples,), site.still.bias_cells * times))
    for name in ("scalings", "scalings_active"):
        _add(tally, name, torch.full((samples,), site.reach.once))


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


def _work(cells: Tensor, reach: Tensor) -> Tensor:
    """(sample,) sum over cells of how often each was used times what it sets off; int64, exact."""
    return (cells * reach).flatten(1).sum(1)


def _add(tally: Tally, name: str, amount: Tensor) -> None:
    tally[name] = tally[name] + amount if name in tally else amount


def _gathered(
    known: Mapping[str, Site], seen: Mapping[str, _Seen], samples: int, steps: int
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
