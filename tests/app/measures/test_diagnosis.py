"""What is lost is said, with the layer and an option that helps; and what is not lost is not."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import draw

from spikemorph import load_graph
from spikemorph.convert import Certificate, canonical
from spikemorph.graph import Graph
from spikemorph.graph.grid import Grid
from spikemorph.graph.tasks import Kind, Task
from spikemorph.layers.activation import Clip, ReLU
from spikemorph.layers.linear import Linear
from spikemorph.measures import diagnosis
from spikemorph.measures.diagnosis import LOUD, Diagnosis, diagnose, of_robustness, warnings
from spikemorph.measures.results import EvaluationResult, Settled
from spikemorph.quant import Max, Quantisation
from spikemorph.quant.diagnosis import layer_losses
from spikemorph.quant.integers import Quantised, quantised
from spikemorph.zoo import load_data

Build = Callable[..., Graph]
Run = Callable[..., tuple[int, str, str]]
GRID = Grid.of(0.0, 1.0)
TASK = Task(Kind.CLASSES, (10,))


def points(count: int, *shape: int) -> torch.Tensor:
    return torch.rand(count, *shape, generator=torch.Generator().manual_seed(2))


def result(accuracy: float | None, integer: float | None, n: int = 1000) -> EvaluationResult:
    settled = Settled(1, 1.0, integer, 0, 100.0)
    proof = Certificate("A", 1, 1, 1, (), (), "0" * 64, ())
    return EvaluationResult(
        model="m", data="d", n=n, outputs=10, neuron="pow2", float_accuracy=accuracy,
        integer_accuracy=integer, curve=(), settled=settled, certificate=proof, seconds=0.0,
    )  # fmt: skip


@pytest.fixture(scope="module")
def coarse() -> tuple[Graph, Quantised, Quantisation, Diagnosis]:
    """The digits MLP at three levels and two bits, diagnosed on training images."""
    data = load_data("digits:train")
    graph = canonical(load_graph("zoo:digits_mlp").graph)
    settings = Quantisation(3, 2, Max())
    made = quantised(graph, data.values(), GRID, settings)
    return graph, made, settings, diagnose(graph, made, settings, TASK, data.y)


@pytest.mark.parametrize("culprit", [1, 2])
def test_the_layer_that_rounds_away_most_is_named(culprit: int, chain: Build) -> None:
    """Two bits hold -1, 0 and 1 exactly, where one step serves all inputs, but nothing in between.

    Layers before the culprit have all their signal, those behind it what it left of it.
    """
    sizes = ((12, 8), (12, 12), (4, 12))
    layers = [
        Linear(draw(*size, seed=k).round().clamp(-1, 1), torch.zeros(size[0]))
        for k, size in enumerate(sizes)
    ]
    layers[culprit] = Linear(draw(*sizes[culprit], seed=9), torch.zeros(sizes[culprit][0]))
    clip = Clip(0.0, 1000.0)  # one step for all channels
    graph = chain((8,), layers[0], clip, layers[1], clip, layers[2])
    x = points(80, 8)
    found = quantised(graph, x, GRID, Quantisation(256, 2, bias_correction=False))
    losses = {loss.node: loss for loss in layer_losses(found, x)}
    wanted = f"n{2 * culprit}"
    assert min(losses, key=lambda name: losses[name].own_db) == wanted
    assert losses[wanted].own_db < 20
    for k in range(3):
        loss = losses[f"n{2 * k}"]
        assert (loss.own_db > 40) == (k != culprit)
        assert (loss.snr_db > 25) == (k < culprit)


def test_losses_do_not_depend_on_the_scales_of_channels(chain: Build) -> None:
    first, second = Linear(draw(6, 5), draw(6, seed=1)), Linear(draw(3, 6, seed=2), None)
    by = 2.0 ** torch.arange(-12, 12, 4)
    assert first.bias is not None
    other = Linear(first.weight * by[:, None], first.bias * by), Linear(second.weight / by, None)
    x, losses = points(50, 5), []
    for pair in ((first, second), other):
        found = quantised(chain((5,), pair[0], ReLU(), pair[1]), x, GRID, Quantisation())
        losses.append(layer_losses(found, x))
    for one, two in zip(*losses, strict=True):
        assert one.snr_db == pytest.approx(two.snr_db, abs=1e-3)
        assert one.own_db == pytest.approx(two.own_db, abs=1e-3)


def test_the_repair_was_tried_and_holds(coarse: Any) -> None:
    graph, made, settings, found = coarse
    assert found.kept.lost > LOUD and found.repair is not None
    assert found.repair.kept.lost < found.kept.lost - LOUD / 2
    chosen = {setting.name: setting.value for setting in found.repair.settings}
    assert chosen.keys() <= {"levels", "weight_bits"}
    changed = replace(settings, **chosen)
    assert changed != settings
    again = diagnose(
        graph,
        quantised(graph, made.samples, GRID, changed),
        changed,
        TASK,
        load_data("digits:train").y,
    )
    assert again.kept == found.repair.kept
    (said,) = warnings(result(98.0, 80.0), found, 1000, 10)
    assert [(repair.setting, repair.value) for repair in said.repairs] == list(chosen.items())
    line = str(said)
    assert "18.00 points on test samples" in line
    assert all(f"{name}={value}" in line for name, value in chosen.items())
    assert repr(found.weakest) in line and "no certificate" in line


def test_a_good_network_is_not_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    """And nothing is tried for it."""
    monkeypatch.setattr(diagnosis, "_repair", None)
    data = load_data("digits:train")
    graph = canonical(load_graph("zoo:digits_mlp").graph)
    made = quantised(graph, data.values(), GRID, Quantisation())
    found = diagnose(graph, made, Quantisation(), TASK, data.y)
    assert found.repair is None and found.kept.lost <= LOUD
    assert warnings(result(98.0, 97.5), found, 1000, 10) == []
    (line,) = warnings(result(98.0, 90.0), found, 1000, 10)
    assert "calibration samples do not show it" in str(line)


def test_guessing_is_told_from_knowing() -> None:
    """Ten classes: three standard deviations of 1000 guesses are 2.85 points, of 100 guesses 9."""
    for accuracy, n, said in ((12.8, 1000, True), (12.9, 1000, False), (18.9, 100, True)):
        lines = [*map(str, warnings(result(accuracy, accuracy, n), None, 1000, 10))]
        assert bool(lines) == said, (accuracy, n)
        assert all("normalisation" in line for line in lines)
    assert warnings(result(None, None), None, 1000, 10) == []


@pytest.mark.parametrize(("count", "said"), [(31, 1), (32, 0)])
def test_few_calibration_samples_are_said(count: int, said: int) -> None:
    lines = [*map(str, warnings(result(98.0, 98.0), None, count, 10))]
    assert len(lines) == said and all(f"{count} calibration samples" in line for line in lines)


@pytest.mark.parametrize(("small", "said"), [(3, 0), (5, 1)])
def test_a_step_wider_than_most_channels_is_said(small: int, said: int, chain: Build) -> None:
    """A clip has one step for all, of 6 / 15: channels that stay below 0.2 send nothing."""
    size = torch.where(torch.arange(8) < small, 0.1, 6.0)
    graph = chain((8,), Linear(torch.diag(size), None), Clip(0.0, 6.0), Linear(draw(3, 8), None))
    x = points(60, 8)
    settings = Quantisation(16, calibrator=Max())
    made = quantised(graph, x, GRID, settings)
    found = diagnose(graph, made, settings, Task(Kind.CLASSES, (3,)), None)
    assert [loss.coarse for loss in found.layers if loss.node == "n1"] == [small]
    lines = [
        line
        for line in map(str, warnings(result(None, None), found, 60, 10))
        if "step is wider" in line
    ]
    assert len(lines) == said
    assert all("'n1'" in line and f"{small} of 8" in line for line in lines)


def test_silent_channels_are_counted(chain: Build) -> None:
    bias = torch.tensor([0.0, -50.0, 0.0, -50.0])
    graph = chain((4,), Linear(torch.eye(4), bias), ReLU(), Linear(draw(3, 4), None))
    found = quantised(graph, points(40, 4), GRID, Quantisation())
    (relu,) = [loss for loss in layer_losses(found, points(40, 4)) if loss.node == "n1"]
    assert (relu.channels, relu.silent, relu.coarse) == (4, 2, 0)


def test_one_output_is_judged_by_its_noise(chain: Build) -> None:
    graph = chain((8,), Linear(draw(12, 8), None), ReLU(), Linear(draw(1, 12, seed=1), None))
    x, number = points(60, 8), Task(Kind.VALUES, (1,))
    kept = []
    for settings in (Quantisation(2, 2, Max(), bias_correction=False), Quantisation(256, 16)):
        found = diagnose(graph, quantised(graph, x, GRID, settings), settings, number, None)
        assert found.kept.agreement is None and found.kept.accuracy is None
        kept.append(found)
    assert kept[0].kept.lost > LOUD > kept[1].kept.lost
    assert "noise in the outputs" in " ".join(
        map(str, warnings(result(None, None), kept[0], 60, 10))
    )


def test_convert_says_it_aloud(spikemorph: Run, tmp_path: Path) -> None:
    """On standard error, and in the JSON; nothing where nothing is lost."""
    file = tmp_path / "n.json"
    words = ["convert", "zoo:digits_mlp", "--data", "digits:test:200", "--json", file]
    words += ["--calibration", "digits:train", "--out", tmp_path / "n.safetensors"]
    status, _, err = spikemorph(*words)
    assert status == 0 and "warning" not in err
    content = json.loads(file.read_text())
    assert content["warnings"] == [] and content["diagnosis"]["repair"] is None
    assert {layer["kind"] for layer in content["diagnosis"]["layers"]} == {"Linear", "ReLU"}
    status, shown, err = spikemorph(*words, "--levels", "2", "--weight-bits", "2")
    assert status == 0 and "Certificate level A" in shown
    (line,) = json.loads(file.read_text())["warnings"]
    assert f"warning: {line}" in err and "integer network loses" in line


@pytest.mark.parametrize("ends", [(0.0, 1.0), (-1.0, 1.0), (-2.1, 2.6), (0.0, 255.0)])
def test_a_grid_that_attacks_would_flag_is_told(ends: tuple[float, float]) -> None:
    """From 12 bits on nothing is said, whatever the range."""
    for bits in (4, 8, 11):
        (note,) = of_robustness(Grid.of(*ends, bits=bits))
        assert "robustness" in str(note) and "input_bits=12" in str(note)
    assert not [*of_robustness(Grid.of(*ends, bits=12)), *of_robustness(Grid.of(*ends, bits=16))]
