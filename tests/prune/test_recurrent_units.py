"""Units of recurrent layers are removed from all gates, registers and readers at once."""

from collections.abc import Callable

import pytest
import torch
from helpers import draw
from recurring import CELLS, GRID, around, drawn_cell, jumping
from torch import Tensor, nn

from spikemorph import convert_graph
from spikemorph.convert import read_torch
from spikemorph.graph import Graph, InputError, Node
from spikemorph.graph.interpret import run, shapes
from spikemorph.graph.traits import Recurs
from spikemorph.layers.activation import Sigmoid
from spikemorph.layers.convolution import Convolution
from spikemorph.layers.linear import Linear
from spikemorph.layers.masks import broken_masks, masks_of, weighted_ops
from spikemorph.layers.multiply import Multiply
from spikemorph.prune import Lesson, PruneTask, layer_sparsities, prune_graph
from spikemorph.prune.channel_groups import couple_channels
from spikemorph.prune.channels import mask_channels, remove_channels
from spikemorph.prune.dead_channels import removable_dead_channels
from spikemorph.quant import Quantisation
from spikemorph.train import DataTensors, TrainSettings

X = jumping(30, 5, 3, 0)
# A layer that makes the units, by kind of cell.
MAKER = {
    "tanh": "state.h", "relu": "state.x", "gru": "reset.x", "gru, reset first": "update.h",
    "lstm": "kept.h", "memory": "taken", "delays": "then",
}  # fmt: skip


def shape(kind: str, how: str) -> Graph:
    body, other = drawn_cell(kind, 3, 4, 1), drawn_cell(kind, 3, 4, 2)
    bodies = {
        "alone": ((body, False),),
        "both ways": ((body, False), (other, True)),
        "both ways, one body": ((body, False), (body, True)),
        "stacked": ((body, False), (drawn_cell("gru", 4, 4, 3), False)),
    }
    return around(*bodies[how], elements=5, inputs=3, size=4)


def body_of(graph: Graph, name: str) -> Graph:
    op = graph[name].op
    assert isinstance(op, Recurs)
    return op.body


@pytest.mark.parametrize("how", ["alone", "both ways", "both ways, one body", "stacked"])
@pytest.mark.parametrize("kind", CELLS)
def test_a_smaller_network_computes_what_the_masked_one_does(kind: str, how: str) -> None:
    graph = shape(kind, how)
    removed = {f"a/{MAKER[kind]}": (1, 3)}
    small, masked = remove_channels(graph, removed), mask_channels(graph, removed)
    torch.testing.assert_close(run(small, X), run(masked, X), atol=1e-5, rtol=1e-5)
    assert not torch.allclose(run(masked, X), run(graph, X), atol=1e-3)
    assert not broken_masks(masked) and not masks_of(small)
    assert all(register.start.shape == (2,) or kind == "delays"
               for register in body_of(small, "a").registers)  # fmt: skip
    for name, op in weighted_ops(small).items():
        gone = name.startswith("a/") or "one body" in how and name.startswith("b/")
        assert (len(op.weight) == 2) == gone, name
    if how == "both ways, one body":
        ops = weighted_ops(small)
        assert ops[f"a/{MAKER[kind]}"].weight is ops[f"b/{MAKER[kind]}"].weight


@pytest.mark.parametrize("kind", ["gru", "lstm", "memory"])
def test_a_masked_unit_is_zero_at_every_element_whatever_comes(kind: str) -> None:
    graph = shape(kind, "alone")
    masked = mask_channels(graph, {f"a/{MAKER[kind]}": (2,)})
    states = body_to_states(masked)
    assert bool((states[..., 2] == 0).all())
    assert all(bool(states[..., k].any()) for k in (0, 1, 3))


def body_to_states(graph: Graph) -> Tensor:
    """(sample, element, unit) of what leaves the layer."""
    nodes = tuple(node for node in graph.nodes if node.name in ("x", "a"))
    return run(Graph(nodes, ("x",), ("a",)), X)


class Sized(nn.Module):
    """torch's own layer, of any size."""

    def __init__(self, kind: type[nn.RNNBase], size: int) -> None:
        super().__init__()
        self.layer, self.out = kind(3, size, batch_first=True), nn.Linear(size, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.layer(x)[0][:, -1])


@pytest.mark.parametrize(("kind", "gates", "name"), [(nn.GRU, 3, "new.h"), (nn.LSTM, 4, "new.x")])
def test_torch_computes_the_same_without_the_rows_and_columns(
    kind: type[nn.RNNBase], gates: int, name: str
) -> None:
    """Rows and columns are taken out of torch's stacked matrices here, by hand."""
    torch.manual_seed(0)
    big, small = Sized(kind, 5), Sized(kind, 3)
    stays = torch.tensor([0, 2, 4])
    rows = torch.cat([stays + 5 * gate for gate in range(gates)])
    with torch.no_grad():
        small.layer.weight_ih_l0.copy_(big.layer.weight_ih_l0[rows])
        small.layer.weight_hh_l0.copy_(big.layer.weight_hh_l0[rows][:, stays])
        for field in ("bias_ih_l0", "bias_hh_l0"):
            getattr(small.layer, field).copy_(getattr(big.layer, field)[rows])
        small.out.weight.copy_(big.out.weight[:, stays])
        small.out.bias.copy_(big.out.bias)
        want = small(X)
    found = remove_channels(read_torch(big, X[:1]), {f"layer/{name}": (1, 3)})
    torch.testing.assert_close(run(found, X), want, atol=1e-6, rtol=1e-5)


def test_the_method_leaves_a_smaller_layer_that_learns_and_converts() -> None:
    graph = shape("lstm", "both ways")
    lesson = Lesson(
        DataTensors(X, X[:, -1].argmax(1)), TrainSettings(epochs=2, batch=10, rate=0.05)
    )
    small = prune_graph("channels", PruneTask(graph, 0.5, lesson=lesson))
    assert [shapes(small)[name] for name in ("a", "b", "both")] == [(5, 2), (5, 2), (5, 4)]
    assert {row.weights for row in layer_sparsities(small)} == {2 * 3, 2 * 2, 3 * 4}
    untrained = prune_graph("channels", PruneTask(graph, 0.5))
    assert not torch.equal(run(small, X), run(untrained, X))
    made = convert_graph(small, X, grid=GRID, quantisation=Quantisation(levels=8))
    assert made.certificate.level == "A"


def test_the_weakest_unit_goes_by_all_its_gates() -> None:
    """Unit 2 has the largest reset gate and next to nothing else."""
    graph = shape("gru", "alone")
    with torch.no_grad():
        for name, op in weighted_ops(graph).items():
            if name.startswith("a/"):
                op.weight[2] = 10.0 if name == "a/reset.h" else 0.001
                op.weight[[0, 1, 3]] = 10.0
    small = prune_graph("channels", PruneTask(graph, 0.25))
    assert torch.equal(
        weighted_ops(small)["logits"].weight, graph["logits"].op.weight[:, [0, 1, 3]]
    )


def test_what_must_stay_is_said() -> None:
    graph = shape("gru", "alone")
    with pytest.raises(InputError, match="'a/.*' would lose all its channels"):
        remove_channels(graph, {"a/new.x": range(4)})
    with pytest.raises(InputError, match="part of a recurrent layer"):
        remove_channels(graph, {"a/new.x": range(4)}, whole=True)
    with pytest.raises(InputError, match="has no channel 4"):
        remove_channels(graph, {"a/new.x": (4,)})
    body = drawn_cell("tanh", 3, 4, 1)
    bent = body.substitute("state", Node("state", Sigmoid(), body["state"].inputs))
    shown = around((bent, False), elements=5, inputs=3, size=4)
    with pytest.raises(InputError, match=r"'a/state' \(Sigmoid\): it makes 0.5 of zero"):
        remove_channels(shown, {"a/state.x": (0,)})


def test_a_unit_that_only_the_layer_itself_reads_is_not_dead() -> None:
    graph = shape("gru", "alone")
    with torch.no_grad():
        weighted_ops(graph)["logits"].weight[:, 1] = 0
    assert removable_dead_channels(graph) == {}
    small = remove_channels(graph, {"a/new.x": (1,)})
    assert not torch.allclose(run(small, X), run(graph, X), atol=1e-3)


def test_a_gate_over_channels_goes_with_them(chain: Callable[..., Graph]) -> None:
    """Squeeze and excite: what is multiplied with zero need not be zero itself."""
    pad = ((0, 0), (0, 0))
    start = chain((2, 4, 4), Convolution(draw(4, 2, 1, 1), draw(4), (1, 1), pad, (1, 1)))
    (x, conv) = start.nodes
    gate = Convolution(draw(4, 2, 1, 1, seed=3), draw(4), (1, 1), pad, (1, 1))
    head = Convolution(draw(3, 4, 1, 1, seed=4), None, (1, 1), pad, (1, 1))
    nodes = (
        x, conv, Node("gate.sum", gate, (x.name,)), Node("gate", Sigmoid(), ("gate.sum",)),
        Node("gated", Multiply(), (conv.name, "gate")), Node("out", head, ("gated",)),
    )  # fmt: skip
    graph, inputs = Graph(nodes, (x.name,), ("out",)), draw(3, 2, 4, 4)
    for layer in ("gate.sum", conv.name):
        small, masked = (f(graph, {layer: (1,)}) for f in (remove_channels, mask_channels))
        torch.testing.assert_close(run(small, inputs), run(masked, inputs))
        assert [len(op.weight) for op in weighted_ops(small).values()] == [3, 3, 3]
    both = graph.substitute("gated", Node("gated", Multiply(), ("gate", "gate")))
    (pinned,) = {g.pinned for g in couple_channels(both).groups if "gate.sum" in g.members}
    assert pinned is not None and "0.25" not in pinned and "0.5 of zero" in pinned


def test_a_factor_of_all_channels_stays(chain: Callable[..., Graph]) -> None:
    wide, one = Linear(draw(4, 3), None), Linear(draw(1, 3), None)
    (x,) = chain((3,)).nodes
    nodes = (
        x, Node("wide", wide, (x.name,)), Node("one", one, (x.name,)),
        Node("scaled", Multiply(), ("one", "wide")), Node("out", Linear(draw(2, 4), None), ("scaled",)),
    )  # fmt: skip
    graph = Graph(nodes, (x.name,), ("out",))
    with pytest.raises(InputError, match="a factor of all channels"):
        remove_channels(graph, {"one": (0,)})
    small = remove_channels(graph, {"wide": (0, 2)})
    torch.testing.assert_close(
        run(small, draw(5, 3)), run(mask_channels(graph, {"wide": (0, 2)}), draw(5, 3))
    )
