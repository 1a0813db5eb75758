"""Trainings by several seeds: each is the training by its seed alone, and what they share is said."""

import json
import statistics
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., tuple[int, str, str]]
FEW = ("zoo:digits_mlp", "--data", "digits:train", "--epochs", "1", "--held-out", "300")
PRUNE = ("prune", *FEW, "--sparsity", "0.5")


@pytest.mark.parametrize("command", [PRUNE, ("finetune", *FEW)], ids=["prune", "finetune"])
def test_each_seed_is_the_training_by_it_alone(
    spikemorph: Run, tmp_path: Path, command: tuple[str, ...]
) -> None:
    out, told = tmp_path / "net.safetensors", tmp_path / "all.json"
    code, said, _ = spikemorph(*command, "--out", out, "--seeds", "3,5", "--json", told)
    assert code == 0 and "over 2 seeds: " in said
    alone = tmp_path / "alone.safetensors"
    assert spikemorph(*command, "--out", alone, "--seed", "5")[0] == 0
    made = [tmp_path / f"net-seed-{seed}.safetensors" for seed in (3, 5)]
    assert made[1].read_bytes() == alone.read_bytes() != made[0].read_bytes()
    assert not out.exists()
    found = json.loads(told.read_text())
    assert found["seeds"] == [3, 5]
    after = [run["validation_after"] for run in found["runs"]]
    assert found["validation_after"] == {
        "mean": pytest.approx(statistics.fmean(after)),
        "deviation": pytest.approx(statistics.stdev(after)),
    }


def test_rows_of_layers_say_their_seed(spikemorph: Run, tmp_path: Path) -> None:
    rows = tmp_path / "rows.csv"
    words = (*PRUNE, "--out", tmp_path / "n.safetensors", "--seeds", "0..1", "--csv", rows)
    assert spikemorph(*words)[0] == 0
    head, *lines = rows.read_text().splitlines()
    assert head.startswith("seed,")
    assert [line.split(",")[0] for line in lines] == ["0"] * 3 + ["1"] * 3


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("--seeds", "1,2", "--seed", "1"), "--seed and --seeds: give one of them"),
        (("--seeds", "4"), "--seeds 4: give two or more"),
    ],
)
def test_odd_seeds_are_refused_before_anything_is_trained(
    spikemorph: Run, tmp_path: Path, words: tuple[str, ...], complaint: str
) -> None:
    code, _, said = spikemorph(*PRUNE, "--out", tmp_path / "n.safetensors", *words)
    assert code == 2 and complaint in " ".join(said.split())
    assert not list(tmp_path.iterdir())


def test_without_samples_held_out_nothing_is_averaged(spikemorph: Run, tmp_path: Path) -> None:
    words = (
        *PRUNE[:-4],
        "--sparsity",
        "0.5",
        "--out",
        tmp_path / "n.safetensors",
        "--seeds",
        "0,1",
    )
    code, said, _ = spikemorph(*words)
    assert code == 0 and "nothing was measured" in said
