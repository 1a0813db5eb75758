"""Which channels are coupled, which are pinned and why; refusals; channels that are not needed."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from onnx import helper
from torch import Tensor

from spikemorph.convert import read_onnx
from spikemorph.graph import Graph, InputError, Op, run
from spikemorph.layers.activation import Clip, LeakyReLU, ReLU, Sigmoid, Tanh
from spikemorph.layers.affine import ScaleShift
from spikemorph.layers.convolution import Convolution
from spikemorph.layers.joining import Add, Concat
from spikemorph.layers.linear import Linear
from spikemorph.layers.normalisation import BatchNorm
from spikemorph.layers.pooling import MaxPool
from spikemorph.layers.readout import Softmax
from spikemorph.layers.shape import Pad, Reshape, Transpose
from spikemorph.layers.slicing import Narrow
from spikemorph.prune.channel_groups import couple_channels
from spikemorph.prune.channels import mask_channels, remove_channels
from spikemorph.prune.dead_channels import removable_dead_channels
from spikemorph.sources.models import load_graph

Chain = Callable[..., Graph]
ONE, NONE, ROUND = (1, 1), ((0, 0), (0, 0)), ((1, 1), (1, 1))


def weights(*shape: int) -> Tensor:
    """Random weights, none of them zero."""
    drawn = torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))
    return drawn + 0.1 * drawn.sign()


def conv(outputs: int, inputs: int, size: int = 1, groups: int = 1) -> Convolution:
    weight = weights(outputs, inputs // groups, size, size)
    return Convolution(weight, weights(outputs), ONE, NONE, ONE, groups)


def linear(outputs: int, inputs: int) -> Linear:
    return Linear(weights(outputs, inputs), weights(outputs))


def free(graph: Graph) -> list[dict[str, tuple[int, ...]]]:
    """The groups that can be removed."""
    return [dict(g.members) for g in couple_channels(graph).groups if g.pinned is None]


def ones(count: int) -> Tensor:
    return torch.ones(count)


SHUFFLE = (Reshape((2, 3, 4, 4)), Transpose((0, 2, 1, 3, 4)), Reshape((6, 4, 4)))
FLAT = Reshape((6 * 16,))
CASES: dict[str, tuple[list[Any], list[dict[str, tuple[int, ...]]]]] = {
    "chain": (
        [conv(2, 2), ReLU(), conv(2, 2), Reshape((32,)), linear(3, 32)],
        [{"n0": (0,)}, {"n0": (1,)}, {"n2": (0,)}, {"n2": (1,)}],
    ),
    "sum": (
        [conv(2, 2), ReLU(), conv(2, 2), (Add((ones(1)[0], ones(1)[0])), "n1", "n2"),
         Reshape((32,)), linear(3, 32)],
        [{"n0": (0,), "n2": (0,)}, {"n0": (1,), "n2": (1,)}],
    ),
    "sum with the input": (
        [conv(2, 2), ReLU(), conv(2, 2), (Add((ones(1)[0], ones(1)[0])), "x", "n2"),
         Reshape((32,)), linear(3, 32)],
        [{"n0": (0,)}, {"n0": (1,)}],
    ),
    "concatenation in the other order, part of it summed": (
        [conv(1, 2), (conv(2, 2), "x"), (Concat(1), "n1", "n0"), Narrow(1, 1, 2),
         (Add((ones(1)[0], ones(1)[0])), "n3", "n1"), (Concat(1), "n4", "n0"),
         Reshape((48,)), linear(3, 48)],
        [{"n0": (0,), "n1": (0, 1)}],
    ),
    "depthwise that doubles": (
        [conv(2, 2), conv(4, 2, 3, groups=2), Reshape((16,)), linear(3, 16)],
        [{"n0": (0,), "n1": (0, 1)}, {"n0": (1,), "n1": (2, 3)}],
    ),
    "two groups": (
        [conv(4, 2), conv(2, 4, groups=2), Reshape((32,)), linear(3, 32)],
        [{"n0": (0, 1), "n1": (0,)}, {"n0": (2, 3), "n1": (1,)}],
    ),
    "shuffle": (  # 0 1 2 | 3 4 5 becomes 0 3 1 4 2 5; the two rows of the middle shape go together
        [conv(6, 2), *SHUFFLE, FLAT, linear(3, 96)],
        [{"n0": (0, 3)}, {"n0": (1, 4)}, {"n0": (2, 5)}],
    ),
    "norm over positions": (  # the norm's channels are positions: each holds all channels
        [conv(2, 2), Transpose((0, 2, 3, 1)), BatchNorm(ones(4), ones(4), ones(4), ones(4), 0.1),
         Reshape((32,)), linear(3, 32)],
        [{"n0": (0, 1)}],
    ),
    "zeros beside channels": (
        [conv(3, 2), (conv(1, 2), "x"), Pad(((1, 1), (0, 0), (0, 0))),
         (Add((ones(1)[0], ones(1)[0])), "n0", "n2"), Reshape((48,)), linear(3, 48)],
        [{"n0": (0,)}, {"n0": (1,), "n1": (0,)}, {"n0": (2,)}],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_groups(chain: Chain, case: str) -> None:
    """Worked out by hand: which channels stand or fall together, in a net of two 4x4 inputs."""
    steps, want = CASES[case]
    got = free(chain((2, 4, 4), *steps))
    assert sorted(got, key=str) == sorted(want, key=str)


def test_one_tensor_in_two_layers_is_cut_once(chain: Chain) -> None:
    """Called twice, each channel of the layer is at once made, read, and made again."""
    twice = conv(2, 2)
    graph = chain((2, 4, 4), conv(2, 2), twice, ReLU(), twice, Reshape((32,)), linear(3, 32))
    assert free(graph) == [{"n0": (k,), "n1": (k,), "n3": (k,)} for k in (0, 1)]


@pytest.mark.parametrize(
    ("op", "reason"),
    [
        (Sigmoid(), r"node 'n1' \(Sigmoid\): it makes 0.5 of zero"),
        (Clip(1.0, 2.0), r"node 'n1' \(Clip\): it makes 1 of zero"),
        (Softmax(1), r"node 'n1' \(Softmax\): its channels cannot be followed"),
        (Tanh(), None),
        (LeakyReLU(0.1), None),
        (Clip(-1.0, 2.0), None),
        (MaxPool((2, 2), (2, 2), ROUND, ONE), None),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_does_not_keep_zero_pins(chain: Chain, op: Op, reason: str | None) -> None:
    size = 9 if isinstance(op, MaxPool) else 16
    graph = chain((2, 4, 4), conv(3, 2), op, Reshape((3 * size,)), linear(3, 3 * size))
    if reason is None:
        assert len(free(graph)) == 3
        return
    assert free(graph) == []
    for edit in (mask_channels, remove_channels):
        with pytest.raises(
            InputError, match=f"channel 1 of layer 'n0' cannot be removed: {reason}"
        ):
            edit(graph, {"n0": (1,)})


def test_a_pin_holds_for_all_that_is_coupled(chain: Chain) -> None:
    """n1 is pinned by the sigmoid behind it before the sum couples n0 to it."""
    graph = chain(
        (2, 4, 4), conv(2, 2), (conv(2, 2), "x"), Sigmoid(),
        (Add((ones(1)[0], ones(1)[0])), "n0", "n1"), (Concat(1), "n2", "n3"), Reshape((64,)),
        linear(3, 64),
    )  # fmt: skip
    with pytest.raises(InputError, match=r"'n0' cannot be removed: node 'n2' \(Sigmoid\)"):
        remove_channels(graph, {"n0": (0,)})


@pytest.mark.parametrize(
    ("removed", "message"),
    [
        ({"head": (0,)}, "channel 0 of layer 'head' .* 'head' is an output of the network"),
        ({"conv1": (16,)}, "layer 'conv1' has no channel 16; it has 0 to 15"),
        ({"conv1": (-1,)}, "layer 'conv1' has no channel -1"),
        ({"norm1": (0,)}, "node 'norm1' is no convolution or linear layer"),
        ({"missing": (0,)}, "node 'missing' is no convolution or linear layer"),
        ({"conv2": range(24)}, "layer 'conv2' would lose all its channels .*keep at least one"),
    ],
)
def test_refusals(removed: dict[str, Any], message: str) -> None:
    graph = load_graph("zoo:digits_cnn").graph
    for edit in (mask_channels, remove_channels):
        with pytest.raises(InputError, match=message):
            edit(graph, removed)


def test_inputs_are_never_removed(chain: Chain) -> None:
    """A depthwise layer on the input is coupled to it."""
    graph = chain((2, 4, 4), conv(2, 2, groups=2), conv(3, 2), Reshape((48,)), linear(3, 48))
    assert free(graph) == [{"n1": (k,)} for k in range(3)]
    with pytest.raises(InputError, match="'n0' cannot be removed: node 'x' is an input"):
        remove_channels(graph, {"n0": (0,)})


def test_a_part_of_which_nothing_is_left_is_refused(chain: Chain) -> None:
    """The layer would keep channel 2, but its first part, channels 0 and 1, would be empty."""
    graph = chain(
        (2, 4, 4), conv(3, 2), Narrow(1, 0, 2), (Narrow(1, 2, 1), "n0"), Reshape((16,)),
        linear(3, 16), (Reshape((32,)), "n1"), linear(3, 32), (Concat(1), "n4", "n6"),
    )  # fmt: skip
    with pytest.raises(InputError, match=r"'n0' would lose all its channels \(at 'n1'\)"):
        remove_channels(graph, {"n0": (0, 1)})


def test_onnx_without_batch_norm(write_onnx: Callable[..., Path]) -> None:
    """Convolution, addition of a constant, pool, flatten, Gemm: as a file gives them."""
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["a", "shift"], ["b"]),
        helper.make_node("Relu", ["b"], ["c"]),
        helper.make_node("MaxPool", ["c"], ["d"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Flatten", ["d"], ["e"]),
        helper.make_node("Gemm", ["e", "v", "bias"], ["y"], transB=1),
    ]
    stored = {"w": weights(4, 2, 3, 3), "shift": weights(4, 1, 1) + 1, "v": weights(3, 16),
              "bias": weights(3)}  # fmt: skip
    tensors = {name: tensor.numpy() for name, tensor in stored.items()}
    graph = read_onnx(write_onnx(nodes, (1, 2, 4, 4), tensors))
    (name, *_) = [node.name for node in graph.nodes if isinstance(node.op, Convolution)]
    x = weights(5, 2, 4, 4)
    small = remove_channels(graph, {name: (0, 2)})
    want = run(mask_channels(graph, {name: (0, 2)}), x)
    assert float((run(small, x) - want).abs().max()) <= 1e-5 * float(want.abs().max())
    sizes = [t.numel() for n in small.nodes for t in vars(n.op).values() if isinstance(t, Tensor)]
    assert sum(sizes) < sum(t.numel() for t in stored.values()) * 0.6


def silenced(op: Convolution | Linear, *rows: int, bias: float = 0.0) -> Convolution | Linear:
    """The layer with no weight to these rows, which have this bias."""
    weight, constant = op.weight.clone(), op.bias
    assert constant is not None
    weight[list(rows)] = 0
    constant = constant.clone()
    constant[list(rows)] = bias
    return type(op)(weight, constant, *list(vars(op).values())[2:])


def unread(op: Convolution | Linear, *columns: int) -> Convolution | Linear:
    """The layer with no weight from these columns."""
    weight = op.weight.clone()
    weight[:, list(columns)] = 0
    return type(op)(weight, *list(vars(op).values())[1:])


def test_dead_channels_by_hand(chain: Chain) -> None:
    """n0: channel 0 is zero, 1 is -1 before the ReLU, 2 is +1 and lives, 3 is read by no weight."""
    first = silenced(silenced(silenced(conv(5, 2), 0), 1, bias=-1.0), 2, bias=1.0)
    graph = chain((2, 4, 4), first, ReLU(), unread(conv(3, 5), 3), Reshape((48,)), linear(3, 48))
    assert removable_dead_channels(graph) == {"n0": (0, 1, 3)}


def test_death_spreads_both_ways(chain: Chain) -> None:
    """n4 reads only zeros in row 1, so it is dead too; n0's channel 2 is read by a dead row only."""
    first, second = silenced(conv(3, 2), 0), conv(3, 3).weight.clone()
    second[1] = torch.tensor([1.0, 0.0, 0.0])[:, None, None]
    second[:, 2] = 0
    second[2, 2] = 1.0
    norm = BatchNorm(*(torch.zeros(3), torch.ones(3), torch.ones(3), torch.zeros(3)), 0.0)
    middle = Convolution(second, None, ONE, NONE, ONE)
    last = unread(linear(3, 48), *range(32, 48))
    steps = [first, norm, MaxPool((1, 1), ONE, NONE, ONE), ReLU(), middle, Reshape((48,)), last]
    graph = chain((2, 4, 4), *steps)
    assert removable_dead_channels(graph) == {"n0": (0, 2), "n4": (1, 2)}
    x = weights(3, 2, 4, 4).round()
    small = remove_channels(graph, removable_dead_channels(graph))
    torch.testing.assert_close(run(small, x), run(graph, x), rtol=1e-6, atol=1e-6)


def test_a_dead_layer_keeps_one_channel(chain: Chain) -> None:
    graph = chain((2, 4, 4), silenced(conv(3, 2), 0, 1, 2), ReLU(), Reshape((48,)), linear(3, 48))
    assert removable_dead_channels(graph) == {"n0": (1, 2)}


def test_coupled_channels_are_dead_together_or_not_at_all(chain: Chain) -> None:
    """Channel 0 is dead in both branches of a sum, channel 1 in one only."""
    left, right = silenced(conv(3, 2), 0, 1), silenced(conv(3, 2), 0)
    graph = chain(
        (2, 4, 4), left, (right, "x"), (Add((ones(1)[0], ones(1)[0])), "n0", "n1"), ReLU(),
        Reshape((48,)), linear(3, 48),
    )  # fmt: skip
    assert removable_dead_channels(graph) == {"n0": (0,), "n1": (0,)}


def test_a_shift_brings_a_dead_channel_back(chain: Chain) -> None:
    """Zero plus one is read; zero minus one is not, behind a ReLU."""
    shift = ScaleShift(torch.tensor(1.0), torch.tensor([1.0, -1.0, 0.0]).reshape(3, 1, 1))
    first = silenced(conv(3, 2), 0, 1)
    graph = chain((2, 4, 4), first, shift, ReLU(), Reshape((48,)), linear(3, 48))
    assert removable_dead_channels(graph) == {"n0": (1,)}


def test_a_gain_of_zero_kills_a_channel(chain: Chain) -> None:
    """Gain 0 leaves the shift: -1 does not pass the ReLU, +1 does."""
    gain, shift = torch.tensor([0.0, 0.0, 1.0]), torch.tensor([-1.0, 1.0, -1.0])
    wide = [t.reshape(3, 1, 1) for t in (gain, shift)]
    for op in (BatchNorm(torch.zeros(3), torch.ones(3), gain, shift, 0.1), ScaleShift(*wide)):
        graph = chain((2, 4, 4), conv(3, 2), op, ReLU(), Reshape((48,)), linear(3, 48))
        assert removable_dead_channels(graph) == {"n0": (0,)}


def test_a_dead_channel_dies_through_a_depthwise_layer(chain: Chain) -> None:
    """Channel 0 is zero into and out of the depthwise layer, 1 only into it, 2 only out of it."""
    deep = silenced(conv(3, 3, groups=3), 0, 2)
    graph = chain((2, 4, 4), silenced(conv(3, 2), 0, 1), deep, Reshape((48,)), linear(3, 48))
    assert removable_dead_channels(graph) == {"n0": (0, 2), "n1": (0, 2)}


def test_a_trained_network_has_dead_channels_once_its_weights_are_pruned() -> None:
    """1.5 % of the weights kept: the network without its dead channels has the same outputs."""
    model = load_graph("zoo:digits_cnn")
    graph = model.graph

    def pruned(op: Any) -> Any:
        if not isinstance(op, Convolution | Linear):
            return op
        bound = op.weight.abs().flatten().quantile(0.985)
        kept = torch.where(op.weight.abs() > bound, op.weight, 0.0)
        return type(op)(kept, *list(vars(op).values())[1:])

    graph = graph.map(lambda node: type(node)(node.name, pruned(node.op), node.inputs))
    dead = removable_dead_channels(graph)
    assert sum(len(channels) for channels in dead.values()) >= 5
    x = torch.rand(8, *model.input_shape, generator=torch.Generator().manual_seed(0))
    want = run(graph, x)
    small = run(remove_channels(graph, dead), x)
    assert float((small - want).abs().max()) <= 1e-5 * float(want.abs().max())
