"""``finetune`` as users meet it: every road keeps the masks, goes on when stopped, and refuses."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import refused

from spikemorph.convert import load_certified
from spikemorph.graph.saving import load_graph_file
from spikemorph.layers.masks import masks_of
from spikemorph.surrogate.gradients import Arctan
from spikemorph.surrogate.trained_file import load_trained
from spikemorph.zoo import build_model, load_data

Run = Callable[..., tuple[int, str, str]]
TRAIN = ("--data", "digits:train:200", "--epochs", "1", "--held-out", "40")
AGAINST = ("--objective", "fast", "--eps", "8/255")


def test_every_road_keeps_the_masks(files: Path) -> None:
    before = masks_of(load_graph_file(files / "pruned.safetensors"))
    assert before
    floats = load_graph_file(files / "floats.safetensors")
    timed, notes = load_trained(files / "timed.safetensors")
    learnt, certificate, _ = load_certified(files / "learnt.safetensors")
    assert certificate.level == "A"
    assert notes["thresholds"] == json.loads((files / "timed.json").read_text())["thresholds"]
    for graph in (floats, timed.graph, learnt.graph):
        masks = masks_of(graph)
        assert set(before) <= set(masks)
        for name, mask in before.items():
            assert torch.equal(masks[name], mask), name
            assert not bool(graph[name].op.weight[~mask].any()), name  # type: ignore[attr-defined]
    trained = load_graph_file(files / "pruned.safetensors")
    assert any(not torch.equal(floats[n].op.weight, trained[n].op.weight) for n in before)  # type: ignore[attr-defined]


@pytest.mark.parametrize("clip", ["1e-9", "0"])
def test_gradients_are_clipped_as_told(spikemorph: Run, tmp_path: Path, clip: str) -> None:
    """To almost nothing: the weights stay; not at all: they move."""
    out = tmp_path / "floats.safetensors"
    words = ("finetune", "zoo:digits_mlp", *TRAIN, "--decay", "0", "--clip", clip, "--out", out)
    assert spikemorph(*words)[0] == 0
    before, after = build_model("digits_mlp").state_dict(), load_graph_file(out)
    apart = after["linear1"].op.weight - before["linear1.weight"]  # type: ignore[attr-defined]
    assert bool(apart.abs().max() < 1e-6) == (clip != "0")


def test_the_surrogate_of_training_is_kept(spikemorph: Run, tmp_path: Path) -> None:
    """An attacker knows it: its gradients are the first path, and the gate names it."""
    out = tmp_path / "arctan.safetensors"
    train = ("--data", "digits:train:50", "--epochs", "1", "--road", "through-time", "--steps", "2")
    words = ("finetune", "zoo:digits_mlp", *train, "--out", out, "--surrogate", "arctan 3")
    assert spikemorph(*words)[0] == 0
    module, _ = load_trained(out)
    assert module.surrogate == Arctan(3.0)
    attacked = (
        "--data",
        "digits:test",
        "--eps",
        "0.1",
        "--attacks",
        "fgsm,refine=0",
        "--patience",
        "0",
        "--samples",
        "5",
    )
    found = spikemorph("attack", out, *attacked, "--gates", "5", "--json", tmp_path / "a.json")
    assert found[0] == 0
    said = json.loads((tmp_path / "a.json").read_text())
    assert said["eps"][0]["attacks"][0]["path"] == "trained"
    (gate,) = [gate for gate in said["gates"] if gate["name"] == "surrogates"]
    assert "trained by trained" in gate["detail"]
    refused(spikemorph(*words[:-1], "arctan 3 4"), "surrogate 'arctan 3 4'", "alpha")
    refused(spikemorph(*words[:-1], "heaviside"), "'heaviside'", "sigmoid")


def test_a_network_trained_through_time_is_evaluated(
    spikemorph: Run, files: Path, tmp_path: Path
) -> None:
    """Folded, step by step; what goes with converted networks is refused."""
    words = ("evaluate", files / "timed.safetensors", "--data", "digits:test")
    status, said, _ = spikemorph(*words, "--json", tmp_path / "e.json")
    found = json.loads((tmp_path / "e.json").read_text())
    module, _ = load_trained(files / "timed.safetensors")
    test = load_data("digits:test")
    with torch.no_grad():
        right = float((module(test.values()).argmax(1) == test.y).double().mean())
    assert status == 0 and found["n"] == len(test) and found["spikes_per_inference"] > 0
    assert [point["steps"] for point in found["curve"]] == [1, 2]
    assert found["accuracy"] == pytest.approx(100 * right, abs=100 / len(test))
    assert "trained through time" in said and f"{found['accuracy']:.2f}" in said
    refused(spikemorph(*words, "--exit", "silent"), "--exit", "leave it out")
    refused(spikemorph(*words, "--engine", "dense"), "--engine", "leave it out")
    refused(spikemorph(*words, "--steps", "1,4"), "--steps 4", "trained for 2")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--road", "sideways"), ("sideways", "float, quantisation-aware, through-time")),
        (("--out", "/nowhere/x.safetensors"), ("/nowhere/x.safetensors",)),
        (("--objective", "pdg"), ("pdg", "trades")),
        (("--objective", "fast"), ("how strong", "8/255")),
        (("--eps", "8"), ("did you mean 8/255?",)),
        (("--data", "fashion-mnist:sample"), ("tested on this split",)),
        (("--data", "fashion-mnist:train"), ("(1, 28, 28)",)),
        (("--checkpoint", "/nowhere/ck"), ("/nowhere",)),
    ],
)
def test_bad_options_of_finetune(
    spikemorph: Run, tmp_path: Path, options: tuple[str, str], words: tuple[str, ...]
) -> None:
    given = {"--data": "digits:train:100", "--out": str(tmp_path / "x.safetensors")}
    flat = [word for pair in (given | dict([options])).items() for word in pair]
    refused(spikemorph("finetune", "zoo:digits_cnn", *flat), *words)
    assert not list(tmp_path.iterdir())


def test_bad_numbers_of_roads(spikemorph: Run, tmp_path: Path) -> None:
    words = ("finetune", "zoo:digits_cnn", *TRAIN, "--out", tmp_path / "x.safetensors", "--road")
    refused(spikemorph(*words, "through-time", "--reset", "none"), "none", "hard or soft")
    refused(spikemorph(*words, "through-time", "--leak", "2"), "leak 2")
    refused(spikemorph(*words, "quantisation-aware", "--levels", "1"), "levels")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("road", ["float", "quantisation-aware", "through-time"])
def test_a_stopped_finetuning_goes_on_and_cleans_up_only_its_own(
    spikemorph: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, road: str
) -> None:
    """Stopped after one of two epochs; the checkpoint's name begins the names of two other files."""
    words = ("finetune", "zoo:digits_mlp", "--data", "digits:train:100", "--epochs", "2")
    words += ("--road", road, "--out")
    assert spikemorph(*words, tmp_path / "whole.safetensors")[0] == 0
    (tmp_path / "net.toml").write_text("mine")
    again = (*words, tmp_path / "net.safetensors", "--checkpoint", tmp_path / "net")

    def stop(record: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("spikemorph.cli.options.tell_epoch", stop)
        assert spikemorph(*again)[0] == 130
    assert (tmp_path / "net").exists()
    status, _, err = spikemorph(*again)
    assert status == 0
    assert "epoch 2" in err
    assert "epoch 1" not in err
    assert {p.name for p in tmp_path.iterdir()} == {
        "whole.safetensors", "net.safetensors", "net.toml",
    }  # fmt: skip
    assert (tmp_path / "net.safetensors").read_bytes() == (
        tmp_path / "whole.safetensors"
    ).read_bytes()


def test_a_checkpoint_of_another_road_is_not_taken_up(
    spikemorph: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(record: Any) -> None:
        raise KeyboardInterrupt

    words = ("finetune", "zoo:digits_mlp", *TRAIN, "--out", tmp_path / "n.safetensors")
    words += ("--checkpoint", tmp_path / "ck", "--road", "through-time", "--steps")
    with monkeypatch.context() as patch:
        patch.setattr("spikemorph.cli.options.tell_epoch", stop)
        assert spikemorph(*words, "2")[0] == 130
    refused(spikemorph(*words, "3"), "checkpoint", "steps=2", "steps=3")
