"""Trainings that torchrun shares over processes end as they do in one, and are saved once."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from helpers import refused

from spikemorph.graph import Graph
from spikemorph.graph.saving import load_graph_file
from spikemorph.layers.masks import masks_of, weight_of, weighted_nodes
from spikemorph.surrogate.trained_file import load_trained

Run = Callable[..., tuple[int, str, str]]
TRAIN = ("--data", "digits:train:200", "--epochs", "2", "--held-out", "40", "--rate", "0.05")
AGAINST = ("--objective", "fast", "--eps", "8/255", "--select")


def in_two(*words: object) -> subprocess.CompletedProcess[str]:
    """A command in two processes."""
    start = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    return subprocess.run(
        [sys.executable, *start, "-m", "spikemorph", *map(str, words)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def weights(graph: Graph) -> dict[str, torch.Tensor]:
    return {node.name: weight_of(node) for node in weighted_nodes(graph)}


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [
        ("finetune", "zoo:digits_mlp", *TRAIN, *AGAINST),
        ("finetune", "zoo:digits_mlp", *TRAIN, "--road", "through-time", "--steps", "2"),
        (
            "prune",
            "zoo:digits_mlp",
            *TRAIN,
            *AGAINST,
            "--sparsity",
            "0.8",
            "--method",
            "hydra",
            "--smoothing",
            "0",
        ),
        ("prune", "zoo:digits_mlp", *TRAIN, "--sparsity", "0.8", "--method", "bcs"),
    ],
    ids=["float", "through-time", "hydra", "bcs"],
)
def test_two_processes_train_what_one_does(
    spikemorph: Run, tmp_path: Path, command: tuple[str, ...]
) -> None:
    one, two = tmp_path / "one.safetensors", tmp_path / "two.safetensors"
    assert spikemorph(*command, "--out", one)[0] == 0
    shared = in_two(*command, "--out", two, "--checkpoint", tmp_path / "ck")
    assert shared.returncode == 0, shared.stderr
    assert shared.stdout.count("saved ") == 1 and "epoch 1:" in shared.stderr
    load = (
        (lambda path: load_trained(path)[0].graph) if "through-time" in command else load_graph_file
    )
    first, second = load(one), load(two)
    for name, value in weights(first).items():
        assert torch.allclose(value, weights(second)[name], atol=1e-4), name
    for name, mask in masks_of(first).items():
        assert torch.equal(mask, masks_of(second)[name]), name
    assert not list(tmp_path.glob("ck*"))


def test_a_recipe_is_run_by_one_process(
    spikemorph: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    refused(
        spikemorph("run", "recipes/sparse-digits.toml", "--out", tmp_path / "r"),
        "not 2",
        "torchrun",
    )
    assert not list(tmp_path.iterdir())
