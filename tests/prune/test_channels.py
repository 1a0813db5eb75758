"""Channel removal: the smaller network computes what the masked one does, for any choice of channels."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from spikemorph.conversion import convert_graph
from spikemorph.convert import read_torch
from spikemorph.graph import Graph, InputError, Node, run
from spikemorph.graph.grid import Grid
from spikemorph.graph.interpret import on_reals, run_integers, walk
from spikemorph.layers.masks import broken_masks, masks_of, weight_of, weighted_nodes, with_masks
from spikemorph.layers.normalisation import BatchNorm
from spikemorph.prune.channel_choice import FilterNorm, channel_scores, choose_channels
from spikemorph.prune.channel_groups import Coupling, couple_channels
from spikemorph.prune.channels import mask_channels, remove_channels
from spikemorph.quant import Quantisation
from spikemorph.sources.models import load_graph
from spikemorph.spiking import DenseEngine
from spikemorph.zoo import load_data

Forward = Callable[[Any, Tensor], Tensor]
SHAPE = (2, 8, 8)


class Net(nn.Module):
    """Layers by name and a forward function over them."""

    def __init__(self, forward: Forward, **layers: nn.Module) -> None:
        super().__init__()
        self.compute = forward
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, x: Tensor) -> Tensor:
        return self.compute(self, x)


def conv(inputs: int, outputs: int, size: int = 3, **options: Any) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, size, padding=size // 2, **options)


def vgg() -> nn.Module:
    return nn.Sequential(
        conv(2, 4), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), conv(4, 6), nn.BatchNorm2d(6),
        nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(24, 8), nn.ReLU(), nn.Linear(8, 3),
    )  # fmt: skip


def residual() -> nn.Module:
    """A block with a projection, then one without, then a global average."""

    def forward(m: Any, x: Tensor) -> Tensor:
        y = torch.relu(m.bn(m.a(torch.relu(m.stem(x)))))
        y = torch.relu(m.b(y) + m.short(torch.relu(m.stem(x))))
        y = torch.relu(y + m.bn2(m.d(torch.relu(m.c(y)))))
        out: Tensor = m.head(y.mean((2, 3)))
        return out

    return Net(
        forward, stem=conv(2, 3), a=conv(3, 5, stride=2), bn=nn.BatchNorm2d(5), b=conv(5, 4),
        short=conv(3, 4, 1, stride=2), c=conv(4, 3), d=conv(3, 4), bn2=nn.BatchNorm2d(4),
        head=nn.Linear(4, 3),
    )  # fmt: skip


def dense_blocks() -> nn.Module:
    """Every layer reads all before it; norms stand on concatenations."""

    def forward(m: Any, x: Tensor) -> Tensor:
        y = m.stem(x)
        y = torch.cat([y, m.a(torch.relu(m.bn1(y)))], 1)
        y = torch.cat([m.b(torch.relu(m.bn2(y))), y], 1)
        out: Tensor = m.head(torch.relu(m.bn3(y)).flatten(1))
        return out

    return Net(
        forward, stem=conv(2, 3), bn1=nn.BatchNorm2d(3), a=conv(3, 2), bn2=nn.BatchNorm2d(5),
        b=conv(5, 3), bn3=nn.BatchNorm2d(8), head=nn.Linear(8 * 64, 3),
    )  # fmt: skip


def grouped() -> nn.Module:
    """A depthwise convolution that doubles, a pointwise one, a grouped one."""
    return nn.Sequential(
        conv(2, 4), nn.ReLU(), conv(4, 8, groups=4), nn.BatchNorm2d(8), nn.ReLU6(), conv(8, 6, 1),
        nn.LeakyReLU(0.25), conv(6, 9, groups=3, bias=False), nn.Hardtanh(-4, 4), nn.AdaptiveMaxPool2d(1),
        nn.Flatten(), nn.Linear(9, 3),
    )  # fmt: skip


def joined() -> nn.Module:
    """A residual sum that a concatenation reads, then parts of it, swapped."""

    def forward(m: Any, x: Tensor) -> Tensor:
        y = torch.relu(m.a(x))
        y = torch.cat([y - 2 * m.b(y), m.c(x)], 1)
        left, right = torch.relu(y).split([3, 4], 1)
        y = torch.cat([right, m.d(left)], 1)
        out: Tensor = m.head(nn.functional.max_pool2d(y, 4).flatten(1))
        return out

    return Net(
        forward, a=conv(2, 4), b=conv(4, 4), c=conv(2, 3), d=conv(3, 2), head=nn.Linear(24, 3)
    )


def shared() -> nn.Module:
    """One convolution and one norm, called twice."""

    def forward(m: Any, x: Tensor) -> Tensor:
        y = torch.relu(m.stem(x))
        y = torch.relu(m.bn(m.twice(y)))
        y = torch.relu(m.bn(m.twice(y)))
        out: Tensor = m.head(m.last(y).mean((2, 3)))
        return out

    return Net(
        forward, stem=conv(2, 4), twice=conv(4, 4), bn=nn.BatchNorm2d(4), last=conv(4, 5),
        head=nn.Linear(5, 3),
    )  # fmt: skip


def padded() -> nn.Module:
    """A shortcut that fills up with zero channels; padding of positions; constants by channel."""

    def forward(m: Any, x: Tensor) -> Tensor:
        y = torch.relu(m.a(x) * m.gain.weight.reshape(1, 3, 1, 1) + 2)
        wide = nn.functional.pad(y, (0, 0, 0, 0, 1, 2))
        y = torch.relu(m.b(nn.functional.pad(y, (1, 1))[..., 1:-1]) + wide)
        out: Tensor = m.head(nn.functional.avg_pool2d(y, 2, padding=1).flatten(1))
        return out

    return Net(forward, a=conv(2, 3), gain=nn.Linear(3, 1), b=conv(3, 6), head=nn.Linear(6 * 25, 3))


def shuffled() -> nn.Module:
    """Channels dealt out to other groups, as in ShuffleNet, and features last, as in a mixer."""

    def forward(m: Any, x: Tensor) -> Tensor:
        y = torch.relu(m.a(x)).reshape(-1, 2, 3, 8, 8).transpose(1, 2).reshape(-1, 6, 8, 8)
        y = torch.relu(m.b(y)).flatten(2).transpose(1, 2)
        y = torch.relu(m.mix(y)).mean((1,)) if m.averages else torch.relu(m.mix(y)).flatten(1)
        out: Tensor = m.head(y)
        return out

    net = Net(forward, a=conv(2, 6), b=conv(6, 4), mix=nn.Linear(4, 5), head=nn.Linear(5 * 64, 3))
    net.averages = False
    return net


NETS = (vgg, residual, dense_blocks, grouped, joined, shared, padded, shuffled)
each_net = pytest.mark.parametrize("build", NETS, ids=lambda build: build.__name__)


@cache
def read(build: Callable[[], nn.Module]) -> Graph:
    """The net with random weights and statistics; none of its channels is dead."""
    generator = torch.Generator().manual_seed(5)
    module = build()
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point():
            tensor.normal_(generator=generator)
            if name.endswith("running_var"):
                tensor.abs_().add_(0.5)
    return read_torch(module, torch.zeros(1, *SHAPE))


def in_whole_numbers(graph: Graph) -> Graph:
    """The graph with small whole numbers for weights and a norm that does not round."""

    def rounded(node: Node) -> Node:
        op = node.op
        if isinstance(op, BatchNorm):
            one = torch.ones_like(op.mean)
            op = BatchNorm(op.mean.round(), one, op.gain.sign(), op.shift.round(), 0.0)
        changed = {
            key: value.mul(1.5).round()
            for key, value in vars(op).items()
            if isinstance(value, Tensor) and value.is_floating_point() and key != "variance"
        }
        return replace(node, op=replace(op, **changed))

    shared: dict[int, Any] = {}
    return graph.map(
        lambda node: replace(
            node, op=shared.setdefault(id(getattr(node.op, "weight", node)), rounded(node).op)
        )
    )


def samples(seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-3, 4, (3, *SHAPE), generator=generator).double()


def choice(draw: st.DrawFn, coupling: Coupling) -> dict[str, tuple[int, ...]]:
    """Any channel groups, as long as every node keeps a channel."""
    free = [k for k, g in enumerate(coupling.groups) if g.pinned is None and g.members]
    wanted = draw(st.lists(st.sampled_from(free), unique=True, max_size=len(free)))
    chosen: list[int] = []
    for group in wanted:
        if not coupling.emptied([*chosen, group]):
            chosen.append(group)
    return coupling.channels_of(chosen)


@each_net
@settings(deadline=None, max_examples=25)
@given(data=st.data())
def test_removed_equals_masked(build: Callable[[], nn.Module], data: st.DataObject) -> None:
    """Equal to 1e-5 of the largest output; bit by bit where no sum rounds."""
    graph, x = read(build), samples()
    removed = choice(data.draw, couple_channels(graph))
    got, want = (run(f(graph, removed), x) for f in (remove_channels, mask_channels))
    assert float((got - want).abs().max()) <= 1e-5 * float(want.abs().max())
    whole = in_whole_numbers(graph)
    removed = choice(data.draw, couple_channels(whole))
    assert torch.equal(
        run(remove_channels(whole, removed), x), run(mask_channels(whole, removed), x)
    )


@each_net
@settings(deadline=None, max_examples=10)
@given(data=st.data())
def test_removed_channels_are_zero_in_the_masked_network(
    build: Callable[[], nn.Module], data: st.DataObject
) -> None:
    """Exactly, at every node that carries them, for an input that leaves none of the others zero."""
    graph = read(build)
    coupling = couple_channels(graph)
    removed = choice(data.draw, coupling)
    kept = coupling.kept(coupling.resolve(removed))
    for node, output in walk(mask_channels(graph, removed), samples(), on_reals):
        gone = ~kept[coupling.outputs[node.name].everywhere()]
        assert bool((output[:, gone] == 0).all()), node.name
    for name, mask in masks_of(mask_channels(graph, removed)).items():
        rows = mask.flatten(1).any(1)
        assert (~rows).nonzero()[:, 0].tolist() == list(removed.get(name, ())), name


@each_net
@settings(deadline=None, max_examples=10)
@given(data=st.data())
def test_removal_takes_what_masking_hides(
    build: Callable[[], nn.Module], data: st.DataObject
) -> None:
    """Kept weights are as many, with the graph's own masks too, in the same order; names stay."""
    graph = read(build)
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 9)))
    earlier = {
        node.name: torch.rand(weight_of(node).shape, generator=generator) < 0.6
        for node in weighted_nodes(graph)[1:]
    }
    for start, masks in ((graph, {}), (with_masks(graph, earlier), earlier)):
        removed = choice(data.draw, couple_channels(start))
        masked, small = mask_channels(start, removed), remove_channels(start, removed)
        assert not broken_masks(masked) and not broken_masks(small)
        assert [n.name for n in small.nodes] == [n.name for n in graph.nodes]
        for node in weighted_nodes(small):
            hidden, weight = masks_of(masked).get(node.name), weight_of(node)
            hidden = torch.ones_like(weight_of(masked[node.name])) if hidden is None else hidden
            if (left := masks_of(small).get(node.name)) is None:
                assert node.name not in masks
                assert int(hidden.sum()) == weight.numel()
                left = torch.ones_like(weight, dtype=torch.bool)
            assert torch.equal(weight[left], weight_of(masked[node.name])[hidden.bool()])


def test_a_shared_layer_is_still_shared() -> None:
    graph = read(shared)
    small = remove_channels(graph, {"twice": (1,)})
    first, second = (n for n in weighted_nodes(small) if n.name.startswith("twice"))
    assert weight_of(first) is weight_of(second)
    assert weight_of(first).shape == (3, 3, 3, 3)


@each_net
def test_nothing_removed_changes_nothing(build: Callable[[], nn.Module]) -> None:
    graph = read(build)
    for edit in (mask_channels, remove_channels):
        assert edit(graph, {"head": ()} if "head" in graph else {}).nodes == graph.nodes


def test_flattened_channels_go_by_blocks_of_columns() -> None:
    """Channel 1 of 6, seen at 2x2 positions: columns 4 to 7 of the linear layer."""
    graph = read(vgg)
    small = remove_channels(graph, {"4": (1,)})
    want = weight_of(graph["9"])
    assert torch.equal(weight_of(small["9"]), torch.cat([want[:, :4], want[:, 8:]], 1))
    assert torch.equal(weight_of(small["4"]), weight_of(graph["4"])[[0, 2, 3, 4, 5]])


def test_a_layer_vanishes_where_only_a_concatenation_reads_it() -> None:
    """Allowed, it goes with all that only it read; unasked, or read by another layer, it is refused."""
    graph, x = read(dense_blocks), samples()
    everything = {"a": (0, 1)}
    with pytest.raises(InputError, match="'a' would lose all its channels"):
        remove_channels(graph, everything)
    small = remove_channels(graph, everything, whole=True)
    gone = {node.name for node in graph.nodes} - {node.name for node in small.nodes}
    assert {"a", "bn1"} <= gone and "stem" in small
    assert len(weight_of(small["b"])) == 3 and weight_of(small["b"]).shape[1] == 3
    want = run(mask_channels(graph, everything, whole=True), x)
    assert float((run(small, x) - want).abs().max()) <= 1e-5 * float(want.abs().max())
    for edit in (mask_channels, remove_channels):
        with pytest.raises(InputError, match="'stem' would lose .*'a' .* reads nothing else"):
            edit(graph, {"stem": (0, 1, 2)}, whole=True)


@pytest.mark.parametrize("name", ["digits_resnet", "digits_cnn"])
def test_the_smaller_network_converts_with_certificate(name: str) -> None:
    """Level A, and all spiking logits are the integer network's; it is the smaller one that runs."""
    model = load_graph(f"zoo:{name}")
    coupling = couple_channels(model.graph)
    removed = choose_channels(coupling, channel_scores(coupling, FilterNorm()), 0.5)
    images = load_data("digits:test").values()
    small = remove_channels(model.graph, removed)
    made = convert_graph(small, images[64:192], grid=Grid.of(0.0, 1.0), quantisation=Quantisation())
    assert made.certificate.level == "A", made.certificate.refusals
    steps = made.certificate.steps_required
    assert steps is not None
    spiking = DenseEngine(made.network).run(images[:64], steps).outputs[-1]
    wanted = run_integers(made.network.graph, made.network.grid.to_integers(images[:64]))
    assert int((spiking != wanted).sum()) == 0
    for node in weighted_nodes(made.network.graph):
        assert len(weight_of(node)) == len(weight_of(model.graph[node.name])) - len(
            removed.get(node.name, ())
        )
