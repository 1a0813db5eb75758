"""What a legal graph is, and that saving one loses nothing and leaves nothing half done."""

import errno
import json
import os
from collections.abc import Callable
from dataclasses import fields
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import parts, put
from safetensors.torch import load_file, save_file
from torch import Tensor

from spikemorph.graph import Graph, GraphError, Input, InputError, Node, Op, UnsupportedError, run
from spikemorph.graph.grid import Grid
from spikemorph.graph.interpret import require_rows, run_integers, shapes
from spikemorph.graph.saving import content_hash, file_kind, graph_hash, load_graph_file, save_graph
from spikemorph.graph.tables import Table, on_integers
from spikemorph.graph.watching import Watcher
from spikemorph.layers.activation import Clip, ReLU, Sigmoid
from spikemorph.layers.affine import ScaleShift
from spikemorph.layers.convolution import Convolution
from spikemorph.layers.joining import Add, Concat
from spikemorph.layers.linear import Linear
from spikemorph.layers.normalisation import BatchNorm
from spikemorph.layers.pooling import AveragePool, GlobalAverage, MaxPool
from spikemorph.layers.readout import Readout, Softmax
from spikemorph.layers.shape import Pad, Reshape, Transpose

X = Node("x", Input((2, 6, 5)))


def network() -> Graph:
    """One of most ops; two convolutions share one weight and a transposed view shares another."""
    torch.manual_seed(0)
    weight, matrix = torch.randn(2, 2, 3, 3), torch.randn(4, 4)
    same, ones = ((1, 1), (1, 1)), (1, 1)
    nodes = (
        X,
        Node("norm", BatchNorm(*torch.rand(4, 2).double(), 1e-5), ("x",)),
        Node("c1", Convolution(weight, torch.randn(2), ones, same, ones), ("norm",)),
        Node("r1", ReLU(), ("c1",)),
        Node("c2", Convolution(weight, None, ones, same, ones, groups=1), ("r1",)),
        Node("sum", Add((torch.tensor(1.0), torch.tensor(-0.5))), ("c2", "r1")),
        Node("cat", Concat(1), ("sum", "x")),
        Node("pool", MaxPool((2, 2), (2, 2), ((0, 1), (0, 0)), ones), ("cat",)),
        Node("mean", AveragePool(ones, ones, ((0, 0),) * 2, ((0, 0),) * 2, True), ("pool",)),
        Node("pad", Pad(((0, 1), (1, 0))), ("mean",)),
        Node("turn", Transpose((0, 1, 3, 2)), ("pad",)),
        Node("all", GlobalAverage(), ("turn",)),
        Node("flat", Reshape((4,)), ("all",)),
        Node("l1", Linear(matrix, torch.randn(4)), ("flat",)),
        Node("clip", Clip(-float("inf"), 6.0), ("l1",)),
        Node("l2", Linear(matrix.t(), None), ("clip",)),
        Node("scale", ScaleShift(torch.tensor(2.0), torch.randn(4)), ("l2",)),
        Node("y", Softmax(1), ("scale",)),
    )
    return Graph(nodes, ("x",), ("y",))


def test_names_are_given_once() -> None:
    with pytest.raises(GraphError, match="two nodes are named 'a'"):
        Graph((X, Node("a", ReLU(), ("x",)), Node("a", ReLU(), ("x",))), ("x",), ("a",))


def test_a_node_reads_only_nodes_before_it() -> None:
    """So a missing input, a wrong order and a cycle are all refused."""
    a, b = Node("a", ReLU(), ("b",)), Node("b", ReLU(), ("a",))
    for nodes in (
        (X, a),
        (X, a, Node("b", ReLU(), ("x",))),
        (X, a, b),
        (X, Node("a", ReLU(), ("a",))),
    ):
        with pytest.raises(GraphError, match="'a' reads .* before it exists"):
            Graph(nodes, ("x",), ("a",))


def test_inputs_and_outputs_are_there() -> None:
    relu = Node("a", ReLU(), ("x",))
    for inputs, outputs in (
        (("x",), ("ghost",)),
        (("ghost",), ("a",)),
        ((), ("a",)),
        (("a",), ("a",)),
    ):
        with pytest.raises(GraphError):
            Graph((X, relu), inputs, outputs)
    with pytest.raises(GraphError, match="an Input, and only an Input"):
        Graph((X, Node("a", ReLU())), ("x",), ("a",))
    with pytest.raises(GraphError, match="registers must be its Input nodes"):
        Graph((X, Node("z", Input((1,))), relu), ("x",), ("a",))


def test_edits_return_a_graph_and_leave_the_old_one() -> None:
    graph = network()
    before = graph_hash(graph)
    assert "r1" not in graph.rename("r1", "c1")
    assert graph.rename("r1", "c1")["c2"].inputs == ("c1",)
    assert graph.fresh("c1") == "c1.1" and graph.fresh("new") == "new"
    assert graph.only_user("c1") is graph["r1"] and graph.only_user("r1") is None
    assert graph_hash(graph) == before


def test_a_sample_of_another_shape_names_the_input_and_a_misfit_the_node() -> None:
    graph = network()
    with pytest.raises(
        GraphError, match=r"'x' takes samples of shape \(2, 6, 5\), got \(2, 6, 6\)"
    ):
        run(graph, torch.zeros(1, 2, 6, 6))
    wrong = Graph((X, Node("l", Linear(torch.ones(3, 4), None), ("x",))), ("x",), ("l",))
    for compute in (lambda: run(wrong, torch.zeros(1, 2, 6, 5)), lambda: shapes(wrong)):
        with pytest.raises(GraphError, match=r"'l' \(Linear\).*\(2, 6, 5\)"):
            compute()


def test_only_graphs_of_one_input_and_one_output_run() -> None:
    graph = network()
    for outputs in ((), ("y", "l1")):
        with pytest.raises(GraphError, match="one is expected"):
            run(Graph(graph.nodes, ("x",), outputs), torch.zeros(1, 2, 6, 5))


def test_shapes_are_those_of_the_values() -> None:
    graph, x = network(), torch.zeros(3, 2, 6, 5)
    for name, shape in shapes(graph).items():
        assert run(Graph(graph.nodes, ("x",), (name,)), x).shape == (3, *shape)


def test_gradients_reach_the_sample_and_the_weights() -> None:
    graph, x = network(), torch.randn(2, 2, 6, 5, requires_grad=True)
    weight: Any = graph["c1"].op
    weight.weight.requires_grad_()
    run(graph, x)[:, 0].sum().backward()
    assert x.grad is not None and x.grad.abs().sum() > 0
    assert weight.weight.grad.abs().sum() > 0


def test_every_node_without_a_meaning_on_integers_is_named() -> None:
    graph = network()
    with pytest.raises(UnsupportedError) as caught:
        run_integers(graph, torch.zeros(1, 2, 6, 5, dtype=torch.int64))
    named = {problem.node for problem in caught.value.problems}
    assert named == {n.name for n in graph.nodes[1:] if type(n.op) not in on_integers}
    assert {"norm", "r1", "clip", "y"} <= named
    require_rows(Graph((X,), ("x",), ("x",)), on_integers, "")


def test_a_second_row_for_a_key_is_refused() -> None:
    table: Table[Callable[[], int]] = Table("numbers")
    table("a", "b")(lambda: 1)
    with pytest.raises(ValueError, match="numbers already has a row for b"):
        table("b")(lambda: 2)
    assert table["b"]() == 1 and "c" not in table


def values(op: Op) -> list[Any]:
    return [getattr(op, field.name) for field in fields(op)]


def identical(left: Any, right: Any) -> bool:
    """Bit by bit, type by type."""
    if isinstance(left, Tensor):
        raw = [t.contiguous().reshape(-1).view(torch.uint8) for t in (left, right)]
        return left.dtype == right.dtype and left.shape == right.shape and torch.equal(*raw)
    if isinstance(left, tuple):
        return len(left) == len(right) and all(map(identical, left, right))
    if isinstance(left, Op):
        return type(left) is type(right) and identical(tuple(values(left)), tuple(values(right)))
    return type(left) is type(right) and bool(left == right)


def test_a_graph_comes_back_bit_by_bit(tmp_path: Path) -> None:
    """NaN payloads and negative zeros too; ties stay ties, views of one tensor too."""
    graph, path = network(), tmp_path / "net.safetensors"
    odd: Any = graph["l1"].op
    odd.bias[:2] = torch.tensor([-0.0, 1e-45])
    save_graph(path, graph)
    back = load_graph_file(path)
    assert (back.inputs, back.outputs) == (graph.inputs, graph.outputs)
    for old, new in zip(graph.nodes, back.nodes, strict=True):
        assert (old.name, old.inputs) == (new.name, new.inputs)
        assert identical(old.op, new.op), old.name
    assert back["c1"].op.weight is back["c2"].op.weight  # type: ignore[attr-defined]
    assert graph_hash(back) == graph_hash(graph)
    assert file_kind(path) == "graph"


def test_fractions_grids_and_integers_come_back(tmp_path: Path) -> None:
    grid = Grid(Fraction(1, 255), 0, 255)
    read_out = Readout(torch.tensor([3, 2**53 + 1]), Fraction(2, 7), (Softmax(1), Sigmoid()))
    nodes = (Node("x", Input((2,), grid)), Node("y", read_out, ("x",)))
    graph, path = Graph(nodes, ("x",), ("y",)), tmp_path / "net.safetensors"
    save_graph(path, graph)
    back = load_graph_file(path)
    assert back["x"].op.grid == grid  # type: ignore[attr-defined]
    assert identical(back["y"].op, read_out)


def test_the_hash_sees_everything_and_without_names_all_but_names() -> None:
    graph = network()
    turned: Any = graph["c1"].op
    nodes = [Node(f"{n.name}!", n.op, tuple(f"{i}!" for i in n.inputs)) for n in graph.nodes]
    renamed = Graph(tuple(nodes), ("x!",), ("y!",))
    assert graph_hash(renamed) != graph_hash(graph)
    assert graph_hash(renamed, names=False) == graph_hash(graph, names=False)
    before = graph_hash(graph, names=False)
    turned.bias[0] = torch.nextafter(turned.bias[0], torch.tensor(9.0))
    assert graph_hash(graph, names=False) != before


def refused(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        load_graph_file(path)
    assert str(path) in str(caught.value)
    return str(caught.value)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "net.safetensors"
    save_graph(path, network())
    return path


def test_one_changed_bit_of_a_tensor_is_noticed(saved: Path) -> None:
    header, rest = parts(saved)
    for place in range(0, len(rest), max(1, len(rest) // 40)):
        put(saved, header, rest[:place] + bytes([rest[place] ^ 1]) + rest[place + 1 :])
        assert "hash" in refused(saved)


@pytest.mark.parametrize(
    ("old", "new"),
    [("ReLU", "Tanh"), ('"groups": 1', '"groups": 2'), ('"c1"', '"c9"'), ("t1", "t2")],
)
def test_a_changed_structure_is_noticed(old: str, new: str, saved: Path) -> None:
    header, rest = parts(saved)
    meta = header["__metadata__"]
    assert old in meta["structure"]
    meta["structure"] = meta["structure"].replace(old, new)
    put(saved, header, rest)
    assert "hash" in refused(saved)


def test_a_truncated_file_is_refused(saved: Path) -> None:
    whole = saved.read_bytes()
    for length in [0, 1, 7, 8, 9, 200, len(whole) // 2, len(whole) - 1]:
        saved.write_bytes(whole[:length])
        refused(saved)
    saved.unlink()
    assert "no such file" in refused(saved)


def forge(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change the structure and put the right hash beside it, as a careful forger would."""
    from_file, rest = parts(path)
    meta = from_file["__metadata__"]
    plain = json.loads(meta["structure"])
    change(plain)
    meta["structure"] = json.dumps(plain, sort_keys=True)
    put(path, from_file, rest)
    meta["sha256"] = content_hash(plain, load_file(path))
    put(path, from_file, rest)


FORGERIES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "an unknown record": lambda p: p["nodes"][3]["op"].update(record="Popen"),
    "a record that is no op": lambda p: p["nodes"][3].update(
        op={"record": "Grid", "fields": {"step": {"fraction": "1/2"}, "low": 0, "high": 1}}),
    "a field too many": lambda p: p["nodes"][3]["op"]["fields"].update(more=1),
    "a field too few": lambda p: p["nodes"][2]["op"]["fields"].pop("stride"),
    "a field that has a default left out": lambda p: p["nodes"][4]["op"]["fields"].pop("groups"),
    "a tensor that is not there": lambda p: p["nodes"][2]["op"]["fields"].update(
        weight={"tensor": "t99"}),
    "a number where a record should be": lambda p: p["nodes"][3].update(op=7),
    "an op that its class refuses": lambda p: p["nodes"][14]["op"]["fields"].update(low=9.0),
    "no nodes": lambda p: p.pop("nodes"),
    "nodes that are no list": lambda p: p.update(nodes=3),
    "a node without a name": lambda p: p["nodes"][3].pop("name"),
    "a cycle": lambda p: p["nodes"][2].update(inputs=["c2"]),
    "two nodes of one name": lambda p: p["nodes"][3].update(name="c1"),
    "inputs that are no names": lambda p: p["nodes"][3].update(inputs=[["c1"]]),
    "outputs that are no nodes": lambda p: p.update(outputs=["ghost"]),
    "a fraction without end": lambda p: p["nodes"][3]["op"].update(record="Clip", fields={
        "low": {"fraction": "1/0"}, "high": 1.0}),
}  # fmt: skip


@pytest.mark.parametrize("what", FORGERIES)
def test_a_structure_that_is_no_graph_is_refused(what: str, saved: Path) -> None:
    """Even where the hash fits."""
    forge(saved, FORGERIES[what])
    assert "hash does not match" not in refused(saved)


def test_files_of_another_kind_are_refused(saved: Path) -> None:
    save_file({"a": torch.ones(2)}, saved)
    assert "not a spikemorph graph" in refused(saved)
    saved.write_bytes(b"PK\x03\x04 no safetensors")
    refused(saved)


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a new file nor a change of the old one."""
    path = tmp_path / "net.safetensors"
    save_graph(path, network())
    whole = path.read_bytes()

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for call in ("fsync", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(os, call, full)
            patch.setattr(Path, "replace", full if call == "replace" else Path.replace)
            with pytest.raises(InputError, match="No space left") as caught:
                save_graph(path, Graph((X,), ("x",), ("x",)))
        assert str(path) in str(caught.value)
        assert [item.name for item in tmp_path.iterdir()] == [path.name]
        assert path.read_bytes() == whole


def test_a_folder_that_is_missing_or_closed_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be written"):
        save_graph(tmp_path / "none" / "net.safetensors", network())
    for folder in (tmp_path, Path(), Path("/")):
        with pytest.raises(InputError, match="is a folder"):
            save_graph(folder, network())


def test_a_saved_file_has_the_permissions_of_any_other(saved: Path) -> None:
    other = saved.parent / "other"
    other.touch()
    assert saved.stat().st_mode == other.stat().st_mode


def test_to_see_what_torch_computes_its_compiler_is_not_loaded() -> None:
    """torch wraps how a dispatch mode sees operators, and the wrapper loads the compiler."""

    class Sees(Watcher):
        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            return func(*args, **(kwargs or {}))

    assert not hasattr(Sees.__torch_dispatch__, "__wrapped__")
