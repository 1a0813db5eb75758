"""What the inspection says of nodes is what conversion makes of them, counted."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from torch import Tensor, nn

from spikemorph import convert_graph, load_graph
from spikemorph.convert import read_onnx, read_torch
from spikemorph.graph import Graph, Input, UnsupportedError
from spikemorph.graph.grid import Grid
from spikemorph.measures.inspection import (
    ANALOG,
    DEAD,
    FACTORS,
    FOLDED,
    IDLE,
    RELAY,
    TAKEN,
    inspect_graph,
)
from spikemorph.measures.results import Inspection
from spikemorph.quant import Quantisation

LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"


class Net(nn.Module):
    """A module that computes a function of its parts and its input."""

    def __init__(self, function: Callable[[Any, Tensor], Tensor], **parts: nn.Module) -> None:
        super().__init__()
        self.function = function
        self.gain = nn.Parameter(torch.linspace(0.5, 2, 64).reshape(1, 8, 8))
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, x)


def conv(inside: int, out: int) -> nn.Conv2d:
    return nn.Conv2d(inside, out, 3, padding=1)


def row(*parts: nn.Module) -> nn.Sequential:
    """The parts, then four outputs from whatever they leave."""
    size = nn.Sequential(*parts).eval()(torch.zeros(2, 1, 8, 8)).flatten(1).shape[1]
    return nn.Sequential(*parts, nn.Flatten(), nn.Linear(size, 4))


def models() -> dict[str, nn.Module]:
    """Small networks (1, 8, 8) -> outputs, with every way a node can go."""
    torch.manual_seed(0)
    relu, head = nn.ReLU(), nn.Sequential(nn.Flatten(), nn.Linear(256, 4))
    side, other = nn.Sequential(conv(1, 4), nn.ReLU()), nn.Sequential(conv(1, 4), nn.ReLU())
    bn = nn.BatchNorm2d
    return {
        "two linear layers in a row": row(nn.Flatten(), nn.Linear(64, 8)),
        "dropout": row(nn.Dropout(), conv(1, 4), relu, nn.Dropout()),
        "pool ahead of its activation": row(conv(1, 4), nn.MaxPool2d(2), relu),
        "a norm that stays": row(conv(1, 4), nn.MaxPool2d(2), bn(4), relu),
        "a norm of spikes": row(conv(1, 4), relu, bn(4), conv(4, 4), relu),
        "a norm between activations": row(conv(1, 4), relu, bn(4), relu),
        "a norm alone": row(bn(1), relu),
        "a norm at the end": nn.Sequential(nn.Flatten(), nn.Linear(64, 8), relu, nn.BatchNorm1d(8)),
        "averages": row(conv(1, 4), relu, nn.AvgPool2d(2), conv(4, 4), relu, nn.AdaptiveAvgPool2d(1)),
        "averages at borders": row(
            conv(1, 4), relu, nn.AvgPool2d(3, 1, 1, count_include_pad=False), conv(4, 4), relu
        ),
        "an average of sums": row(
            conv(1, 4), nn.AvgPool2d(3, 1, 1, count_include_pad=False), relu
        ),
        "pools of one cell": row(conv(1, 4), relu, nn.MaxPool2d(1), nn.AvgPool2d(1)),
        "an average at the end": nn.Sequential(side, conv(4, 4), nn.AdaptiveAvgPool2d(1)),
        "a maximum at the end": nn.Sequential(side, conv(4, 4), nn.AdaptiveMaxPool2d(1)),
        "softmax and dropout": nn.Sequential(side, head, nn.Softmax(1), nn.Dropout()),
        "sigmoids": nn.Sequential(conv(1, 4), nn.Sigmoid(), head, nn.Sigmoid()),
        "an activation at the end": nn.Sequential(side, head, relu),
        "many activations": row(conv(1, 4), nn.LeakyReLU(0.1), conv(4, 4), nn.Tanh(), nn.Hardtanh()),
        "hard sigmoid": row(conv(1, 4), nn.Hardsigmoid()),
        "positions": Net(
            lambda n, x: n.tail(n.ahead(x)),
            ahead=nn.Sequential(nn.Linear(8, 8), nn.ReLU()), tail=row(nn.Linear(8, 5), nn.ReLU()),
        ),
        "padding": nn.Sequential(nn.ZeroPad2d(1), nn.Conv2d(1, 4, 3), relu, head),
        "a dead branch": Net(
            lambda n, x: (n.head(n.other(x)), n.head(n.side(x)))[1], side=side, other=other, head=head
        ),
        "a residual": Net(
            lambda n, x: n.head(torch.relu(n.side(x) + n.norm(n.mix(n.side(x))))),
            side=side, mix=conv(4, 4), norm=bn(4), head=head,
        ),
        "a third of a branch": Net(
            lambda n, x: n.head(torch.relu(0.3 * n.side(x) + n.other(x))),
            side=side, other=other, head=head,
        ),
        "a concatenation": Net(
            lambda n, x: n.tail(n.norm(torch.cat([n.side(x), n.other(x)], 1))),
            side=side, other=other, norm=bn(8), tail=nn.Sequential(conv(8, 4), nn.ReLU(), head),
        ),
        "a norm past a concatenation": Net(
            lambda n, x: n.tail(torch.relu(torch.cat([n.norm(n.side(x)), x], 1))),
            side=side, norm=bn(4), tail=nn.Sequential(nn.Flatten(), nn.Linear(320, 4)),
        ),
        "a scaled input": Net(lambda n, x: n.head(n.side((x - 0.1) / 0.3)), side=side, head=head),
        "a factor of one": Net(lambda n, x: n.head(n.side(x * 1.0)), side=side, head=head),
        "a factor for every pixel": Net(
            lambda n, x: n.head(torch.relu(n.mix(x) * n.gain)), mix=conv(1, 4), head=head
        ),
    }  # fmt: skip


MODELS = models()


def told(found: Inspection, *starts: str) -> int:
    """Of how many nodes something is said that starts so."""
    return sum(node.reason.startswith(starts) for node in found.nodes)


def made(graph: Graph) -> Counter[str]:
    """How many nodes of each kind the integer graph has; what only aligns scales is left out."""
    x = torch.rand(4, *graph.entry.shape, generator=torch.Generator().manual_seed(0))
    converted = convert_graph(graph, x, grid=Grid.of(0.0, 1.0), quantisation=Quantisation())
    nodes = [n for n in converted.network.graph.nodes if ".aligned." not in n.name]
    kinds = Counter(type(node.op).__name__ for node in nodes)
    kinds["analog"] = len(converted.network.readout.analog)
    return kinds


def assert_true(found: Inspection, graph: Graph) -> None:
    kinds = made(graph)
    assert found.supported and all(node.converts for node in found.nodes)
    assert told(found, "a neuron layer", RELAY) == kinds["Ladder"]
    assert told(found, "integer weights") == kinds["Linear"] + kinds["Convolution"]
    assert (
        told(found, "summed", "kept: pools")
        == kinds["SumPool"] + kinds["MaxPool"] + kinds["GlobalMax"]
    )
    assert told(found, "kept: joins") == kinds["Add"] + kinds["Concat"]
    assert told(found, ANALOG) == kinds["analog"]
    rounded = told(found, FACTORS, f"summed; {FACTORS}")
    assert (
        rounded <= kinds["ScaleShift"] <= rounded + told(found, TAKEN)
    )  # ladders leave signs behind


def read(name: str) -> Graph:
    model, random = MODELS[name], torch.Generator().manual_seed(1)
    for part in model.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            for value in (part.weight, part.bias, part.running_mean):
                assert value is not None
                value.data.copy_(torch.randn(value.shape, generator=random))
    return read_torch(model.eval(), torch.zeros(2, 1, 8, 8))


@pytest.mark.parametrize("name", MODELS)
def test_as_many_neurons_weights_pools_and_joins_are_told_as_are_made(name: str) -> None:
    graph = read(name)
    found = inspect_graph(name, graph)
    assert_true(found, graph)
    names = [node.name for node in found.nodes]
    assert names[: len(graph.nodes)] == [node.name for node in graph.nodes]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    ("name", "op", "reasons"),
    [
        ("dropout", "Identity", [IDLE, IDLE]),
        ("pools of one cell", "MaxPool", [IDLE]),
        ("pools of one cell", "AveragePool", [IDLE]),
        ("a factor of one", "ScaleShift", [IDLE]),
        ("a dead branch", "Convolution", [DEAD, "integer weights"]),
        ("a dead branch", "ReLU", [DEAD, "a neuron layer"]),
        ("a norm of spikes", "BatchNorm", [FOLDED]),
        ("a norm between activations", "BatchNorm", [TAKEN]),
        ("a norm past a concatenation", "BatchNorm", [TAKEN]),
        ("a norm at the end", "BatchNorm", [FACTORS]),
        ("a factor for every pixel", "ScaleShift", [FACTORS]),
        ("averages at borders", "AveragePool", [f"summed; {FACTORS}"]),
        ("softmax and dropout", "Softmax", [ANALOG]),
        ("softmax and dropout", "Identity", [IDLE]),
        ("sigmoids", "Sigmoid", ["a neuron layer", ANALOG]),
    ],
)
def test_what_becomes_of_one_kind_of_node(name: str, op: str, reasons: list[str]) -> None:
    found = inspect_graph(name, read(name)).nodes
    assert sorted(node.reason for node in found if node.op == op) == sorted(reasons)


@pytest.mark.parametrize("name", ["digits_mlp", "digits_cnn", "digits_resnet"])
def test_it_is_true_of_networks_of_the_zoo(name: str) -> None:
    graph = load_graph(f"zoo:{name}").graph
    assert_true(inspect_graph(name, graph), graph)


@pytest.mark.skipif(not LIGHT.is_dir(), reason="this onnx package has no test data")
def test_it_is_true_of_an_architecture_of_the_onnx_package() -> None:
    graph = read_onnx(LIGHT / "light_squeezenet.onnx", (1, 3, 224, 224))
    found = inspect_graph("squeezenet", graph)
    kinds = Counter(node.op for node in found.nodes)
    assert told(found, "integer weights") == kinds["Convolution"] == 26
    assert told(found, "kept: joins") == kinds["Concat"] == 8
    assert told(found, ANALOG) == kinds["Softmax"] == 1


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (nn.Sequential(nn.Flatten(), nn.Linear(64, 4)), "nothing would spike"),
        (nn.Sequential(nn.Flatten(), nn.Softmax(1), nn.Linear(64, 4)), "inside the network"),
    ],
    ids=["no activation", "a softmax inside"],
)
def test_what_conversion_refuses_no_inspection_promises(model: nn.Module, said: str) -> None:
    graph = read_torch(model.eval(), torch.zeros(2, 1, 8, 8))
    found = inspect_graph("net", graph)
    assert not found.supported
    (refused,) = [node for node in found.nodes if not node.converts]
    assert said in refused.reason
    with pytest.raises(UnsupportedError, match=said):
        made(graph)


def test_constants_are_no_parameters() -> None:
    """A scaled input, and a hard sigmoid's own scale, were never learnt: weights and biases were."""
    for name, count in (("a scaled input", 40 + 1028), ("hard sigmoid", 40 + 1028)):
        assert inspect_graph(name, read(name)).parameters == count


def test_an_input_is_on_the_grid() -> None:
    (entry,) = [n for n in inspect_graph("net", read("dropout")).nodes if n.op == Input.__name__]
    assert entry.reason == "integers on the input grid"
