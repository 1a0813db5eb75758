"""Whether a network fits on a chip, by the chip's published limits (Loihi 1)."""

import math
from collections.abc import Iterator

from spikemorph.graph import Graph
from spikemorph.graph.nested import recurs
from spikemorph.graph.traits import Weighted

from .counting.counts import Counts, LayerCounts
from .results import ChipFit, LayerFit

# Davies et al., IEEE Micro 2018: of one core, and how many cores a chip has.
NEURONS, SYNAPSE_BITS, AXONS, CORES, WEIGHT_BITS = 1024, 128 * 1024 * 8, 4096, 128, 9


def fit_loihi(graph: Graph, counts: Counts) -> ChipFit:
    """How many Loihi cores each weighted layer, with the neurons behind it, takes.

    ``cores = max(neurons / 1024, synapse bits / 128 KB, axons / 4096)``, rounded up. Weights are stored
    once a layer, with their index where that is smaller. A convolution is split by positions, so that
    a core reads its share of the input and a neuron sends to two cores at most; a linear layer's cores
    each read all of it, and every neuron before sends to all of them.
    """
    if recurs(graph):
        why = "recurrent layers are not laid out on cores here"
        return ChipFit("Loihi 1", 0, CORES, False, (), (why,))
    rows = {layer.node: layer for layer in counts.layers if layer.weights}
    fits: dict[str, LayerFit] = {}
    for name in reversed(rows):
        sent = sum(_targets(graph, fits[reader]) for reader in _readers(graph, name))
        fits[name] = _fit(rows[name], _reads_all(graph, name), sent)
    used = sum(fit.cores for fit in fits.values())
    problems = tuple(p for name, layer in rows.items() for p in _problems(layer, graph, name))
    return ChipFit(
        "Loihi 1",
        used,
        CORES,
        used <= CORES and not problems,
        tuple(fits[n] for n in rows),
        problems,
    )


def _reads_all(graph: Graph, name: str) -> bool:
    """Whether every output of a weighted node depends on every input."""
    op = graph[name].op
    return isinstance(op, Weighted) and not op.local


def _fit(layer: LayerCounts, linear: bool, sent: int) -> LayerFit:
    indexed = layer.nonzero_weights * (layer.weight_bits + layer.index_bits)
    bits = min(layer.weights * layer.weight_bits, indexed)
    needs = {
        "neurons": math.ceil(layer.outputs / NEURONS),
        "synapses": math.ceil(bits / SYNAPSE_BITS),
        "input axons": 1 if linear else math.ceil(layer.inputs / AXONS),
        "output axons": math.ceil(layer.outputs * sent / AXONS),
    }
    limit = max(needs, key=lambda name: needs[name])
    cores = max(1, needs[limit])
    return LayerFit(
        layer.node, layer.outputs, bits, layer.inputs, layer.outputs * sent, cores, limit
    )


def _targets(graph: Graph, reader: LayerFit) -> int:
    """To how many cores of a layer one neuron before it sends."""
    return reader.cores if _reads_all(graph, reader.node) else min(2, reader.cores)


def _readers(graph: Graph, name: str) -> set[str]:
    """The weighted nodes that read what a weighted node makes, past all others."""
    return set(_next_weighted(graph, name))


def _next_weighted(graph: Graph, name: str) -> Iterator[str]:
    for user in graph.users(name):
        if isinstance(user.op, Weighted):
            yield user.name
        else:
            yield from _next_weighted(graph, user.name)


def _problems(layer: LayerCounts, graph: Graph, name: str) -> Iterator[str]:
    if layer.weight_bits > WEIGHT_BITS:
        yield f"{name!r}: weights of {layer.weight_bits} bits, {WEIGHT_BITS} are possible"
    if _reads_all(graph, name) and layer.inputs > AXONS:
        yield f"{name!r}: {layer.inputs} inputs reach every core, which has {AXONS} input axons"
    if layer.event_levels > 2:
        yield f"{name!r}: reads events of {layer.event_levels - 1} sizes; the chip sends one"
