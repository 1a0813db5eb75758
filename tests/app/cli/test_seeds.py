"""One recipe under several seeds: a run for each, mean and deviation of all."""

import json
import statistics
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers import refused

from spikemorph.cli import options
from spikemorph.graph import InputError
from spikemorph.measures.spread import spread_of

Run = Callable[..., tuple[int, str, str]]
RECIPE = """
name = "tiny"
model = "zoo:digits_mlp"
data = {train = "digits:train:300", test = "digits:test:60"}
training = {epochs = 1}
measure = {energy = 10}
[[network]]
name = "sparse"
method = "gradual"
sparsity = 0.9
"""


def test_seeds_are_read() -> None:
    assert options.seeds("2..4") == (2, 3, 4)
    assert options.seeds("1,7") == (1, 7)
    for text in (
        "3..3",
        "4..2",
        "1,1",
        "1",
        "a..b",
        "0..",
        "1,x",
        "-1..2",
        "0..100",
        "0..10000000000000000",
    ):
        with pytest.raises(InputError, match="two or more"):
            options.seeds(text)


def test_one_result_has_no_deviation() -> None:
    with pytest.raises(InputError, match="two or more"):
        spread_of([])


def test_a_run_for_each_seed(spikemorph: Run, tmp_path: Path) -> None:
    recipe, file, out = tmp_path / "r.toml", tmp_path / "r.json", tmp_path / "out"
    recipe.write_text(RECIPE)
    words = ("run", recipe, "--out", out, "--json", file)
    refused(spikemorph(*words, "--seed", "1", "--seeds", "0..1"), "--seed and --seeds")
    status, shown, _ = spikemorph(*words, "--seeds", "0..1")
    assert status == 0 and "mean ± deviation over 2 seeds" in shown
    found = json.loads(file.read_text())
    runs = [run["networks"][0] for run in found["runs"]]
    spikes = [run["spikes_per_inference"] for run in runs]
    assert spikes[0] != spikes[1]
    told = found["networks"][0]["spikes_per_inference"]
    assert told["mean"] == pytest.approx(statistics.fmean(spikes))
    assert told["deviation"] == pytest.approx(statistics.stdev(spikes))
    again = json.loads((out / "seed-1" / "sparse" / "reproduce.json").read_text())
    assert again["command"].endswith(f"--out {out / 'seed-1'} --seed 1")
