"""Graphs with registers: run element by element, saved, hashed, and refused where data does not fit."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import draw, forged
from torch import Tensor, nn

from spikemorph.graph import Graph, GraphError, Input, InputError, Node, run
from spikemorph.graph.graph import Register
from spikemorph.graph.interpret import shapes
from spikemorph.graph.nested import nested_nodes
from spikemorph.graph.saving import (
    TensorStore,
    graph_hash,
    graph_to_plain,
    load_graph_file,
    save_graph,
)
from spikemorph.graph.sequences import advance, along, at_start, run_sequence
from spikemorph.layers.activation import Tanh
from spikemorph.layers.joining import Add
from spikemorph.layers.linear import Linear
from spikemorph.layers.scan import Scan

ONE = torch.tensor(1.0)


def cell(start: Tensor | None = None) -> Graph:
    """``h' = tanh(W x + b + U h)``, 3 features in, 2 out."""
    nodes = (
        Node("x", Input((3,))),
        Node("h", Input((2,))),
        Node("of x", Linear(draw(2, 3), draw(2, seed=1)), ("x",)),
        Node("of h", Linear(draw(2, 2, seed=2), None), ("h",)),
        Node("sum", Add((ONE, ONE)), ("of x", "of h")),
        Node("state", Tanh(), ("sum",)),
    )
    begin = torch.zeros(2) if start is None else start
    return Graph(nodes, ("x",), ("state",), (Register("h", begin, "state"),))


def by_hand(x: Tensor, start: Tensor) -> Tensor:
    h, made = start.expand(len(x), 2), []
    for element in x.unbind(1):
        h = torch.tanh(element @ draw(2, 3).T + draw(2, seed=1) + h @ draw(2, 2, seed=2).T)
        made.append(h)
    return torch.stack(made, 1)


def scanned(reverse: bool = False) -> Graph:
    nodes = Node("x", Input((5, 3))), Node("scan", Scan(cell(), 1, reverse), ("x",))
    return Graph(nodes, ("x",), ("scan",))


def test_registers_take_what_their_nodes_gave_at_the_element_before() -> None:
    start, x = torch.tensor([0.5, -2.0]), draw(4, 6, 3, seed=3)
    torch.testing.assert_close(run_sequence(cell(start), x), by_hand(x, start))
    torch.testing.assert_close(run(scanned(), x[:, :5]), by_hand(x[:, :5], torch.zeros(2)))
    backwards = by_hand(x[:, :5].flip(1), torch.zeros(2)).flip(1)
    torch.testing.assert_close(run(scanned(reverse=True), x[:, :5]), backwards)


def test_state_is_an_argument_and_a_result() -> None:
    """Element by element, stopped and resumed in the middle: the same as all at once, bit for bit."""
    graph, x = cell(), draw(4, 6, 3, seed=3)
    states, made = at_start(graph, x[:, 0]), []
    for index in range(6):
        outputs, states = advance(graph, {"x": x[:, index]}, states)
        made.append(outputs["state"])
        states = {name: value.clone() for name, value in states.items()}
    assert torch.equal(torch.stack(made, 1), run_sequence(graph, x))


def test_a_sample_ends_with_its_own_length() -> None:
    """What lies past it changes nothing, were it no number; its last output stays."""
    graph, x = cell(), draw(3, 6, 3, seed=3)
    x[1, 4:] = torch.nan
    found = run_sequence(graph, x, [6, 4, 1])
    for sample, length in enumerate((6, 4, 1)):
        alone = run_sequence(graph, x[sample : sample + 1, :length])[0]
        torch.testing.assert_close(found[sample, :length], alone)
        assert bool((found[sample, length:] == found[sample, length - 1]).all())


def test_backwards_a_sample_begins_at_its_own_end() -> None:
    """Its registers start there; before, its output is zero."""
    graph, x = cell(torch.tensor([0.5, -2.0])), draw(2, 6, 3, seed=3)
    found = along(graph, {"x": x}, lengths=torch.tensor([6, 4]), reverse=True)
    alone = along(graph, {"x": x[1:, :4]}, reverse=True)
    torch.testing.assert_close(found[1, :4], alone[0])
    assert bool((found[1, 4:] == 0).all())


def test_gradients_pass_the_elements_within_the_length_only() -> None:
    """What is no number behind the length spoils none of them."""
    x = draw(2, 4, 3, seed=3)
    x[1, 2:] = torch.nan
    x.requires_grad_()
    run_sequence(cell(), x, [4, 2])[:, -1].sum().backward()
    assert x.grad is not None and bool((x.grad[1, 2:] == 0).all())
    assert bool((x.grad[0] != 0).all()) and bool((x.grad[1, :2] != 0).all())


def test_torchs_own_layer_is_the_same() -> None:
    layer = nn.RNN(3, 2, batch_first=True)
    with torch.no_grad():
        for name, value in (("ih", draw(2, 3)), ("hh", draw(2, 2, seed=2))):
            getattr(layer, f"weight_{name}_l0").copy_(value)
        layer.bias_ih_l0.copy_(draw(2, seed=1))
        layer.bias_hh_l0.zero_()
        x = draw(4, 6, 3, seed=3)
        torch.testing.assert_close(run_sequence(cell(), x), layer(x)[0])


BAD: dict[str, tuple[Any, Any, str]] = {
    "no element": (draw(2, 0, 3), None, "2 samples of 0 elements"),
    "no sample": (draw(0, 4, 3), None, "0 samples"),
    "a length of zero": (draw(2, 4, 3), [4, 0], "sample 1 has length 0: give 1 to 4"),
    "a length too long": (draw(2, 4, 3), [5, 4], "sample 0 has length 5"),
    "a length too few": (draw(2, 4, 3), [4], "one whole number for each of 2"),
    "half a length": (draw(2, 4, 3), torch.tensor([1.5, 2.0]), "whole number"),
    "lists without lengths": ([draw(4, 3), draw(2, 3)], None, r"of \[2, 4\] elements.*give lengths"),
    "no number": (
        draw(2, 4, 3).index_fill(1, torch.tensor(2), torch.nan), None, "sample 0, element 2 .*finite"),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD)
def test_sequences_that_cannot_be_run_are_refused_in_one_line(what: str) -> None:
    xs, lengths, words = BAD[what]
    with pytest.raises(InputError, match=words) as caught:
        run_sequence(cell(), xs, lengths)
    assert len(str(caught.value).splitlines()) == 1


def test_registers_that_do_not_fit_are_refused() -> None:
    graph = cell()
    (register,) = graph.registers
    for odd, words in (
        (replace(register, start=torch.zeros(3)), "starts in shape"),
        (replace(register, after="nowhere"), "no such node"),
        (replace(register, name="sum"), "must be its Input nodes"),
    ):
        with pytest.raises(GraphError, match=words):
            replace(graph, registers=(odd,))
    with pytest.raises(GraphError, match="must be its Input nodes"):
        replace(graph, registers=(register, register))
    with pytest.raises(GraphError, match="register 'h'.*to take the node 'x'"):
        shapes(replace(graph, registers=(replace(register, after="x"),)))
    with pytest.raises(GraphError, match="run_sequence"):
        run(graph, draw(2, 3))


def test_files_hold_registers_and_bodies(tmp_path: Path) -> None:
    path, x = tmp_path / "g.safetensors", draw(2, 5, 3, seed=3)
    for graph, compute in ((cell(), run_sequence), (scanned(), run)):
        save_graph(path, graph)
        loaded = load_graph_file(path)
        assert graph_hash(loaded) == graph_hash(graph)
        assert torch.equal(compute(loaded, x), compute(graph, x))
    assert [name for name, _ in nested_nodes(scanned())][:3] == ["x", "scan", "scan/x"]


def test_graphs_without_registers_are_stored_as_before() -> None:
    """So that files of before keep their hashes."""
    assert set(graph_to_plain(scanned(), TensorStore())) == {"nodes", "inputs", "outputs"}
    renamed = cell()
    moved = replace(
        renamed,
        nodes=tuple(
            replace(n, name="s", inputs=n.inputs) if n.name == "state" else n for n in renamed.nodes
        ),
        outputs=("s",),
        registers=(replace(renamed.registers[0], after="s"),),
    )
    assert graph_hash(moved) != graph_hash(cell())
    assert graph_hash(moved, names=False) == graph_hash(cell(), names=False)
    other = replace(cell(), registers=(replace(cell().registers[0], start=torch.ones(2)),))
    assert graph_hash(other) != graph_hash(cell())


@pytest.mark.parametrize("change", ["after", "start", "body"])
def test_a_forged_file_is_refused(change: str, tmp_path: Path) -> None:
    path = tmp_path / "g.safetensors"
    save_graph(path, scanned() if change == "body" else cell())

    def forge(plain: Any, tensors: dict[str, Tensor]) -> None:
        if change == "body":
            plain["nodes"][1]["op"]["fields"]["body"]["fields"]["registers"][0]["fields"][
                "after"
            ] = "x"
        elif change == "after":
            plain["registers"][0]["fields"]["after"] = "nowhere"
        else:
            plain["registers"][0]["fields"]["start"] = 3

    with pytest.raises(InputError) as caught:
        load_graph_file(forged(path, "graph", forge))
    assert len(str(caught.value).splitlines()) == 1
