"""A GRU that reads digits row by row, as users meet it: pruned, trained by both roads, attacked."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from recurring import drawn_cell

from spikemorph.convert import load_certified
from spikemorph.graph import Graph, Input, Node
from spikemorph.graph.interpret import on_reals, walk
from spikemorph.graph.saving import load_graph_file, save_graph
from spikemorph.layers.linear import Linear
from spikemorph.layers.masks import mask_hash, masks_of, sparsity
from spikemorph.layers.scan import Scan
from spikemorph.layers.shape import Reshape
from spikemorph.layers.slicing import Narrow
from spikemorph.zoo import load_data

Run = Callable[..., tuple[int, str, str]]
TRAIN = ("--data", "digits:train:80", "--epochs", "1", "--batch", "20", "--held-out", "20")


@pytest.fixture(scope="module")
def rows() -> Graph:
    """Eight rows of eight pixels, then the last state is read."""
    weight = torch.randn((10, 4), generator=torch.Generator().manual_seed(0))
    nodes = (
        Node("x", Input((1, 8, 8))),
        Node("rows", Reshape((8, 8)), ("x",)),
        Node("gru", Scan(drawn_cell("gru", 8, 4, 0), 1, reverse=False), ("rows",)),
        Node("last", Narrow(1, 7, 1), ("gru",)),
        Node("flat", Reshape((4,)), ("last",)),
        Node("logits", Linear(weight, None), ("flat",)),
    )
    return Graph(nodes, ("x",), ("logits",))


@pytest.mark.parametrize("command", [("finetune",), ("prune", "--sparsity", "0.1")])
def test_states_are_taught_to_stay_as_they_are(
    spikemorph: Run, rows: Graph, tmp_path: Path, command: tuple[str, ...]
) -> None:
    """A price that was not passed on would leave two trainings, and so the states, the same."""
    start, moved = tmp_path / "start.safetensors", []
    save_graph(start, rows)
    x = load_data("digits:test:20").x.float() / 255
    for price in ("0", "30"):
        out = tmp_path / f"{price}.safetensors"
        words = (*command, start, *TRAIN, "--rate", "0.05", "--temporal-sparsity", price)
        status, _, error = spikemorph(*words, "--out", out)
        assert status == 0, error
        made = {n.name: value for n, value in walk(load_graph_file(out), x, on_reals)}
        moved.append(float(made["gru"].diff(dim=1).abs().mean()))
    assert moved[1] < moved[0]


@pytest.mark.parametrize(
    ("model", "price", "told"),
    [
        ("zoo:digits_mlp", "1", "--temporal-sparsity 1: digits_mlp has no recurrent layer"),
        ("rows", "-1", "temporal sparsity -1"),
        ("rows", "nan", "temporal sparsity nan"),
    ],
)
def test_a_price_that_nothing_can_pay_is_refused(
    spikemorph: Run, rows: Graph, tmp_path: Path, model: str, price: str, told: str
) -> None:
    save_graph(tmp_path / "rows.safetensors", rows)
    source = tmp_path / "rows.safetensors" if model == "rows" else model
    for command in (("finetune",), ("prune", "--sparsity", "0.5")):
        words = (*command, source, *TRAIN, "--temporal-sparsity", price)
        status, _, error = spikemorph(*words, "--out", tmp_path / "out.safetensors")
        assert status == 2 and told in error and len(error.strip().splitlines()) == 1
        assert not (tmp_path / "out.safetensors").exists()


def test_a_recurrent_network_is_pruned_trained_converted_and_attacked(
    spikemorph: Run, rows: Graph, tmp_path: Path
) -> None:
    """The masks of the first step are those of the last; attacks have gradients of both networks."""
    dense, thin, floats, learnt = (
        tmp_path / f"{n}.safetensors" for n in ("dense", "thin", "f", "q")
    )
    save_graph(dense, rows)
    pruned = ("prune", dense, "--method", "magnitude", "--sparsity", "0.5", "--out", thin)
    assert spikemorph(*pruned, "--json", tmp_path / "p.json")[0] == 0
    told = json.loads((tmp_path / "p.json").read_text())
    masks = masks_of(load_graph_file(thin))
    assert {row["node"]: row["mask_hash"] for row in told["layers"]} == {
        name: mask_hash(mask) for name, mask in masks.items()
    }
    assert "gru/new.h" in masks and sparsity(load_graph_file(thin)) == pytest.approx(0.5, abs=0.01)
    assert spikemorph("finetune", thin, *TRAIN, "--out", floats)[0] == 0
    hard = ("--objective", "fast", "--eps", "8/255")
    aware = ("--road", "quantisation-aware", *hard)
    assert spikemorph("finetune", floats, *TRAIN, *aware, "--out", learnt)[0] == 0
    network, proof, _ = load_certified(learnt)
    for after in (load_graph_file(floats), network.graph):
        assert {n: mask_hash(m) for n, m in masks_of(after).items()} == {
            n: mask_hash(m) for n, m in masks.items()
        }
    assert proof.level == "A" and {row.node for row in proof.masks} == set(masks)
    few = (
        "--data",
        "digits:test",
        "--samples",
        "20",
        "--attacks",
        "pgd=3,square=5,refine=0",
        "--patience",
        "0",
    )
    for model, kind, path in ((floats, "ann", "gradients"), (learnt, "exact", "smoothed 1")):
        how = (
            "--eps",
            "0.3",
            "--gates",
            "5",
            *([] if kind == "ann" else ["--paths", "smoothed-1"]),
        )
        told_to = tmp_path / f"{kind}.json"
        status, _, error = spikemorph("attack", model, *few, *how, "--json", told_to)
        assert status == 0, error
        said = json.loads(told_to.read_text())
        assert said["kind"] == kind and said["eps"][0]["worst_case"] <= said["clean"]["accuracy"]
        (pgd,) = (row for row in said["eps"][0]["attacks"] if row["path"] is not None)
        assert pgd["path"] == path and pgd["zero_gradient_fraction"] < 1
