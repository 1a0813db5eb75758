"""Move constant scales and shifts (and so batch normalisation) into the weighted layers, exactly.

With ``y = gain * x + shift`` and a layer ``W``: after it, ``gain * (W x + b) + shift`` is a layer of
weight ``gain W`` and bias ``gain b + shift``; before it, ``W (gain x + shift) + b`` is one of weight
``W gain`` and bias ``W shift + b``, a map where zero padding hides the shift at the border.
"""

from dataclasses import replace

import torch
from torch import Tensor

from spikemorph.graph import Graph, Node, Op
from spikemorph.layers.affine import ScaleShift, per_channel
from spikemorph.layers.convolution import Convolution, bias_map
from spikemorph.layers.joining import Concat
from spikemorph.layers.linear import Linear
from spikemorph.layers.pooling import MaxPool, SumPool
from spikemorph.layers.shape import Reshape, Transpose

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
    gain = per_channel(scale.gain.double())
    if gain is None or (isinstance(op, Linear) and len(shape) != 1):
        return None
    weight = op.weight.double() * gain.reshape(-1, *[1] * (op.weight.dim() - 1))
    shift = scale.shift.double().expand(shape)
    if op.bias is not None:
        old = bias_map(op.bias.double(), len(shape) - 1)
        shift = old * gain.reshape(-1, *[1] * (len(shape) - 1)) + shift
    return replace(op, weight=weight, bias=_collapsed(shift.expand(shape)))


def before(op: Weighted, scale: ScaleShift, source: Shape) -> Weighted | None:
    """The layer with a scale and shift ahead of it folded in; None where that cannot be.

    `source` is one sample's shape ahead of the layer.
    """
    shift = op.products(scale.shift.double().expand(source)[None])[0]
    if isinstance(op, Linear):
        if len(source) != 1:
            return None
        weight = op.weight.double() * scale.gain.double().expand(source)
    else:
        gain = per_channel(scale.gain.double())
        if gain is None:
            return None
        inside = op.weight.shape[1]
        by_group = gain.expand(inside * op.groups).reshape(op.groups, 1, inside)
        by_row = by_group.expand(-1, len(op.weight) // op.groups, -1).reshape(-1, inside)
        weight = op.weight.double() * by_row.reshape(*by_row.shape, *[1] * op.axes)
    if op.bias is not None:
        axes = 0 if isinstance(op, Linear) else op.axes
        shift = shift + bias_map(op.bias.double(), axes)
    return replace(op, weight=weight, bias=_collapsed(shift))


def past(op: Op, scale: ScaleShift, source: Shape) -> ScaleShift | None:
    """What to apply after `op` instead of `scale` ahead of it; None where they do not commute."""
    full = [t.double().expand(source) for t in (scale.gain, scale.shift)]
    uniform = scale.gain.numel() == 1 and scale.shift.numel() == 1
    if isinstance(op, Reshape | Transpose):
        return scale if uniform else ScaleShift(*(op(t[None])[0] for t in full))
    gain = per_channel(scale.gain)
    if gain is None:
        return None
    if isinstance(op, MaxPool) and bool((gain > 0).all()) and per_channel(scale.shift) is not None:
        return scale
    if isinstance(op, SumPool):
        return ScaleShift(scale.gain.double(), _shrunk(op(full[1][None])[0]))
    return None


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
    """Fold or move one scale; the same graph where none can be."""
    for node in graph.nodes:
        if isinstance(node.op, ScaleShift):
            changed = (
                _merge(graph, node)
                or _fold_back(graph, node, shapes)
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


def _fold_ahead(graph: Graph, node: Node, shapes: Shapes) -> Graph | None:
    users, source = graph.users(node.name), node.inputs[0]
    if not users or node.name in graph.outputs:
        return None
    assert isinstance(node.op, ScaleShift)
    for user in users:
        op = before(user.op, node.op, shapes[source]) if isinstance(user.op, Weighted) else None
        if op is None:
            return None
        graph = graph.substitute(user.name, replace(user, op=op))
    return graph.rename(node.name, source)


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
