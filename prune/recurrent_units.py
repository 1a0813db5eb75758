"""Follow channels through a graph, and the units of recurrent layers through all their gates.

A hidden unit is a row of every gate's weights, a column of all that read the state, a place of every
register that keeps it, and a channel of what reads the layer: these are one group, and go together.
"""

from collections.abc import Mapping
from dataclasses import replace

from spikemorph.graph import Graph, Input, Node
from spikemorph.graph.calls import Refusal
from spikemorph.graph.interpret import shapes
from spikemorph.graph.nested import read_by
from spikemorph.graph.traits import Recurs
from spikemorph.layers.multiply import Multiply

from .channel_rows import carries
from .channel_tracing import Carried, Shape, Tracing


def follow(
    tracing: Tracing, graph: Graph, entering: Mapping[str, Carried], path: str = ""
) -> dict[str, Carried]:
    """Which channels the nodes of a graph carry, inside recurrent layers too, by qualified name.

    `entering` has those of inputs and registers, for a body; other inputs are the network's, and pinned.
    """
    found: dict[str, Carried] = {}
    for node, shape in zip(graph.nodes, shapes(graph).values(), strict=True):
        name = f"{path}{node.name}"
        sources = [found[source] for source in read_by(name, node)]
        if node.name in entering:
            found[name] = entering[node.name]
        elif isinstance(node.op, Recurs):
            found |= _recur(tracing, name, node.op, sources, shape)
        else:
            found[name] = _carry(tracing, name, node, sources, shape)
    return found


def _carry(
    tracing: Tracing, name: str, node: Node, sources: list[Carried], shape: Shape
) -> Carried:
    """A node's channels; where they cannot be followed, or are not zero when removed, all are pinned."""
    where = f"node {name!r} ({type(node.op).__name__}): "
    spoilt = next((source.spoilt for source in sources if source.spoilt), None)
    if isinstance(node.op, Input):
        reason = f"node {name!r} is an input of the network"
    elif spoilt is not None and not isinstance(node.op, Multiply):
        reason = spoilt
    else:
        try:
            if type(node.op) not in carries:
                raise Refusal("its channels cannot be followed")
            made = carries[type(node.op)](node.op, tracing, sources, shape)
            new = made.spoilt is not None and made.spoilt != spoilt
            return replace(made, spoilt=f"{where}{made.spoilt}") if new else made
        except Refusal as refusal:
            reason = f"{where}{refusal.reason}"
    made = _new(tracing, shape)
    for carried in (*sources, made):
        tracing.pin(carried.channels, reason)
    return made


def _recur(
    tracing: Tracing, name: str, op: Recurs, sources: list[Carried], shape: Shape
) -> dict[str, Carried]:
    """The channels inside a recurrent layer, and its own: those of the body's output."""
    body, along = op.body, op.axis - 1
    sizes = shapes(body)
    entering = {register.name: _new(tracing, sizes[register.name]) for register in body.registers}
    for inner, source in zip(body.inputs, sources, strict=True):
        entering[inner] = _element(tracing, name, source, along)
    found = follow(tracing, body, entering, f"{name}/")
    for register in body.registers:
        after = found[f"{name}/{register.after}"]
        _require_zero(tracing, after)
        tracing.unite(entering[register.name].channels, tracing.along(after, 0))
    out = found[f"{name}/{body.outputs[0]}"]
    _require_zero(tracing, out)
    return found | {name: Carried(shape, out.axis + (out.axis >= along), out.channels)}


def _element(tracing: Tracing, name: str, source: Carried, along: int) -> Carried:
    """One element's channels. Where elements are themselves the channels, none can be removed."""
    _require_zero(tracing, source)
    shape = (*source.shape[:along], *source.shape[along + 1 :])
    if source.axis != along:
        return Carried(shape, source.axis - (source.axis > along), source.channels)
    made = _new(tracing, shape)
    for channels in (source.channels, made.channels):
        tracing.pin(channels, f"node {name!r} goes along them as elements of a sequence")
    return made


def _new(tracing: Tracing, shape: Shape) -> Carried:
    return Carried(shape, 0, tracing.fresh(shape[0] if shape else 1))


def _require_zero(tracing: Tracing, carried: Carried) -> None:
    """Pin channels that would not be zero if they were removed."""
    if carried.spoilt is not None:
        tracing.pin(carried.channels, carried.spoilt)
