"""Move constant scales and shifts (and so batch normalisation) into the weighted layers, exactly.

With ``y = gain * x + shift`` and a layer ``W``: after it, ``gain * (W x + b) + shift`` is a layer
of weight ``gain W`` and bias ``gain b + shift``; before it, ``W (gain x + shift) + b`` is one of
weight ``W gain`` and bias ``W shift + b``, a map where zero padding hides the shift at the border.
"""

from dataclasses import replace

import torch
from torch import Tensor

from spikemorph.graph import Graph, Node, Op
from spikemorph.layers.affine import ScaleShift, per_channel
from spikemorph.layers.convolution import Convolution, bias_map, by_row
from spikemorph.layers.joining import Concat
from spikemorph.layers.linear import Linear
from spikemorph.layers.pooling import GlobalMax, MaxPool, SumPool
from spikemorph.layers.shape import Pad, Reshape, Transpose
from spikemorph.layers.slicing import Narrow

Shape = tuple[int, ...]
Shapes = dict[str, Shape]
Weighted = Convolution | Linear


def merged(first: ScaleShift, second: ScaleShift) -> ScaleShift:
    """One scale and shift that does what the two do in turn."""
    gain, shift = second.gain.double(), second.shift.double()
    return ScaleShift(first.gain.double() * gain, first.shift.double() * gain + shift)


def after(op: Weighted, scale: ScaleShift, shape: Shape) -> Weighted | None:
    """The layer with a scale and shift behind it folded in; None where the gain varies in space.

    `shape` is one sample's shape between the two.
    """
    if isinstance(op, Linear):
        gain, shift = _per_feature(scale.gain), _per_feature(scale.shift)
        if gain is None or shift is None:
            return None
        shift = shift if op.bias is None else op.bias.double() * gain + shift
        bias = shift.expand(shape[-1]).clone()
        return replace(op, weight=op.weight.double() * gain.reshape(-1, 1), bias=bias)
    gain = per_channel(scale.gain.double())
    if gain is None:
        return None
    weight = op.weight.double() * gain.reshape(-1, *[1] * (op.weight.dim() - 1))
    shift = scale.shift.double().expand(shape)
    if op.bias is not None:
        shift = bias_map(op.bias.double(), op.axes) * bias_map(gain, op.axes) + shift
    return replace(op, weight=weight, bias=_collapsed(shift.expand(shape)))


def before(op: Weighted, scale: ScaleShift, source: Shape) -> Weighted | None:
    """The layer with a scale and shift ahead of it folded in; None where that cannot be.

    `source` is one sample's shape ahead of the layer.
    """
    if isinstance(op, Linear):
        gain, shift = _per_feature(scale.gain), _per_feature(scale.shift)
        if gain is None or shift is None:
            return None
        bias = op.weight.double() @ shift.expand(source[-1])
        bias = bias if op.bias is None else bias + op.bias.double()
        return replace(op, weight=op.weight.double() * gain, bias=bias)
    gain = per_channel(scale.gain.double())
    if gain is None:
        return None
    rows = by_row(op, gain)
    shift = _convolved(op, scale.shift.double(), source)
    if op.bias is not None:
        shift = bias_map(shift, op.axes) + bias_map(op.bias.double(), op.axes)
    weight = op.weight.double() * rows.reshape(*rows.shape, *[1] * op.axes)
    return replace(op, weight=weight, bias=_collapsed(shift))


def _convolved(op: Convolution, shift: Tensor, source: Shape) -> Tensor:
    """What the layer makes of a shift: (out,) where no window meets padding, else a map."""
    by_channel = per_channel(shift)
    if by_channel is not None and not any(n for pair in op.padding for n in pair):
        return (op.weight.double().flatten(2).sum(2) * by_row(op, by_channel)).sum(1)
    return op.products(shift.expand(source)[None])[0]


def _per_feature(constant: Tensor) -> Tensor | None:
    """A constant that depends on the last axis at most, as (feature,) or (1,), float64."""
    last = constant.shape[-1] if constant.dim() else 1
    return constant.double().reshape(-1) if constant.numel() == last else None


def past(op: Op, scale: ScaleShift, source: Shape) -> ScaleShift | None:
    """What to apply after `op` instead of `scale` ahead of it; None where they do not commute."""
    if isinstance(op, Reshape | Transpose | Narrow):
        if scale.gain.dim() == scale.shift.dim() == 0:
            return scale
        gain, shift = (op(t.double().expand(source)[None])[0] for t in (scale.gain, scale.shift))
        return ScaleShift(gain, shift)
    if isinstance(op, MaxPool | GlobalMax):
        return scale if rises(scale) else None
    if isinstance(op, Pad) and len(op.padding) == len(source) and any(op.padding[0]):
        return None  # new channels have no gain
    if isinstance(op, SumPool | Pad) and per_channel(scale.gain) is not None:
        shift = op(scale.shift.double().expand(source)[None])[0]
        return ScaleShift(scale.gain.double(), _shrunk(shift))
    return None


def rises(scale: ScaleShift) -> bool:
    """Whether the scale is one line per channel that never falls, which commutes with a maximum."""
    gain, shift = per_channel(scale.gain), per_channel(scale.shift)
    return gain is not None and shift is not None and bool((gain >= 0).all())


def past_concat(
    index: int, op: Concat, scale: ScaleShift, shapes: list[Shape]
) -> ScaleShift | None:
    """As `past`, for a scale on one of the inputs of a concatenation along channels."""
    gain, shift = per_channel(scale.gain), per_channel(scale.shift)
    if op.axis != 1 or gain is None or shift is None:
        return None
    gains = [torch.ones(s[0], dtype=torch.float64) for s in shapes]
    shifts = [torch.zeros(s[0], dtype=torch.float64) for s in shapes]
    gains[index] = gain.double().expand(shapes[index][0])
    shifts[index] = shift.double().expand(shapes[index][0])
    wide = (-1, *[1] * (len(shapes[index]) - 1))
    return ScaleShift(torch.cat(gains).reshape(wide), torch.cat(shifts).reshape(wide))


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
    if not isinstance(source.op, Weighted) or graph.only_user(source.name) is not node:
        return None
    assert isinstance(node.op, ScaleShift)
    op = after(source.op, node.op, shapes[source.name])
    if op is None:
        return None
    return graph.substitute(source.name, replace(source, op=op)).rename(node.name, source.name)


def _move_back(graph: Graph, node: Node, shapes: Shapes) -> Graph | None:
    """Put a rising scale before a max-pool where it then folds into the layer before that."""
    pool = graph[node.inputs[0]]
    if not isinstance(pool.op, MaxPool | GlobalMax) or graph.only_user(pool.name) is not node:
        return None
    weighted = graph[pool.inputs[0]]
    alone = graph.only_user(weighted.name) is pool
    assert isinstance(node.op, ScaleShift)
    if not (alone and isinstance(weighted.op, Convolution) and rises(node.op)):
        return None
    early = graph.fresh(f"{node.name}.early")
    shapes[early] = shapes[weighted.name]
    moved = (Node(early, node.op, pool.inputs), replace(pool, inputs=(early,)))
    return graph.substitute(pool.name, *moved).rename(node.name, pool.name)


def _fold_ahead(graph: Graph, node: Node, shapes: Shapes) -> Graph | None:
    users, source = graph.users(node.name), node.inputs[0]
    if not users or node.name in graph.outputs:
        return None
    assert isinstance(node.op, ScaleShift)
    ops: dict[str, Op] = {}
    for user in users:
        op = before(user.op, node.op, shapes[source]) if isinstance(user.op, Weighted) else None
        if op is None:
            return None
        ops[user.name] = op
    return graph.map(lambda n: replace(n, op=ops.get(n.name, n.op))).rename(node.name, source)


def _move_ahead(graph: Graph, node: Node, shapes: Shapes) -> Graph | None:
    user, source = graph.only_user(node.name), node.inputs[0]
    if user is None:
        return None
    assert isinstance(node.op, ScaleShift)
    if isinstance(user.op, Concat):
        index, around = user.inputs.index(node.name), [shapes[i] for i in user.inputs]
        scale = past_concat(index, user.op, node.op, around)
    else:
        scale = past(user.op, node.op, shapes[source])
    if scale is None:
        return None
    inputs = tuple(source if i == node.name else i for i in user.inputs)
    bare = graph.fresh(f"{user.name}.unscaled")
    shapes[bare] = shapes[user.name]
    moved = (Node(bare, user.op, inputs), Node(user.name, scale, (bare,)))
    return graph.substitute(user.name, *moved).rename(node.name, source)


def _collapsed(bias: Tensor) -> Tensor:
    """A bias per channel where the map is the same everywhere, else the map."""
    flat = bias.reshape(len(bias), -1)
    same = bool((flat == flat[:, :1]).all())
    return flat[:, 0].clone() if same else bias.clone()


def _shrunk(shift: Tensor) -> Tensor:
    """A shift as one number per channel where it is the same everywhere, else as it is."""
    flat = shift.reshape(len(shift), -1)
    if bool((flat == flat[:, :1]).all()):
        return flat[:, 0].reshape(-1, *[1] * (shift.dim() - 1)).clone()
    return shift
