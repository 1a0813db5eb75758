"""Pruning as users meet it on the command line: what it leaves, and one line for bad input."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from helpers import refused

from spikemorph.cli.options import clean_up
from spikemorph.train.checkpoint import save_checkpoint

Run = Callable[..., tuple[int, str, str]]


PRUNE = ["prune", "zoo:digits_mlp"]
TRAIN = ["--data", "digits:train:100", "--epochs", "1"]
BAD_PRUNING: dict[str, tuple[Sequence[str], Sequence[str]]] = {
    "all weights": (["--sparsity", "1"], ["sparsity 1", "0 <= share < 1"]),
    "less than none": (["--sparsity", "-0.1"], ["sparsity -0.1", "0 <= share < 1"]),
    "no number": (["--sparsity", "nan"], ["sparsity nan"]),
    "no sparsity": ([], ["--sparsity", "--help"]),
    "method": (["--sparsity", "0.5", "--method", "x"], ["--method x", "magnitude", "rigl"]),
    "allocation": (["--sparsity", "0.5", "--allocation", "x"], ["--allocation x", "uniform"]),
    "pattern": (["--sparsity", "0.6", "--method", "nm"], ["0.6", "0.25, 0.5, 0.75"]),
    "emptied": (
        ["--sparsity", "0.999", "--allocation", "global"],
        ["'linear1', 'linear2'", "--allow-empty"],
    ),
    "epochs": (["--sparsity", "0.5", *TRAIN, "--epochs", "0"], ["epochs is 0"]),
    "clip": (["--sparsity", "0.5", *TRAIN, "--clip", "-1"], ["clip is -1"]),
    "smoothing": (["--sparsity", "0.5", *TRAIN, "--smoothing", "7"], ["smoothing 7", "0 to 1"]),
    "distil": (["--sparsity", "0.5", *TRAIN, "--distil", "2"], ["distil 2", "0 to 1"]),
    "shift": (["--sparsity", "0.5", *TRAIN, "--shift", "50"], ["shift 50", "0 to 7"]),
    "held out": (["--sparsity", "0.5", *TRAIN, "--held-out", "100"], ["100 of 100"]),
    "precision": (["--sparsity", "0.5", *TRAIN, "--precision", "x"], ["--precision x"]),
    "seed": (["--sparsity", "0.5", *TRAIN, "--seed", "-1"], ["--seed"]),
    "data": (["--sparsity", "0.5", "--data", "nothing"], ["'nothing'", "digits"]),
}


@pytest.mark.parametrize("case", BAD_PRUNING)
def test_bad_pruning_is_one_line(spikemorph: Run, tmp_path: Path, case: str) -> None:
    options, words = BAD_PRUNING[case]
    refused(spikemorph(*PRUNE, *options, "--out", tmp_path / "p.safetensors"), *words)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "method", ["bcs", "deepr", "gradual", "harp", "hydra", "rigl", "set", "snip"]
)
def test_methods_that_learn_ask_for_data(spikemorph: Run, tmp_path: Path, method: str) -> None:
    words = ["--sparsity", "0.5", "--method", method, "--out", tmp_path / "p.safetensors"]
    refused(spikemorph(*PRUNE, *words), method, "--data")


def test_a_place_that_cannot_be_written_is_refused_before_training(
    spikemorph: Run, tmp_path: Path
) -> None:
    words = [*PRUNE, "--sparsity", "0.5", *TRAIN, "--out"]
    for out in (tmp_path / "none" / "p.safetensors", tmp_path):
        refused(spikemorph(*words, out), str(out), "--out")
    found = spikemorph(*words, tmp_path / "p.safetensors", "--json", tmp_path / "none" / "j.json")
    refused(found, "j.json", "--json")
    assert "epoch" not in found[2]


def test_an_emptied_layer_where_allowed_is_saved_and_converts(
    spikemorph: Run, tmp_path: Path
) -> None:
    pruned, network = tmp_path / "p.safetensors", tmp_path / "n.safetensors"
    words = ["--sparsity", "0.999", "--allocation", "global", "--allow-empty", "--json"]
    status, shown, _ = spikemorph(*PRUNE, *words, tmp_path / "p.json", "--out", pruned)
    assert status == 0
    assert "not trained after pruning" in shown
    layers = json.loads((tmp_path / "p.json").read_text())["layers"]
    assert {layer["node"] for layer in layers if layer["kept"] == 0} == {"linear1", "linear2"}
    data = ["--data", "digits:test:40"]
    assert spikemorph("convert", pruned, *data, "--out", network)[0] == 0
    assert spikemorph("energy", network, *data, "--json", tmp_path / "e.json")[0] == 0
    memory = json.loads((tmp_path / "e.json").read_text())["memory"]
    assert memory["weights_nonzero"] <= sum(layer["kept"] for layer in layers)


def test_pruning_trains_tells_and_leaves_no_checkpoint(spikemorph: Run, tmp_path: Path) -> None:
    words = [*PRUNE, "--sparsity", "0.75", *TRAIN, "--epochs", "2", "--held-out", "20"]
    files = ["--checkpoint", tmp_path / "c", "--json", tmp_path / "p.json"]
    status, shown, told = spikemorph(*words, *files, "--out", tmp_path / "p.safetensors")
    assert status == 0
    assert [line.split(":")[0] for line in told.splitlines()] == ["epoch 1", "epoch 2"]
    assert "held-out accuracy" in shown
    assert "not trained" not in shown
    found = json.loads((tmp_path / "p.json").read_text())
    assert (found["method"], found["epochs"], found["sparsity"]) == ("magnitude", 2, 0.75)
    for layer in found["layers"]:
        assert layer["sparsity"] == pytest.approx(0.75, abs=0.5 / layer["weights"])
        assert layer["nonzero"] <= layer["kept"]
    assert {path.name for path in tmp_path.iterdir()} == {"p.json", "p.safetensors"}


def test_only_a_runs_own_checkpoints_are_removed(tmp_path: Path) -> None:
    names = ["ck", "ck.weights", "ck.weights.best", "ck2.weights", "ck.mine"]
    for name in names[:4]:
        save_checkpoint({"identity": {}}, tmp_path / name)
    (tmp_path / "ck.mine").write_text("a user's")
    clean_up(tmp_path / "ck")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ck.mine", "ck2.weights"]
