"""Every field of every kind of record, forged in every way: refused by name, or the network runs.

Killed by these tests: no check of types, of finite numbers, of shapes or of order; a fraction's
exponent read; a size without a bound; a kind of record that no test stores.
"""

import copy
import json
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import draw, forged
from torch import Tensor

from spikemorph.convert import to_spiking
from spikemorph.convert.certificate import certify
from spikemorph.graph import Graph, Input, InputError, Node, SpikemorphError, run
from spikemorph.graph import records as stored_records
from spikemorph.graph.graph import Register
from spikemorph.graph.grid import Grid, Interval
from spikemorph.graph.records import decode, encode
from spikemorph.graph.saving import (
    TensorStore,
    graph_from_plain,
    graph_to_plain,
    load_graph_file,
    save_graph,
)
from spikemorph.layers.activation import Clip, LeakyReLU, Relay, ReLU, Sigmoid, Tanh
from spikemorph.layers.affine import ScaleShift
from spikemorph.layers.convolution import Convolution
from spikemorph.layers.joining import Add, Concat
from spikemorph.layers.ladder import Ladder, Line
from spikemorph.layers.linear import Linear
from spikemorph.layers.multiply import Multiply
from spikemorph.layers.normalisation import BatchNorm
from spikemorph.layers.pooling import AveragePool, GlobalAverage, GlobalMax, MaxPool, SumPool
from spikemorph.layers.readout import Readout, Softmax
from spikemorph.layers.scan import Scan
from spikemorph.layers.shape import Identity, Pad, Reshape, Transpose
from spikemorph.layers.slicing import Narrow
from spikemorph.spiking import DenseEngine, SpikingNetwork, load_network, save_network
from spikemorph.spiking.coding import AnalogFirstStep, BitPlane, Constant, Repeated, Thermometer
from spikemorph.spiking.network import network_from_plain, network_to_plain
from spikemorph.spiking.neurons import IF, few_spikes, group, pow2
from spikemorph.surrogate.folded_network import (
    DeployedNetwork,
    Fire,
    load_deployed,
    run_deployed,
    save_deployed,
)
from spikemorph.surrogate.neuron import Dynamics

FILE = "net.safetensors"
TWO, NONE = (2, 2), ((0, 0), (0, 0))


def floats() -> Graph:
    """One node of every op that float graphs have."""
    ones = torch.ones(2)
    steps: list[Any] = [
        Convolution(draw(2, 1, 3, 3), draw(2), (1, 1), ((1, 1), (1, 0)), (1, 1), 1,
                    torch.ones(2, 1, 3, 3, dtype=torch.bool)),
        BatchNorm(draw(2), ones, ones, draw(2), 1e-5),
        ReLU(), Clip(-1.0, 6.0), LeakyReLU(0.1), Tanh(), Sigmoid(), Relay(), Identity(), Fire(0.5, False),
        ScaleShift(draw(2, 1, 1), torch.tensor(0.5)),
        Pad(((1, 1), (0, 2))),
        MaxPool(TWO, (1, 1), NONE, (1, 1)),
        AveragePool(TWO, (1, 1), ((1, 0), (0, 0)), NONE, True),
        SumPool(TWO, (1, 1), NONE),
        Transpose((0, 1, 3, 2)),
        Narrow(2, 1, 3),
    ]  # fmt: skip
    nodes = [Node("x", Input((1, 6, 6), Interval(Fraction(0), Fraction(1))))]
    for number, op in enumerate(steps):
        nodes.append(Node(f"n{number}", op, (nodes[-1].name,)))
    last = nodes[-1].name
    nodes += [
        Node("sum", Add((torch.tensor(1.0), torch.tensor(0.5))), (last, last)),
        Node("cat", Concat(1), ("sum", last)),
        Node("mean", GlobalAverage(), ("cat",)), Node("most", GlobalMax(), ("cat",)),
        Node("both", Concat(1), ("mean", "most")),
        Node("lines", Reshape((4, 2)), ("both",)),
        Node("scan", Scan(cell(), 1, True), ("lines",)),
        Node("gated", Multiply(), ("scan", "lines")),
        Node("flat", Reshape((8,)), ("gated",)),
        Node("head", Linear(draw(3, 8), draw(3), torch.ones(3, 8, dtype=torch.bool)), ("flat",)),
        Node("soft", Softmax(1), ("head",)),
    ]  # fmt: skip
    return Graph(tuple(nodes), ("x",), ("soft",))


def cell() -> Graph:
    """The body of a recurrent layer: a register, and what it takes."""
    entries = Node("x", Input((2,))), Node("h", Input((2,)))
    steps = Node("y", Multiply(), ("x", "h")), Node("z", Tanh(), ("y",))
    return Graph((*entries, *steps), ("x",), ("z",), (Register("h", torch.ones(2), "y"),))


def spikes() -> SpikingNetwork:
    """An integer graph with a ladder that has rungs and a line, and a longer one of a line."""
    line = Line(torch.tensor([3, 4]), torch.tensor([1, 1]), torch.tensor([1, 2]))
    weight = torch.tensor([[1, -2], [2, 1]], dtype=torch.int8)
    entry = Input((2,), Grid(Fraction(1, 3), 0, 3, Interval(Fraction(0), Fraction(1))))
    nodes = (
        Node("x", entry),
        Node("a", Linear(weight, torch.tensor([0, 1])), ("x",)),
        Node("b", Ladder(line.rungs(0, 4), 0, 4, Fraction(1, 2), line), ("a",)),
        Node("c", Linear(weight, None), ("b",)),
        Node("d", Ladder(None, 0, 300, Fraction(1, 2), line), ("c",)),
        Node("e", Linear(weight, None), ("d",)),
        Node("f", Readout(torch.tensor([1, 2]), Fraction(1, 8), (Softmax(1), Sigmoid())), ("e",)),
    )
    return to_spiking(Graph(nodes, ("x",), ("f",)), group(3), Repeated(4))


def exercise_graph(plain: Any, tensors: dict[str, Tensor]) -> None:
    graph = graph_from_plain(plain, tensors, FILE)
    run(graph, torch.rand(2, *graph.entry.shape))


def exercise_network(plain: Any, tensors: dict[str, Tensor]) -> None:
    network = network_from_plain(plain, tensors, FILE)
    certify(network, 3)
    x = torch.ones(2, *network.entry.shape, dtype=torch.int64)
    network.readout.real(DenseEngine(network).run(x, 3).outputs[-1])


def records(plain: Any, trail: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], str, str]]:
    """Where every field of every record stands: the way to it, the record's name, the field's."""
    if isinstance(plain, dict):
        for field in plain["fields"] if "record" in plain else ():
            yield (*trail, "fields", field), plain["record"], field
    items = plain.items() if isinstance(plain, dict) else enumerate(plain)
    for key, item in items:
        if isinstance(item, dict | list):
            yield from records(item, (*trail, key))


PLAIN = [
    None, True, -1, 0, 3, 2**40, -(2**62) - 1, 2**70, 0.5, 1e308, float("inf"), float("nan"), "",
    "\u202e\x1b[31m", "t" * 20_000, [], [[]], [0], [-1, -1], [2**30, 2**30], [[2**19, 2**19]] * 2, {},
    {"fraction": "1e100000000"}, {"fraction": "1/0"}, {"fraction": "-1"}, {"fraction": "0"},
    {"fraction": "1" + "0" * 2000}, {"fraction": "1/1" + "0" * 400}, {"fraction": "٣"},
    {"tensor": "gone"}, {"record": "ReLU", "fields": {}}, {"record": "Gone", "fields": {}},
]  # fmt: skip
TENSORS = {
    "of no axes": torch.tensor(3),
    "empty": torch.zeros(0, dtype=torch.int64),
    "of five axes": torch.ones(1, 1, 1, 1, 1),
    "of truths": torch.tensor([True, False]),
    "complex": torch.ones(2, dtype=torch.complex64),
    "least": torch.tensor([-(2**63), 2**63 - 1]),
    "large": torch.tensor([2**62, -(2**62)]),
    "negative": torch.tensor([-1, -1]),
    "falling": torch.tensor([[4, 3, 2, 1], [4, 3, 2, 1]]),
    "not finite": torch.tensor([float("nan"), float("inf")]),
    "tiny": torch.tensor([1e-45, 3e38]),
    "long": torch.zeros(4000),
    "wide": torch.ones(2, 300, dtype=torch.int64),
}


def alike(tensor: Tensor) -> dict[str, Tensor]:
    """Tensors of a given one's shape, with other content."""
    shape = tensor.shape
    return {
        "zeros": torch.zeros(shape, dtype=torch.int64),
        "all negative": torch.full(shape, -1, dtype=torch.int64),
        "all not finite": torch.full(shape, float("nan")),
        "all large": torch.full(shape, 2**62),
        "all true": torch.ones(shape, dtype=torch.bool),
        "real": torch.full(shape, 0.5, dtype=torch.float64),
    }


def at(plain: Any, trail: tuple[Any, ...]) -> Any:
    for key in trail:
        plain = plain[key]
    return plain


STORED = {}
_store = TensorStore()
STORED["graph"] = (graph_to_plain(floats(), _store), _store.tensors, exercise_graph)
_store = TensorStore()
STORED["network"] = (network_to_plain(spikes(), _store), _store.tensors, exercise_network)
CASES = [
    (name, trail, kind, field)
    for name, (plain, _, _) in STORED.items()
    for trail, kind, field in records(plain)
]


@pytest.mark.parametrize("name", STORED)
def test_what_is_honest_is_read_and_runs(name: str) -> None:
    plain, tensors, exercise = STORED[name]
    exercise(json.loads(json.dumps(plain)), tensors)


@pytest.mark.parametrize(
    ("name", "trail", "kind", "field"),
    CASES,
    ids=[f"{c[2]}.{c[3]}-{k}" for k, c in enumerate(CASES)],
)
def test_a_forged_field_is_refused_by_name_or_the_network_runs(
    name: str, trail: tuple[Any, ...], kind: str, field: str
) -> None:
    plain, tensors, exercise = STORED[name]
    honest = at(plain, trail)
    held_by = honest.get("tensor") if isinstance(honest, dict) else None
    same = {} if held_by is None else alike(tensors[held_by])
    held = dict(tensors) | TENSORS | same
    for forgery in [*PLAIN, *({"tensor": key} for key in (*TENSORS, *same))]:
        changed = copy.deepcopy(plain)
        at(changed, trail[:-1])[field] = forgery
        try:
            exercise(changed, held)
        except InputError as error:
            assert FILE in str(error) or "\n" not in str(error)
            assert len(str(error)) < 700 and str(error).isprintable()
        except SpikemorphError:
            pass  # it was read, and its computation is refused by name


TYPED = [case for case in CASES if case[3] in {
    "weight", "mask", "stride", "padding", "groups", "rungs", "threshold", "smin", "smax", "unit",
    "slope", "eps", "variance", "axis", "order", "shape", "kernel", "factors", "step", "pieces", "bits",
}]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "trail", "kind", "field"),
    TYPED,
    ids=[f"{c[2]}.{c[3]}-{k}" for k, c in enumerate(TYPED)],
)
@pytest.mark.parametrize("forgery", ["\x1b[31m", {"tensor": "complex"}, {"fraction": "1e9"}, True])
def test_the_error_names_file_and_field(
    name: str, trail: tuple[Any, ...], kind: str, field: str, forgery: Any
) -> None:
    plain, tensors, exercise = STORED[name]
    changed = copy.deepcopy(plain)
    at(changed, trail[:-1])[field] = forgery
    with pytest.raises(InputError, match=rf"net\.safetensors, .*field {field}"):
        exercise(changed, dict(tensors) | TENSORS)


def test_no_kind_of_record_is_left_out() -> None:
    known = {
        name
        for name, kind in stored_records._KINDS.items()
        if kind.__module__.startswith("spikemorph.")
    }
    others = {"Dynamics", "AnalogFirstStep", "BitPlane", "Constant", "Thermometer"}  # below
    assert known - {kind for _, _, kind, _ in CASES} - others == {
        "Coding", "ReLU", "Tanh", "Sigmoid", "Relay", "Identity", "Multiply",
        "GlobalAverage", "GlobalMax",
    }  # fmt: skip  # an abstract one, and those without fields


@pytest.mark.parametrize("value", [
    Dynamics(3, 0.5, False), AnalogFirstStep(), BitPlane(), Constant(), Thermometer(3), IF(), pow2(),
    few_spikes(3),
])  # fmt: skip
def test_settings_come_back_or_are_refused(value: Any) -> None:
    plain = encode(value, TensorStore())
    assert decode(plain, {}, FILE) == value
    for field in plain["fields"]:
        for forgery in PLAIN:
            changed = copy.deepcopy(plain)
            changed["fields"][field] = forgery
            try:
                found = decode(changed, TENSORS, FILE)
            except InputError as error:
                assert str(error).startswith(FILE)
            else:
                assert type(found) is type(value)


@pytest.mark.parametrize(("node", "field", "forgery", "words"), [
    (1, "bias", torch.tensor([1, 2, 3]), r"field bias: has shape \(3,\), .*: out is 2"),
    (2, "rungs", torch.tensor([[4, 3, 2, 1]] * 2), "rungs of a ladder must not fall"),
    (2, "rungs", torch.tensor([[1, 2, 3]] * 2), "one rung for every step"),
    (6, "factors", torch.tensor([[1, 2]]), r"field factors: has shape \(1, 2\)"),
])  # fmt: skip
def test_sizes_that_fields_share_and_rungs_that_fall(
    node: int, field: str, forgery: Tensor, words: str
) -> None:
    plain, tensors, exercise = STORED["network"]
    changed = copy.deepcopy(plain)
    changed["graph"]["nodes"][node]["op"]["fields"][field] = {"tensor": "forged"}
    with pytest.raises(InputError, match=rf"net\.safetensors, node '\w'.*{words}"):
        exercise(changed, dict(tensors) | {"forged": forgery})


def test_a_mask_has_the_shape_of_its_weight() -> None:
    plain, tensors, exercise = STORED["graph"]
    changed = copy.deepcopy(plain)
    changed["nodes"][1]["op"]["fields"]["mask"] = {"tensor": "forged"}
    forgery = {"forged": torch.ones(2, 1, 1, 3, dtype=torch.bool)}
    with pytest.raises(InputError, match=r"field mask: has shape \(2, 1, 1, 3\)"):
        exercise(changed, dict(tensors) | forgery)


@pytest.mark.parametrize(("path", "forgery", "words"), [
    (("nodes", 1, "name"), 7, "name"),
    (("nodes", 1, "name"), "x", "two nodes are named 'x'"),
    (("nodes", 1, "inputs"), "x", "inputs"),
    (("nodes", 1, "inputs"), ["x", "x"], "'n0'"),
    (("nodes", 1, "inputs"), ["gone"], "'n0' reads"),
    (("nodes", 1, "inputs"), [["x"]], "inputs"),
    (("nodes", 1, "op"), {"record": "Line", "fields": {}}, "'n0'"),
    (("nodes", 1, "op"), None, "'n0'"),
    (("nodes",), {"a": 1}, "nodes"),
    (("nodes", 3), [], "nodes"),
    (("inputs",), None, "inputs"),
    (("inputs",), ["x", "x"], "input"),
    (("outputs",), ["gone"], "gone"),
    (("outputs",), [], "output"),
])  # fmt: skip
def test_a_forged_graph_is_refused(path: tuple[Any, ...], forgery: Any, words: str) -> None:
    plain, tensors, _ = STORED["graph"]
    changed = copy.deepcopy(plain)
    at(changed, path[:-1])[path[-1]] = forgery
    with pytest.raises(InputError, match=words) as caught:
        graph_from_plain(changed, tensors, FILE)
    assert str(caught.value).startswith(FILE)


@pytest.mark.parametrize("field", ["padding", "kernel"])
def test_what_would_take_gigabytes_is_refused_by_its_node(field: str, tmp_path: Path) -> None:
    """A pool whose padding is a million cells wide computes nothing before it is refused."""
    entry = Input((1, 6, 6), Interval(Fraction(0), Fraction(1)))
    huge = 2**20
    pads = ((huge, huge),) * 2
    pool = AveragePool((huge, huge) if field == "kernel" else TWO, (huge, huge), pads, NONE, True)
    graph = Graph((Node("x", entry), Node("p", pool, ("x",))), ("x",), ("p",))
    store = TensorStore()
    with pytest.raises(InputError, match=r"node 'p' .*computes \d+ numbers for one sample"):
        graph_from_plain(graph_to_plain(graph, store), store.tensors, FILE)


def test_forged_files_of_valid_hash_are_refused_by_field(tmp_path: Path) -> None:
    """The hostile files of format 2, forged anew: a text, a rung of no axes, an endless fraction."""
    path = tmp_path / FILE
    save_network(path, spikes(), {})

    def change(plain: Any, tensors: dict[str, Tensor], node: int, field: str, value: Any) -> None:
        plain["network"]["graph"]["nodes"][node]["op"]["fields"][field] = value
        tensors["scalar"] = torch.tensor(3)

    for node, field, value in (
        (6, "unit", "\u202e\x1b[31m"),
        (2, "rungs", {"tensor": "scalar"}),
        (2, "unit", {"fraction": "1e100000000"}),
        (4, "smax", 2**50),
    ):
        other = forged(
            path, "network", lambda p, t, n=node, f=field, v=value: change(p, t, n, f, v)
        )
        with pytest.raises(InputError, match=rf"forged.*node '\w', field {field}"):
            load_network(other)
    graph = tmp_path / "graph.safetensors"
    save_graph(graph, floats())
    masked = forged(graph, "graph", lambda p, t: p["nodes"][1]["op"]["fields"].update(
        mask=p["nodes"][1]["op"]["fields"]["weight"]))  # fmt: skip
    with pytest.raises(InputError, match=r"node 'n0', field mask: holds torch.float32"):
        load_graph_file(masked)


def test_a_forged_deployed_network_is_refused(tmp_path: Path) -> None:
    entry = Input((4,), Interval(Fraction(0), Fraction(1)))
    nodes = (
        Node("x", entry),
        Node("l", Linear(draw(3, 4), draw(3)), ("x",)),
        Node("f", Fire(), ("l",)),
    )
    path = tmp_path / FILE
    save_deployed(path, DeployedNetwork(Graph(nodes, ("x",), ("f",)), 2), {})
    network, _ = load_deployed(path)
    assert run_deployed(network, torch.rand(2, 4)).shape == (2, 3)
    for change, words in (
        (lambda p, t: p["graph"]["nodes"][1]["op"]["fields"].update(bias="b"), "field bias"),
        (lambda p, t: p.update(steps=2**40), "steps"),
        (lambda p, t: p.update(steps=True), "steps"),
        (lambda p, t: p.update(notes=[1]), "notes"),
        (lambda p, t: p.pop("notes"), "notes"),
    ):
        with pytest.raises(InputError, match=words):
            load_deployed(forged(path, "deployed", change))
