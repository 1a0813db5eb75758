"""Recurrent layers as torch and both its exporters spell them, against torch and ONNX Runtime."""

import logging
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from helpers import draw
from torch import Tensor, nn
from torch.export import Dim

from spikemorph.convert import read_onnx, read_torch
from spikemorph.graph import Graph, UnsupportedError, run
from spikemorph.graph.grid import Grid
from spikemorph.graph.nested import nested_nodes
from spikemorph.measures.inspection import inspect_graph
from spikemorph.quant import RateCoding, rate_graph
from spikemorph.surrogate import Dynamics, SpikingModule

Run = Callable[..., tuple[int, str, str]]


class Net(nn.Module):
    """A recurrent layer with a read-out of all elements, the last one, or the final states."""

    def __init__(self, kind: Any, reads: str, **options: Any) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.reads, self.first = reads, bool(options.get("batch_first"))
        self.layer = kind(5, 6, **options)
        self.ways = 2 if options.get("bidirectional") else 1
        self.out = nn.Linear(6 * self.ways, 3)
        self.start = nn.Parameter(torch.rand(int(options.get("num_layers", 1)) * self.ways, 1, 6))

    def forward(self, x: Tensor) -> Tensor:
        x = x if self.first else x.transpose(0, 1)
        if self.reads == "from a start":
            y, state = self.layer(x, self.start.expand(-1, x.shape[0 if self.first else 1], -1))
        else:
            y, state = self.layer(x)
        if self.reads == "all":
            return self.out(y if self.first else y.transpose(0, 1))
        if self.reads == "states":
            h = state[0] if isinstance(state, tuple) else state
            return self.out(torch.cat([h[-2], h[-1]], 1) if self.ways == 2 else h[-1])
        return self.out(y[:, -1] if self.first else y[-1])


NETS: dict[str, tuple[Any, str, dict[str, Any]]] = {
    "gru": (nn.GRU, "last", {"batch_first": True}),
    "gru both ways, twice": (
        nn.GRU, "states", {"batch_first": True, "bidirectional": True, "num_layers": 2}),
    "gru from a start": (nn.GRU, "from a start", {"bias": False}),
    "lstm twice": (nn.LSTM, "states", {"batch_first": True, "num_layers": 2}),
    "lstm both ways, samples second": (nn.LSTM, "all", {"bidirectional": True}),
    "tanh": (nn.RNN, "all", {}),
    "relu, both ways": (
        nn.RNN, "states", {"nonlinearity": "relu", "bidirectional": True, "batch_first": True}),
}  # fmt: skip


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    logging.disable(logging.CRITICAL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("name", NETS)
def test_torch_and_onnx_runtime_agree_to_a_hundred_thousandth(name: str, tmp_path: Path) -> None:
    """The float interpreter on what was read from torch, and from its exporter's file."""
    kind, reads, options = NETS[name]
    model, x = Net(kind, reads, **options).eval(), draw(4, 7, 5)
    with torch.no_grad():
        want = model(x)
    torch.testing.assert_close(run(read_torch(model, x[:1]), x), want, atol=1e-5, rtol=0)
    path = tmp_path / "net.onnx"
    axes = {"x": {0: "batch"}}
    torch.onnx.export(model, (x,), path, dynamo=False, input_names=["x"], dynamic_axes=axes)
    (runtime,) = onnxruntime.InferenceSession(path).run(None, {"x": x.numpy()})
    found = run(read_onnx(path), x)
    np.testing.assert_allclose(found.numpy(), runtime, atol=1e-5, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize("fixed", [False, True])
def test_the_newer_exporter_is_read_too(fixed: bool, tmp_path: Path) -> None:
    """Its Reshapes take sizes from Shape; with a batch of one, axes of one are told apart."""
    kind, reads, options = NETS["lstm twice"]
    model, x, path = Net(kind, reads, **options).eval(), draw(4, 7, 5), tmp_path / "net.onnx"
    sizes: dict[str, Any] = {} if fixed else {"dynamic_shapes": ({0: Dim("batch")},)}
    torch.onnx.export(model, (x[:1] if fixed else x,), path, dynamo=True, verbose=False, **sizes)
    torch.testing.assert_close(run(read_onnx(path), x), model(x), atol=1e-5, rtol=0)


@pytest.fixture(scope="module")
def gru() -> Graph:
    return read_torch(Net(nn.GRU, "last", batch_first=True), torch.rand(1, 7, 5))


def test_cells_are_made_of_ordinary_nodes_with_qualified_names(gru: Graph) -> None:
    names = {name: type(node.op).__name__ for name, node in nested_nodes(gru)}
    assert names["layer"] == "Scan" and names["layer/reset.x"] == "Linear"
    assert (names["layer/update"], names["layer/carried"]) == ("Sigmoid", "Multiply")
    told = inspect_graph("gru", gru)
    assert {node.name for node in told.nodes} >= set(names)
    assert all(node.converts for node in told.nodes)
    assert told.parameters == sum(p.numel() for p in nn.GRU(5, 6).parameters()) + 6 * 3 + 3


def test_what_takes_no_recurrent_layer_yet_says_so(gru: Graph) -> None:
    """Each names the node; nothing of a body is passed over in silence."""
    for attempt in (
        lambda: rate_graph(gru, torch.rand(3, 7, 5), Grid.of(0, 1), RateCoding()),
        lambda: SpikingModule(gru, Dynamics(4, 1.0, False)),
    ):
        with pytest.raises(
            UnsupportedError, match="node 'layer' .Scan.: recurrent layers are read, but not"
        ):
            attempt()


class Cell(nn.Module):
    """What a function makes of a layer and of samples."""

    def __init__(self, forward: Callable[..., Tensor], **options: Any) -> None:
        super().__init__()
        kind = options.pop("kind", nn.LSTM)
        self.layer, self.rule = kind(5, 6, batch_first=True, **options), forward

    def forward(self, x: Tensor) -> Tensor:
        return self.rule(self.layer, x)


REFUSED: dict[str, tuple[nn.Module, str]] = {
    "a projection": (Cell(lambda layer, x: layer(x)[0], proj_size=3), "projected"),
    "the cell's state": (Cell(lambda layer, x: layer(x)[1][1][-1]), "final cell state"),
    "a computed start": (
        Cell(lambda layer, x: layer(x, layer(x)[1])[0], kind=nn.GRU), "initial state is computed"),
    "the batch size": (Cell(lambda layer, x: x * x.shape[0]), "batch size"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_variants_that_are_not_taken_are_named(what: str) -> None:
    model, words = REFUSED[what]
    with pytest.raises(Exception, match=words) as caught:
        read_torch(model, torch.rand(1, 7, 5))
    assert type(caught.value).__name__ in ("UnsupportedError", "InputError")
