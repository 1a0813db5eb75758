"""Extra samples to learn from: labelled by a network, a share of every batch, never the test set."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import refused

from spikemorph.choices.settings import TrainingChoice
from spikemorph.graph import InputError
from spikemorph.recipes.pipeline import run_recipe
from spikemorph.recipes.recipe import recipe_of
from spikemorph.sources.models import load_graph
from spikemorph.train.checkpoint import load_checkpoint
from spikemorph.train.data import MixedData
from spikemorph.training.extra import extra_of
from spikemorph.training.settings import lesson_of
from spikemorph.training.through_time import _some
from spikemorph.zoo import Samples, load_data

Run = Callable[..., tuple[int, str, str]]
MODEL = "zoo:digits_mlp"


@pytest.fixture
def unlabelled(tmp_path: Path) -> Path:
    """Sixty training images that nobody has labelled."""
    samples = load_data("digits:train:100")
    np.savez(tmp_path / "more.npz", x=samples.x[40:].numpy())
    return tmp_path / "more.npz"


def test_a_network_labels_what_has_no_labels(unlabelled: Path) -> None:
    extra = extra_of(str(unlabelled), 0.5, MODEL)
    assert extra is not None and extra.samples.y is not None
    true = load_data("digits:train:100").y
    assert true is not None
    right = float((extra.samples.y == true[40:]).double().mean())
    assert right > 0.9
    model, samples = load_graph(MODEL), load_data("digits:train:40")
    lesson, _ = lesson_of(TrainingChoice(), samples, model, 0, extra=extra)
    assert isinstance(lesson.train, MixedData)
    assert (len(lesson.train), len(lesson.train.extra), lesson.train.share) == (40, 60, 0.5)
    assert torch.equal(lesson.train.extra.y, extra.samples.y)
    fewer = _some(lesson, 10)
    assert isinstance(fewer, MixedData) and (len(fewer), len(fewer.extra)) == (10, 60)


@pytest.mark.parametrize(
    ("data", "share", "labeller", "message"),
    [
        (None, 0.5, MODEL, "labeller zoo:digits_mlp: there are no extra samples"),
        ("more", 0.5, None, "no labels; name the network that gives them: labeller"),
        ("digits:train:40", 0.5, MODEL, "has labels of its own; leave labeller out"),
        ("more", 0.5, "zoo:fashion_vgg", r"shape \(1, 8, 8\), the model takes \(1, 28, 28\)"),
        ("digits:train:40", 0.0, None, "share 0: give 0 < share < 1"),
    ],
)
def test_refusals(
    unlabelled: Path, data: str | None, share: float, labeller: str | None, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        extra = extra_of(str(unlabelled) if data == "more" else data, share, labeller)
        assert extra is not None
        lesson_of(TrainingChoice(), load_data("digits:train:40"), load_graph(MODEL), 0, extra=extra)


def test_commands_take_them(spikemorph: Run, unlabelled: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.safetensors"
    prune = ["prune", MODEL, "--sparsity", "0.5", "--out", out]
    train = ["--data", "digits:train:64", "--epochs", "1", "--batch", "16", "--seed", "1"]
    more = ["--extra", unlabelled, "--labeller", MODEL, "--extra-share", "0.25"]
    refused(spikemorph(*prune, *more), "--extra", "--data")
    refused(spikemorph(*prune, *train, *more[:2]), "more.npz", "labeller")
    weights = []
    for words in (prune, ["finetune", MODEL, "--out", out]):
        for extra in ([], more):
            assert spikemorph(*words, *train, *extra)[0] == 0
            weights.append(out.read_bytes())
    assert len(set(weights)) == 4, "extra samples change what is learnt"


TINY: dict[str, Any] = {
    "name": "tiny",
    "model": MODEL,
    "data": {"train": "digits:train:40", "test": "digits:test:40", "extra": "digits:train:90"},
    "training": {"epochs": 1},
    "measure": {"spiking": 4, "energy": 2},
    "network": [{"name": "half", "method": "magnitude", "sparsity": 0.5}],
}


def test_a_recipe_is_made_again_when_its_extra_samples_change(tmp_path: Path) -> None:
    told: list[str] = []

    def run(data: dict[str, Any], spoil: Callable[[Samples], Samples] = lambda s: s) -> list[str]:
        told.clear()

        def read(spec: str) -> Samples:
            samples = load_data(spec)
            return spoil(samples) if spec == "digits:train:90" else samples

        recipe = recipe_of({**TINY, "data": {**TINY["data"], **data}}, "test")
        run_recipe(recipe, tmp_path / "run", "test", read=read, tell=told.append)
        return [line for line in told if line.startswith("half: prune")]

    assert run({}) == ["half: prune"]
    assert run({}) == ["half: prune was done before"]
    assert run({"extra_share": 0.25}) == ["half: prune"]
    assert run({"extra_share": 0.25}, lambda s: replace(s, x=s.x.flip(0))) == ["half: prune"]


def test_extra_samples_are_not_those_of_the_test(tmp_path: Path) -> None:
    """Neither by name nor under another name with labels of a network's making."""
    tested = load_data("digits:test:40")
    np.savez(tmp_path / "leak.npz", x=tested.x.numpy())
    for data in (
        {"extra": "digits:test:20"},
        {"extra": str(tmp_path / "leak.npz"), "labeller": MODEL},
    ):
        recipe = recipe_of({**TINY, "data": {**TINY["data"], **data}}, "test")
        with pytest.raises(
            InputError, match="tested on (what it learns from|this split, and never trained)"
        ):
            run_recipe(recipe, tmp_path / "run", "test")
    assert not (tmp_path / "run").exists()


def test_a_checkpoint_is_not_continued_on_other_samples(
    spikemorph: Run, unlabelled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "checkpoint"
    words = ["prune", MODEL, "--sparsity", "0.5", "--data", "digits:train:64", "--epochs", "1"]
    words += ["--checkpoint", str(path), "--out", str(tmp_path / "out.safetensors")]
    monkeypatch.setattr("spikemorph.cli.options.clean_up", lambda _: None)
    assert spikemorph(*words)[0] == 0 and load_checkpoint(path)["identity"]["extra"] == 0
    more = ["--extra", unlabelled, "--labeller", MODEL]
    refused(spikemorph(*words, *more), "checkpoint", "extra 0, now 60")
