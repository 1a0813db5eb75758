"""Laws of calibration: what a percentile is, the order of layers, one scaling, statistics in time."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from helpers import draw
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from spikemorph import load_graph
from spikemorph.graph import Graph, GraphError, InputError
from spikemorph.layers.activation import ReLU
from spikemorph.layers.joining import Add
from spikemorph.layers.linear import Linear
from spikemorph.layers.masks import mask_hash, masks_of, weight_of, weighted_nodes
from spikemorph.layers.normalisation import BatchNorm
from spikemorph.surrogate import Dynamics, SpikingModule
from spikemorph.surrogate.module import LEAST_THRESHOLD
from spikemorph.surrogate.thresholds import Calibration, calibrate, percentile
from spikemorph.surrogate.to_trainable import connections, masks_kept, to_trainable
from spikemorph.train import DataTensors, TrainSettings, fit
from spikemorph.train.masked import mask_in
from spikemorph.zoo.datasets import load_data

X = draw(24, 6, seed=9)
SHORT = Calibration(steps=12, batch=8, chunk=3)


def norm(channels: int) -> BatchNorm:
    one, zero = torch.ones(channels), torch.zeros(channels)
    return BatchNorm(zero, one, one + 0.1 * draw(channels), 0.3 * draw(channels, seed=1), 1e-5)


@pytest.fixture
def deep(chain: Callable[..., Graph]) -> Graph:
    """Three spiking layers (n1, n4, n6), the second behind a batch norm."""
    return chain(
        (6,), Linear(draw(10, 6), draw(10)), ReLU(), Linear(draw(8, 10, seed=2), None), norm(8),
        ReLU(), Linear(draw(7, 8, seed=3), draw(7)), ReLU(), Linear(draw(3, 7), None),
    )  # fmt: skip


def test_the_percentile_is_the_kth_smallest_value() -> None:
    """k = 1 + round(rank / 100 (n - 1)): of 11 numbers, 99.7 % is the 11th, 50 % the 6th, 0 the 1st.

    88 % of 11 is 1 + round(8.8) = 10.
    """
    numbers = torch.tensor([3.0, -1, 7, 0, 2, 9, 4, -5, 8, 1, 6])
    for rank, wanted in ((99.7, 9), (88, 8), (50, 3), (0, -5), (100, 9)):
        assert percentile([numbers], 11, rank) == wanted
    assert percentile([torch.ones(3), torch.ones(2)], 5, 60) == 1  # ties
    with pytest.raises(InputError, match="of 12 numbers, but 11 came"):
        percentile([numbers], 12, 50)
    with pytest.raises(InputError, match="give at least one"):
        percentile([], 0, 50)


@given(
    st.lists(st.integers(-6, 6), min_size=1, max_size=60),
    st.lists(st.integers(0, 60), max_size=4),
    st.floats(0, 100),
)
def test_the_percentile_of_chunks_is_that_of_all(
    numbers: list[int], cuts: list[int], rank: float
) -> None:
    x = torch.tensor(numbers, dtype=torch.float32)
    wanted = x.kthvalue(1 + round(rank / 100 * (len(x) - 1))).values
    assert percentile(x.tensor_split(sorted(cuts)), len(x), rank) == wanted


def test_chunks_change_nothing(deep: Graph) -> None:
    found = []
    for chunk in (1, 3, 8):
        module = SpikingModule(deep, Dynamics(4))
        found.append(calibrate(module, X, replace(SHORT, chunk=chunk)))
    for other in found[1:]:
        assert other == pytest.approx(found[0], rel=1e-5)


def test_thresholds_are_the_percentile_of_what_spiking_layers_before_give(deep: Graph) -> None:
    """Layer by layer, by the definition, from `observe` and kthvalue on whole batches."""
    module, check = SpikingModule(deep, Dynamics(4)), SpikingModule(deep, Dynamics(4))
    found = calibrate(module, X, SHORT)
    with torch.no_grad():
        for name in check.spiking:
            if name == "n4":
                sums = check.output_of(X, "n2", SHORT.steps).flatten(0, 1)
                check.statistics("n3")["mean"].copy_(sums.mean(0))
                check.statistics("n3")["variance"].copy_(sums.var(0))
            batches = [check.observe(b, name, SHORT.steps).flatten() for b in X.split(8)]
            highest = max(
                float(b.kthvalue(1 + round(0.997 * (len(b) - 1))).values) for b in batches
            )
            check.thresholds[name].fill_(highest)
            assert found[name] == pytest.approx(0.3 * highest, rel=1e-5)


def test_a_layer_s_threshold_depends_on_those_before_it_only(deep: Graph) -> None:
    """Thresholds of n1 and n6 are changed through their layers' own weights, by scaling them.

    Twice the weights of the first layer: its threshold doubles and its spikes stay, so the others stay.
    Another first layer changes the later ones; another last layer changes none before it.
    """

    def of(graph: Graph) -> dict[str, float]:
        return calibrate(SpikingModule(graph, Dynamics(4)), X, SHORT)

    def changed(name: str, **fields: Tensor | None) -> Graph:
        return deep.substitute(name, replace(deep[name], op=replace(deep[name].op, **fields)))

    before, first = of(deep), weight_of(deep["n0"])
    bias = getattr(deep["n0"].op, "bias")  # noqa: B009  the field of one op
    doubled = of(changed("n0", weight=2 * first, bias=2 * bias))
    assert doubled["n1"] == pytest.approx(2 * before["n1"])
    assert (doubled["n4"], doubled["n6"]) == (before["n4"], before["n6"])
    other = of(changed("n0", bias=bias + 1))
    assert all(other[name] != before[name] for name in ("n1", "n4", "n6"))
    last = of(changed("n5", weight=3 * weight_of(deep["n5"])))
    assert last["n6"] != before["n6"]
    assert (last["n1"], last["n4"]) == (before["n1"], before["n4"])


def test_the_scale_is_applied_once_after_all_layers(deep: Graph) -> None:
    whole = calibrate(SpikingModule(deep, Dynamics(4)), X, replace(SHORT, scale=1.0))
    scaled = calibrate(SpikingModule(deep, Dynamics(4)), X, SHORT)
    assert scaled == pytest.approx({name: 0.3 * value for name, value in whole.items()})


def test_each_activation_of_a_residual_block_has_its_own_threshold(
    chain: Callable[..., Graph],
) -> None:
    """The block's first currents are a hundred times its second ones; neither sees the other."""
    one = (torch.tensor(1.0), torch.tensor(0.01))
    graph = chain(
        (6,), Linear(100 * torch.eye(6), None), ReLU(), Linear(draw(6, 6) / 9, None),
        (Add(one), "n2", "x"), ReLU(), Linear(draw(3, 6), None),
    )  # fmt: skip
    found = calibrate(SpikingModule(graph, Dynamics(4)), X, SHORT)
    assert found["n1"] > 50 * found["n4"] > 50 * LEAST_THRESHOLD


def test_statistics_are_those_of_the_network_that_is_used(deep: Graph) -> None:
    module = SpikingModule(deep, Dynamics(5))
    calibrate(module, X, SHORT)
    sums = module.output_of(X, "n2").flatten(0, 1)
    assert len(sums) == 5 * len(X)
    torch.testing.assert_close(module.statistics("n3")["mean"], sums.mean(0))
    torch.testing.assert_close(module.statistics("n3")["variance"], sums.var(0))


def test_what_cannot_be_calibrated_is_refused(deep: Graph) -> None:
    module = SpikingModule(deep, Dynamics(4))
    with pytest.raises(InputError, match="no samples to calibrate"):
        calibrate(module, X[:0], SHORT)
    with pytest.raises(GraphError, match="'n1': its currents are not finite"):
        calibrate(module, X / 0, SHORT)
    with pytest.raises(InputError, match="percentile 101"):
        Calibration(percentile=101)
    with pytest.raises(InputError, match="scale 0"):
        Calibration(scale=0)
    with pytest.raises(InputError, match="chunk 0"):
        Calibration(chunk=0)


def smallest_gone(graph: Graph, share: float) -> Graph:
    """Without masks: the smallest weights of each layer are zero, int((1 - share) n) are left."""
    for node in weighted_nodes(graph):
        weight = weight_of(node)
        kept = int((1 - share) * weight.numel())
        order = weight.abs().flatten().argsort(descending=True)
        sparse = torch.zeros_like(weight).flatten()
        sparse[order[:kept]] = weight.flatten()[order[:kept]]
        op = replace(node.op, weight=sparse.reshape(weight.shape))
        graph = graph.substitute(node.name, replace(node, op=op))
    return graph


@pytest.mark.parametrize("hard", [True, False])
def test_connections_are_kept_through_time(hard: bool) -> None:
    """Momentum and decay, all layers: outside masks zeros, masks bit for bit, counts as pruned."""
    graph = smallest_gone(load_graph("zoo:digits_resnet").graph, 0.9)
    data = load_data("digits:train").take(48)
    assert data.y is not None
    train = DataTensors(data.values(), data.y)
    module = to_trainable(graph, Dynamics(3, hard_reset=hard), train.x[:16], Calibration(steps=5))
    before = {name: mask_hash(mask) for name, mask in connections(graph).items()}
    assert len(before) == len(weighted_nodes(graph))
    started = {name: float(v.detach()) for name, v in module.thresholds.items()}
    settings = TrainSettings(epochs=2, batch=16, rate=0.05, decay=0.01)
    fit(module, train, settings, on_epoch=masks_kept(module))
    assert {name: mask_hash(m) for name, m in masks_of(module.to_graph()).items()} == before
    for node in weighted_nodes(module.to_graph()):
        weight = weight_of(node)
        assert int((weight != 0).sum()) == int((1 - 0.9) * weight.numel())
        assert mask_hash(mask_in(module, node.name)) == before[node.name]
    assert all(float(v.detach()) != started[name] for name, v in module.thresholds.items())


def test_a_broken_connection_stops_the_training(chain: Callable[..., Graph]) -> None:
    weight = draw(10, 6)
    weight[:, 0] = 0
    graph = chain((6,), Linear(weight, None), ReLU(), Linear(draw(3, 10), None))
    module = to_trainable(graph, Dynamics(3), X, SHORT)
    assert list(masks_of(module.graph)) == ["n0"]
    data, settings = DataTensors(X, torch.arange(24) % 3), TrainSettings(epochs=1, batch=8)

    def leak(_: object) -> None:
        with torch.no_grad():
            module.weight("n0")[2, 0] = 1e-30

    with pytest.raises(GraphError, match="'n0': weights outside its mask are not zero"):
        fit(module, data, settings, project=leak, on_epoch=masks_kept(module))
    mask_in(module, "n0")[0, 0] = True
    with pytest.raises(GraphError, match="'n0': its mask moved in epoch 1"):
        fit(module, data, settings, on_epoch=masks_kept(module))


def test_one_weight_under_two_masks_is_refused(chain: Callable[..., Graph]) -> None:
    shared, mask = draw(6, 6) * torch.eye(6), torch.eye(6) > 0
    graph = chain(
        (6,), Linear(shared, None, mask), ReLU(), Linear(shared, None, ~(mask & ~mask)),
    )  # fmt: skip
    with pytest.raises(GraphError, match="'n0' and 'n2' share a weight under two masks"):
        to_trainable(graph, Dynamics(3), X, SHORT)
