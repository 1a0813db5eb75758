"""The canonical form: batch norms, normalisation and average pools folded, idle nodes gone."""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from spikemorph.graph import Graph, Input, Node, Op
from spikemorph.graph.interpret import shapes
from spikemorph.graph.stages import FLOAT, require
from spikemorph.graph.tables import opens
from spikemorph.graph.traits import Fires, Moves, Pools, Recurs, Weighted
from spikemorph.layers.activation import Activation
from spikemorph.layers.affine import ScaleShift
from spikemorph.layers.shape import Transpose

from .fold_scales import fold_once

Pass = Callable[[Graph], Graph]


def drop_idle(graph: Graph) -> Graph:
    """Drop nodes that do nothing (dropout, casts, pools of one cell, scales of one)."""
    for node in graph.nodes:
        if node.op.idle:
            graph = graph.rename(node.name, graph[node.name].inputs[0])
    return graph


def drop_dead(graph: Graph) -> Graph:
    """Drop nodes that no output depends on; the input stays."""
    alive = {*graph.outputs, *graph.inputs}
    for register in graph.registers:
        alive |= {register.name, register.after}
    for node in reversed(graph.nodes):
        if node.name in alive:
            alive.update(node.inputs)
    return graph.with_nodes(node for node in graph.nodes if node.name in alive)


def open_scales(graph: Graph) -> Graph:
    """Write batch norms as scale and shift, averages as sums and a scale."""
    return _opened(graph, lambda op: not isinstance(op, Weighted))


def fold_scales(graph: Graph) -> Graph:
    """Fold scales and shifts into weighted layers, until none can be folded or moved further."""
    known = shapes(graph)
    while (changed := fold_once(graph, known)) is not graph:
        graph = changed
    return graph


def open_linears(graph: Graph) -> Graph:
    """Write linear layers over positions as convolutions of one cell: features become channels.

    Scales that can be folded only then are folded.
    """
    opened = _opened(graph, lambda op: isinstance(op, Weighted))
    return graph if opened is graph else fold_scales(opened)


def _opened(graph: Graph, wanted: Callable[[Op], bool]) -> Graph:
    """Write ops of the wanted kinds as the chains that their rows in `opens` say."""
    sizes = shapes(graph)
    for node in graph.nodes:
        if type(node.op) not in opens or not wanted(node.op):
            continue
        chain = opens[type(node.op)](node.op, *(sizes[name] for name in node.inputs))
        if chain is not None:
            graph = graph.substitute(node.name, *_chained(graph, node, chain))
    return graph


def _chained(graph: Graph, node: Node, chain: tuple[tuple[str, Op], ...]) -> list[Node]:
    """Nodes in a row that stand for one; the last has its name."""
    nodes, inputs = list[Node](), node.inputs
    for ending, op in chain:
        name = graph.fresh(f"{node.name}.{ending}") if ending else node.name
        nodes.append(Node(name, op, inputs))
        inputs = (name,)
    return nodes


def activate_early(graph: Graph) -> Graph:
    """Put activations before max-pools and transposes of sums, so that these move spikes.

    A maximum commutes with every non-decreasing function, ``f(max x) = max f(x)``, and a transpose with
    any function of single numbers; before it, channels are still on axis 1.
    """
    while (changed := _activate_one(graph)) is not graph:
        graph = changed
    return graph


def _activate_one(graph: Graph) -> Graph:
    """Swap one activation with the node before it; the same graph where there is none to swap."""
    for node in graph.nodes:
        mover = graph[node.inputs[0]] if isinstance(node.op, Activation) else node
        if not _commutes(mover.op) or graph.only_user(mover.name) is not node:
            continue
        if not isinstance(graph[mover.inputs[0]].op, Input | Fires | Moves):
            name = graph.fresh(f"{node.name}.early")
            early, late = Node(name, node.op, mover.inputs), Node(node.name, mover.op, (name,))
            graph = graph.substitute(node.name, early, late)
            return graph.with_nodes(n for n in graph.nodes if n.name != mover.name)
    return graph


def _commutes(op: Op) -> bool:
    """Whether an activation may come before the op, and is better off there."""
    return isinstance(op, Transpose) or (isinstance(op, Pools) and op.picks)


def join_transposes(graph: Graph) -> Graph:
    """Make one transpose of two in a row, and nothing of one that moves nothing."""
    for node in graph.nodes:
        if not isinstance(node.op, Transpose):
            continue
        order, (source,) = node.op.order, graph[node.name].inputs
        before = graph[source]
        if isinstance(before.op, Transpose):
            order = tuple(before.op.order[axis] for axis in order)
            (source,) = before.inputs
        if order == tuple(range(len(order))):
            graph = graph.rename(node.name, source)
        elif source != before.name:
            graph = graph.substitute(node.name, Node(node.name, Transpose(order), (source,)))
    return drop_dead(graph)


def settle_constants(graph: Graph) -> Graph:
    """Move what channels without weights say all the time into the biases behind them.

    Such a channel is its activation's value at its bias, whatever the input. The layers that read it
    get weights of zero for it, so it decides no scale and sends nothing. Where a value cannot be
    folded away, it stays.
    """
    for node in graph.nodes:
        if not isinstance(node.op, Activation) or node.name in graph.outputs:
            continue
        source = graph[node.inputs[0]]
        shift = _constants(source.op, node.op)
        if shift is None or graph.only_user(source.name) is not node:
            continue
        scale = graph.fresh(f"{node.name}.constants")
        wide = shift.reshape(-1, *[1] * (len(shapes(graph)[node.name]) - 1))
        behind = Node(scale, ScaleShift((wide == 0).double(), wide), (node.name,))
        silent = replace(source, op=_silenced(source.op, shift))
        own = {source.name: (silent,), node.name: (graph[node.name], behind)}
        trial = graph.with_nodes(
            new
            for old in graph.nodes
            for new in own.get(old.name, (_reading(old, node.name, scale),))
        )
        trial = fold_scales(trial)
        if _count_scales(trial) == _count_scales(graph):
            graph = trial
    return graph


def _reading(node: Node, old: str, new: str) -> Node:
    """The node with another name in place of one that it reads."""
    return replace(node, inputs=tuple(new if name == old else name for name in node.inputs))


def _constants(op: Op, activation: Activation) -> Tensor | None:
    """(channel,) the value of each channel that has no weights, 0 for all others; None if all are 0."""
    if not isinstance(op, Weighted) or op.bias is None or op.bias.dim() != 1:
        return None
    still = (op.weight == 0).flatten(1).all(1)
    values = torch.where(still, activation(op.bias.double()), 0.0)
    return values if bool((values != 0).any()) and not bool(still.all()) else None


def _silenced(op: Op, constants: Tensor) -> Op:
    assert isinstance(op, Weighted) and op.bias is not None
    return op.having(bias=torch.where(constants == 0, op.bias.double(), 0.0))


def _count_scales(graph: Graph) -> int:
    return sum(isinstance(node.op, ScaleShift) for node in graph.nodes)


def in_bodies(graph: Graph) -> Graph:
    """Bring the bodies of recurrent layers to canonical form."""
    return graph.map(_with_canonical_body)


def _with_canonical_body(node: Node) -> Node:
    op = node.op
    return replace(node, op=op.having(body=_passed(op.body))) if isinstance(op, Recurs) else node


def _passed(graph: Graph) -> Graph:
    for change in PASSES:
        graph = change(graph)
    return graph


PASSES: tuple[Pass, ...] = (
    in_bodies,
    drop_idle,
    drop_dead,
    open_scales,
    fold_scales,
    open_linears,
    activate_early,
    join_transposes,
    settle_constants,
)


def canonical(graph: Graph) -> Graph:
    """The graph after all passes, in the order of `PASSES`; its outputs are the same reals.

    Each pass keeps outputs within 1e-5 of their largest absolute value (tested).

    Raises
    ------
    GraphError
        If it is no float graph; names the nodes.
    """
    return _passed(require(graph, FLOAT))
