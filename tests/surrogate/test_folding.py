"""Laws of folding: the same spikes from weights alone, exact counts, one file that says if it changed."""

import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers import draw
from torch import Tensor

from spikemorph import load_graph
from spikemorph.graph import Graph, GraphError, InputError
from spikemorph.graph.saving import graph_hash, load_graph_file
from spikemorph.layers.activation import ReLU
from spikemorph.layers.affine import ScaleShift
from spikemorph.layers.convolution import Convolution
from spikemorph.layers.joining import Add
from spikemorph.layers.linear import Linear
from spikemorph.layers.masks import (
    broken_masks,
    mask_hash,
    masks_of,
    weight_of,
    weighted_nodes,
    with_masks,
)
from spikemorph.layers.normalisation import BatchNorm
from spikemorph.layers.pooling import AveragePool, MaxPool
from spikemorph.layers.shape import Reshape
from spikemorph.surrogate import Dynamics, SpikingModule
from spikemorph.surrogate.folded_network import (
    Activity,
    DeployedNetwork,
    Fire,
    load_deployed,
    measure_activity,
    run_deployed,
    save_deployed,
)
from spikemorph.surrogate.folding import fold
from spikemorph.surrogate.thresholds import Calibration
from spikemorph.surrogate.to_trainable import to_trainable
from spikemorph.zoo.datasets import load_data

BOTH_RESETS = pytest.mark.parametrize("hard", [True, False])
LEAKS = pytest.mark.parametrize("leak", [1.0, 0.9])


def norm(channels: int, seed: int = 0) -> BatchNorm:
    """Gains of both signs, so that a sign lost in folding is seen."""
    mean, gain, shift = (draw(channels, seed=seed + k) for k in range(3))
    return BatchNorm(mean, draw(channels, seed=seed + 3) ** 2 + 0.1, gain, shift, 1e-5)


def sparse(name: str) -> Graph:
    graph = load_graph(f"zoo:{name}").graph
    coins = torch.Generator().manual_seed(1)
    masks = {
        node.name: torch.rand(weight_of(node).shape, generator=coins) < 0.4
        for node in weighted_nodes(graph)
    }
    return with_masks(graph, masks)


def digits(count: int) -> Tensor:
    return load_data("digits:train").values()[:count]


def trained(graph: Graph, dynamics: Dynamics, x: Tensor) -> SpikingModule:
    """Calibrated, then with thresholds moved as training would."""
    module = to_trainable(graph, dynamics, x, Calibration(steps=6, chunk=32))
    with torch.no_grad():
        for index, threshold in enumerate(module.thresholds.values()):
            threshold.mul_(1 + 0.1 * index)
    return module


@BOTH_RESETS
@pytest.mark.parametrize("name", ["digits_mlp", "digits_cnn", "digits_resnet"])
def test_the_folded_network_has_the_spikes_of_the_trained_one(name: str, hard: bool) -> None:
    """In 64-bit floats: every spike count of every neuron's map, and logits to 1e-12."""
    x, graph = digits(24), sparse(name)
    module = trained(graph, Dynamics(5, 0.95, hard), x).double()
    network = fold(module, torch.float64)
    x = x.double()
    with torch.no_grad():
        logits = module(x)
    torch.testing.assert_close(run_deployed(network, x), logits, rtol=1e-12, atol=1e-12)
    seen = measure_activity(network, x)
    assert list(seen.spikes) == list(module.spiking)
    for place in module.spiking:
        wanted = module.output_of(x, place).transpose(0, 1).flatten(1).sum(1)
        assert torch.equal(seen.spikes[place].double(), wanted)
        assert 0 < int(wanted.sum()) < len(x) * 5 * seen.neurons[place]


@BOTH_RESETS
def test_single_precision_keeps_nearly_all_samples(hard: bool) -> None:
    x = digits(120)
    module = trained(sparse("digits_resnet"), Dynamics(5, hard_reset=hard), x[:20])
    network = fold(module)
    assert all(weight_of(n).dtype == torch.float32 for n in weighted_nodes(network.graph))
    with torch.no_grad():
        logits = module(x)
    found = run_deployed(network, x)
    same = ((found - logits).abs() <= 1e-4 * logits.abs().max()).all(1)
    assert same.float().mean() > 0.9
    assert (found.argmax(1) == logits.argmax(1)).float().mean() > 0.98


def test_nothing_but_weights_is_left_and_masks_are_the_same_bits() -> None:
    graph = sparse("digits_resnet")
    network = fold(trained(graph, Dynamics(3), digits(20)))
    kinds = {type(node.op).__name__ for node in network.graph.nodes}
    assert kinds.isdisjoint({"BatchNorm", "ReLU", "ScaleShift"})
    hashes = {name: mask_hash(mask) for name, mask in masks_of(network.graph).items()}
    assert hashes == {name: mask_hash(mask) for name, mask in masks_of(graph).items()}
    assert broken_masks(network.graph) == []
    for node in weighted_nodes(network.graph):
        weight = weight_of(node)
        assert not (weight.signbit() & (weight == 0)).any()
        assert int((weight != 0).sum()) == int((weight_of(graph[node.name]) != 0).sum())


@LEAKS
@BOTH_RESETS
def test_what_stands_between_layers_is_folded_through_or_kept(
    chain: Callable[..., Graph], hard: bool, leak: float
) -> None:
    """Batch norms behind sums and before layers, pools, identities, a neuron that reads a neuron."""
    ones, pads, zero = (1, 1), ((1, 1), (1, 1)), ((0, 0), (0, 0))
    same = Add((torch.tensor(0.5), torch.tensor(0.5)))
    graph = chain(
        (2, 6, 6),
        ScaleShift(torch.tensor(2.0), torch.tensor(-0.5)),
        Convolution(draw(4, 2, 3, 3), draw(4), ones, pads, ones),
        norm(4),
        ReLU(),
        Convolution(draw(4, 4, 3, 3, seed=5), None, ones, pads, ones),
        (same, "n4", "n3"),
        norm(4, seed=7),
        ReLU(),
        MaxPool((2, 2), (2, 2), zero, ones),
        ReLU(),
        Convolution(draw(5, 4, 1, 1, seed=6), None, ones, zero, ones),
        AveragePool((3, 3), (3, 3), zero, zero, counts_padding=True),
        ReLU(),
        Reshape((5,)),
        Linear(draw(3, 5), draw(3)),
    )
    x = draw(40, 2, 6, 6, seed=3)
    module = trained(graph, Dynamics(4, leak, hard), x).double()
    network = fold(module, torch.float64)
    x = x.double()
    with torch.no_grad():
        torch.testing.assert_close(run_deployed(network, x), module(x), rtol=1e-12, atol=1e-12)
    left = [node.name for node in network.graph.nodes if isinstance(node.op, ScaleShift)]
    assert left == ["n0", "n6", "n9.scale"]  # the input's, one behind a sum, one between neurons
    assert [n.name for n in network.graph.nodes if isinstance(n.op, Fire)] == list(module.spiking)


def test_one_neuron_by_hand() -> None:
    """Currents 0.6 each step, leak 1: v = 0.6, 1.2 (fires), then hard 0.6, 1.2; soft 0.8, 1.4.

    With leak 0.5 it is 0.6, 0.9, 1.05 (fires), and hard 0.6 again.
    """
    currents = torch.full((4, 1, 1), 0.6)
    assert Fire().over_time(currents).flatten().tolist() == [0, 1, 0, 1]
    assert Fire(hard_reset=False).over_time(currents).flatten().tolist() == [0, 1, 0, 1]
    soft = Fire(hard_reset=False).over_time(torch.full((5, 1, 1), 0.75))
    assert soft.flatten().tolist() == [0, 1, 1, 1, 0]  # 0.75, 1.5, 1.25, 1.0 (fires), 0.75
    assert Fire(leak=0.5).over_time(currents).flatten().tolist() == [0, 0, 1, 0]
    with pytest.raises(InputError, match=r"leak 1\.5"):
        Fire(leak=1.5)


def brute(op: Convolution, x: Tensor) -> int:
    """Loops over every output, tap and cell of (channel, height, width)."""
    out, inside, high, wide = op.weight.shape
    (top, bottom), (left, right) = op.padding
    rows = (x.shape[1] + top + bottom - high) // op.stride[0] + 1
    columns = (x.shape[2] + left + right - wide) // op.stride[1] + 1
    total = 0
    for o, c, i, j, a, b in torch.cartesian_prod(
        *(torch.arange(n) for n in (out, inside, rows, columns, high, wide))
    ).tolist():
        row, column = i * op.stride[0] + a - top, j * op.stride[1] + b - left
        there = 0 <= row < x.shape[1] and 0 <= column < x.shape[2]
        total += int(there and bool(op.weight[o, c, a, b] != 0) and bool(x[c, row, column] != 0))
    return total


def counted(chain: Callable[..., Graph]) -> tuple[DeployedNetwork, Convolution, Convolution]:
    ones, pads = (1, 1), ((1, 1), (1, 1))
    keep = draw(3, 2, 3, 3, seed=4) > 0
    first = Convolution(draw(2, 1, 3, 3), draw(2), ones, pads, ones)
    second = Convolution(draw(3, 2, 3, 3, seed=2) * keep, None, (2, 2), pads, ones, mask=keep)
    head = Linear(draw(4, 12), None)
    graph = chain((1, 4, 4), first, Fire(), second, Fire(), Reshape((12,)), head)
    return DeployedNetwork(graph, 3), first, second


def test_operations_are_those_of_a_plain_loop(chain: Callable[..., Graph]) -> None:
    network, first, second = counted(chain)
    x = draw(2, 1, 4, 4, seed=8).relu()
    seen = measure_activity(network, x)
    trains = Fire().over_time(first(x).expand(3, 2, 2, 4, 4))
    assert seen.spikes["n1"].tolist() == trains.sum((0, 2, 3, 4)).tolist()
    assert seen.products["n0"].tolist() == [
        brute(first, sample) for sample in x
    ]  # once, not 3 times
    wanted = [sum(brute(second, step) for step in trains[:, k]) for k in range(2)]
    assert seen.accumulates["n2"].tolist() == wanted
    assert seen.accumulates["n5"].tolist() == (4 * seen.spikes["n3"]).tolist()
    assert seen.neurons == {"n1": 32, "n3": 12}
    assert set(seen.products) == {"n0"}


def test_samples_are_counted_alone(chain: Callable[..., Graph]) -> None:
    network, *_ = counted(chain)
    x = draw(3, 1, 4, 4, seed=8)
    whole: Activity = measure_activity(network, x)
    for index in range(3):
        one = measure_activity(network, x[index : index + 1])
        for part in ("spikes", "accumulates", "products"):
            for name, counts in getattr(whole, part).items():
                assert getattr(one, part)[name].tolist() == [counts[index].item()]
    assert run_deployed(network, x[:0]).shape == (0, 4)


def test_files_come_back_the_same(tmp_path: Path) -> None:
    path, x = tmp_path / "net.safetensors", digits(30)
    network = fold(trained(sparse("digits_cnn"), Dynamics(3, 0.9, hard_reset=False), x))
    save_deployed(path, network, {"clean": 97.5})
    loaded, notes = load_deployed(path)
    assert notes == {"clean": 97.5}
    assert loaded.steps == 3
    assert graph_hash(loaded.graph) == graph_hash(network.graph)
    assert torch.equal(run_deployed(loaded, x), run_deployed(network, x))
    with pytest.raises(InputError, match="this is not a spikemorph graph but deployed"):
        load_graph_file(path)


def test_a_changed_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    save_deployed(path, fold(trained(sparse("digits_mlp"), Dynamics(3), digits(20))), {})
    content = bytearray(path.read_bytes())
    start = 8 + struct.unpack("<Q", content[:8])[0]
    for place in (start + 5, len(content) - 2):
        changed = content.copy()
        changed[place] ^= 1
        path.write_bytes(changed)
        with pytest.raises(InputError, match=str(path)):
            load_deployed(path)
    path.write_bytes(content.replace(b'\\"steps\\": 3', b'\\"steps\\": 9'))
    with pytest.raises(InputError, match="its hash does not match"):
        load_deployed(path)


def test_what_is_no_deployed_network_is_refused(chain: Callable[..., Graph]) -> None:
    layer = Linear(draw(4, 6), None)
    with pytest.raises(GraphError, match=r"\['n1'\]: activations that do not spike"):
        DeployedNetwork(chain((6,), layer, ReLU(), Fire()), 3)
    with pytest.raises(GraphError, match="no node fires"):
        DeployedNetwork(chain((6,), layer), 3)
    with pytest.raises(InputError, match="steps 0"):
        DeployedNetwork(chain((6,), layer, Fire()), 0)
    masked = replace(layer, mask=torch.zeros(4, 6, dtype=torch.bool))
    with pytest.raises(GraphError, match="'n0': 24 weights outside its mask are not zero"):
        DeployedNetwork(chain((6,), masked, Fire()), 3)
