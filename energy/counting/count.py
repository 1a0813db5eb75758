"""Count exactly what a spiking network does on some samples, node by node and sample by sample."""

from torch import Tensor

from spikemorph.graph import InputError
from spikemorph.graph.batches import HELD, samples_within
from spikemorph.spiking import SpikingNetwork
from spikemorph.spiking.engine import Runs
from spikemorph.spiking.engines import engine_for

from .along import count_along
from .counts import Counts
from .edge_values import Edges, last_step
from .layer_facts import sites
from .tallies import Seen, Tally, gathered, tally_constants, tally_time, tally_twin


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
    if network.recurrent:
        return count_along(network, x, steps)
    known, edges = sites(network, steps), Edges(network, steps)
    engine = engine_for(network, most_steps=steps) if engine is None else engine
    seen = {name: Seen([], {0}) for name in known}
    if batch is None:
        neurons = sum(site.still.neurons for site in known.values())
        batch = samples_within(HELD, steps * neurons)
    for part in x.split(batch):
        trace = engine.run(part, steps, record=True)
        points = network.grid.to_integers(part)
        tallies: dict[str, Tally] = {name: {} for name in known}
        for visit in edges.at_once(points, steps):
            if visit[0].name in known:
                tally_twin(known[visit[0].name], visit, tallies[visit[0].name])
        for visit in edges.in_time(points, trace, last_step(network, trace, steps)):
            if visit[0].name in known:
                name = visit[0].name
                tally_time(known[name], visit, tallies[name], seen[name], steps)
                times = steps if network.rate_coded else 1
                tally_constants(known[name], times, tallies[name], len(part))
        for name, tally in tallies.items():
            seen[name].tallies.append(tally)
    return gathered(known, seen, len(x), steps)
