"""Move constant scales and shifts (and so batch normalisation) into the weighted layers, exactly.

With ``y = gain * x + shift`` and a layer ``W``: after it, ``gain * (W x + b) + shift`` is a layer
of weight ``gain W`` and bias ``gain b + shift``; before it, ``W (gain x + shift) + b`` is one of
weight ``W gain`` and bias ``W shift + b``, a map where zero padding hides the shift at the border.
"""

from dataclasses import replace

from spikemorph.graph import Graph, Node, Op
from spikemorph.graph.tables import hands_scale_on, takes_scale_ahead, takes_scale_behind
from spikemorph.graph.traits import Pools, Shape, Weighted
from spikemorph.layers.affine import ScaleShift, rises

Shapes = dict[str, Shape]


def merged(first: ScaleShift, second: ScaleShift) -> ScaleShift:
    """One scale and shift that does what the two do in turn."""
    gain, shift = second.gain.double(), second.shift.double()
    return ScaleShift(first.gain.double() * gain, first.shift.double() * gain + shift)


def fold_once(graph: Graph, shapes: Shapes) -> Graph:
    """Fold or move one scale; the same graph where none can be.

    `shapes` has every node's shape; shapes of new nodes are added, and no other one changes.
    """
    for node in graph.nodes:
        if isinstance(node.op, ScaleShift):
            changed = (
                _merge(graph, node)
                or _fold_back(graph, node, shapes)
                or _move_back(graph, node, shapes)
                or _fold_ahead(graph, node, shapes)
                or _move_ahead(graph, node, shapes)
            )
            if changed is not None:
                return changed
    return graph


def _merge(graph: Graph, node: Node) -> Graph | None:
    source = graph[node.inputs[0]]
    if not isinstance(source.op, ScaleShift) or graph.only_user(source.name) is not node:
        return None
    assert isinstance(node.op, ScaleShift)
    both = Node(node.name, merged(source.op, node.op), source.inputs)
    return graph.substitute(node.name, both).rename(source.name, node.name)


def _fold_back(graph: Graph, node: Node, shapes: Shapes) -> Graph | None:
    source = graph[node.inputs[0]]
    if type(source.op) not in takes_scale_behind or graph.only_user(source.name) is not node:
        return None
    op = takes_scale_behind[type(source.op)](source.op, node.op, shapes[source.name])
    if op is None:
        return None
    return graph.substitute(source.name, replace(source, op=op)).rename(node.name, source.name)


def _move_back(graph: Graph, node: Node, shapes: Shapes) -> Graph | None:
    """Put a rising scale before a max-pool where it then folds into the layer before that."""
    pool = graph[node.inputs[0]]
    picks = isinstance(pool.op, Pools) and pool.op.picks
    if not picks or graph.only_user(pool.name) is not node:
        return None
    weighted = graph[pool.inputs[0]]
    alone = graph.only_user(weighted.name) is pool
    assert isinstance(node.op, ScaleShift)
    by_channel = isinstance(weighted.op, Weighted) and weighted.op.reads == 0
    if not (alone and by_channel and rises(node.op)):
        return None
    early = graph.fresh(f"{node.name}.early")
    shapes[early] = shapes[weighted.name]
    moved = (Node(early, node.op, pool.inputs), replace(pool, inputs=(early,)))
    return graph.substitute(pool.name, *moved).rename(node.name, pool.name)


def _fold_ahead(graph: Graph, node: Node, shapes: Shapes) -> Graph | None:
    users, source = graph.users(node.name), node.inputs[0]
    if not users or node.name in graph.outputs:
        return None
    ops: dict[str, Op] = {}
    for user in users:
        row = takes_scale_ahead.get(type(user.op))
        op = None if row is None else row(user.op, node.op, shapes[source])
        if op is None:
            return None
        ops[user.name] = op
    return graph.map(lambda n: replace(n, op=ops.get(n.name, n.op))).rename(node.name, source)


def _move_ahead(graph: Graph, node: Node, shapes: Shapes) -> Graph | None:
    user, source = graph.only_user(node.name), node.inputs[0]
    if user is None or type(user.op) not in hands_scale_on:
        return None
    around = [shapes[name] for name in user.inputs]
    index = user.inputs.index(node.name)
    scale = hands_scale_on[type(user.op)](user.op, node.op, around, index)
    if scale is None:
        return None
    inputs = tuple(source if i == node.name else i for i in user.inputs)
    bare = graph.fresh(f"{user.name}.unscaled")
    shapes[bare] = shapes[user.name]
    moved = (Node(bare, user.op, inputs), Node(user.name, scale, (bare,)))
    return graph.substitute(user.name, *moved).rename(node.name, source)
