"""Builders and comparisons that several test files share, as fixtures."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import helper, numpy_helper
from torch import Tensor

from spikemorph.cli import main
from spikemorph.cli.output import out as console
from spikemorph.cli.output import progress_console
from spikemorph.convert import canonical, read_onnx
from spikemorph.graph import Graph, Input, Node, run
from spikemorph.graph.grid import Grid
from spikemorph.layers.ladder import Ladder, Line
from spikemorph.spiking import DenseEngine, ReferenceEngine, SpikingNetwork, Trace

onnxruntime.set_default_logger_severity(4)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Networks this small only lose by sharing the work, most of all on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def nothing_fetched(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: Any
) -> None:
    """Only tests marked `network` read what is fetched, so that no other depends on the cache."""
    if request.node.get_closest_marker("network") is not None:
        return
    monkeypatch.setenv("SPIKEMORPH_HOME", str(tmp_path_factory.getbasetemp() / "nothing-fetched"))

    def refuse() -> Path:
        raise AssertionError("this test reads what is fetched: mark it network, let it skip")

    monkeypatch.setattr("spikemorph.zoo.fetch.default_home", refuse)


def random_array(*shape: int, seed: int = 0) -> Any:
    """Standard normal float32 numbers."""
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


def build_onnx(
    nodes: Sequence[onnx.NodeProto],
    shape: Sequence[int | str | None],
    weights: Mapping[str, Any] | None = None,
    version: int = 13,
    output: str = "y",
    *,
    weights_are_inputs: bool = False,
) -> onnx.ModelProto:
    """A model from x of `shape` (batch first, text or None where open) to `output`."""
    weights = weights or {}
    entries = [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, shape)]
    stored = [numpy_helper.from_array(np.asarray(a), name) for name, a in weights.items()]
    if weights_are_inputs:
        entries += [
            helper.make_tensor_value_info(item.name, item.data_type, item.dims) for item in stored
        ]
    out = helper.make_tensor_value_info(output, onnx.TensorProto.FLOAT, None)
    graph = helper.make_graph(list(nodes), "net", entries, [out], stored)
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", version)], ir_version=min(version + 3, 8)
    )


@pytest.fixture
def write_onnx(tmp_path: Path) -> Callable[..., Path]:
    """Builds a model as `build_onnx` does and saves it."""

    def write(*arguments: Any, **options: Any) -> Path:
        path = tmp_path / "model.onnx"
        path.write_bytes(build_onnx(*arguments, **options).SerializeToString())
        return path

    return write


def expected(path: Path, x: Any) -> Any:
    """What ONNX Runtime computes."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: x})[0]


def relative_error(got: Tensor, want: Any) -> float:
    """The largest difference over the largest expected value; infinite where shapes differ."""
    want = torch.from_numpy(want.copy()) if isinstance(want, np.ndarray) else want
    if got.shape != want.shape:
        return float("inf")
    return float((got - want).abs().max() / want.abs().max().clamp(min=1e-12))


@pytest.fixture
def error_of() -> Callable[[Tensor, Any], float]:
    return relative_error


@pytest.fixture
def agree() -> Callable[..., Graph]:
    """Reads a file and compares it, and its canonical form, with ONNX Runtime on random samples."""

    def compare(path: Path, shape: Sequence[int]) -> Graph:
        graph = read_onnx(path, tuple(shape))
        x = random_array(*shape, seed=7)
        want = expected(path, x)
        for form in (graph, canonical(graph)):
            assert relative_error(run(form, torch.from_numpy(x)), want) <= 1e-5
        return graph

    return compare


def structure(graph: Graph) -> list[tuple[Any, ...]]:
    """Every node without its name: op, where it reads, settings, and its tensors' shapes."""
    number = {node.name: index for index, node in enumerate(graph.nodes)}
    rows = []
    for node in graph.nodes:
        content = [(f.name, getattr(node.op, f.name)) for f in fields(node.op)]
        plain = tuple((k, tuple(v.shape) if isinstance(v, Tensor) else v) for k, v in content)
        rows.append((type(node.op).__name__, tuple(number[i] for i in node.inputs), plain))
    return rows


def tensors(graph: Graph) -> list[Tensor]:
    """All tensors of all ops, in order."""
    values = [getattr(node.op, f.name) for node in graph.nodes for f in fields(node.op)]
    return [value for value in values if isinstance(value, Tensor)]


@pytest.fixture
def same_network() -> Callable[[Graph, Graph], None]:
    """Asserts that two graphs are one network: equal up to names and float64 rounding."""

    def compare(left: Graph, right: Graph) -> None:
        assert structure(left) == structure(right)
        for a, b in zip(tensors(left), tensors(right), strict=True):
            torch.testing.assert_close(a.double(), b.double(), rtol=1e-12, atol=1e-14)

    return compare


@pytest.fixture(scope="session")
def call() -> Callable[..., int]:
    """Runs a command in this process; its exit status."""

    def run_command(*words: object) -> int:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("sys.argv", ["spikemorph", *map(str, words)])
            return main()

    return run_command


@pytest.fixture(scope="session")
def files(call: Callable[..., int], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pruned network, made spiking by every road; not to be changed."""
    folder = tmp_path_factory.mktemp("files")
    pruned = folder / "pruned.safetensors"
    assert call("prune", "zoo:digits_mlp", "--sparsity", "0.5", "--out", pruned) == 0
    words = ("--data", "digits:test:60", "--input-bits", "12", "--out")
    assert call("convert", pruned, *words, folder / "exact.safetensors") == 0
    train = ("--data", "digits:train:200", "--epochs", "1", "--held-out", "40",
             "--objective", "fast", "--eps", "8/255")  # fmt: skip
    timed = ("--road", "through-time", "--steps", "2")
    exact = ("--road", "quantisation-aware", "--input-bits", "12")
    for name, road in {"floats": (), "learnt": exact, "timed": timed}.items():
        out = ("--out", folder / f"{name}.safetensors", "--json", folder / f"{name}.json")
        assert call("finetune", pruned, *train, *road, *out) == 0
    return folder


@pytest.fixture
def spikemorph(
    call: Callable[..., int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Runs a command in a terminal of 80 columns; its exit status, output and errors."""
    monkeypatch.setattr(console, "width", 80)
    monkeypatch.setattr(progress_console, "width", 80)

    def run_command(*words: object) -> tuple[int, str, str]:
        capsys.readouterr()
        status = call(*words)
        shown = capsys.readouterr()
        assert "Traceback" not in shown.err
        return status, shown.out, shown.err

    return run_command


@pytest.fixture(scope="session")
def chain() -> Callable[..., Graph]:
    """Builds a graph from ops in a row, named n0, n1, ...; ``(op, "x", "n1")`` reads others."""

    def build(shape: tuple[int, ...], *steps: Any, grid: Grid | None = None) -> Graph:
        nodes = [Node("x", Input(shape, grid))]
        for index, step in enumerate(steps):
            op, *inputs = step if isinstance(step, tuple) else (step,)
            nodes.append(Node(f"n{index}", op, tuple(inputs) or (nodes[-1].name,)))
        return Graph(tuple(nodes), ("x",), (nodes[-1].name,))

    return build


@pytest.fixture(scope="session")
def even_ladder() -> Callable[..., Ladder]:
    """Builds ``F(C) = floor((scale C + start) / threshold)``, clipped, from whole numbers or lists."""

    def build(threshold: Any, scale: Any, start: Any, smin: int, smax: int | None) -> Ladder:
        columns = (torch.tensor(v).reshape(-1) for v in (threshold, scale, start))
        line = Line(*(c.clone() for c in torch.broadcast_tensors(*columns)))
        rungs = None if smax is None else line.rungs(smin, smax)
        return Ladder(rungs, smin, smax, Fraction(1), line)

    return build


@pytest.fixture(scope="session")
def in_both() -> Callable[..., Trace]:
    """Runs a network by its definition and in the dense engine; they must agree on everything."""

    def run_both(network: SpikingNetwork, x: Tensor, steps: int) -> Trace:
        wanted = ReferenceEngine(network).run(x, steps, record=True)
        found = DenseEngine(network).run(x, steps, record=True)
        for name, train in wanted.trains.items():
            assert torch.equal(found.trains[name], train), name
            assert torch.equal(found.positive[name], wanted.positive[name]), name
            assert torch.equal(found.negative[name], wanted.negative[name]), name
        assert torch.equal(found.outputs, wanted.outputs)
        assert torch.equal(found.settled, wanted.settled)
        return wanted

    return run_both
