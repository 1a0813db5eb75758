"""Runs in folders of other runs: nothing of another network is left, taken for done, or reported."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from spikemorph.graph.saving import save_graph
from spikemorph.prune.reinitialise import fresh
from spikemorph.recipes.pipeline import run_recipe
from spikemorph.recipes.recipe import Recipe, recipe_of
from spikemorph.recipes.stages import energy
from spikemorph.recipes.stages.bench import Bench
from spikemorph.recipes.stages.prune import _task
from spikemorph.sources.models import load_graph
from spikemorph.surrogate import Dynamics, to_trainable
from spikemorph.surrogate.folding import fold
from spikemorph.training.through_time import measure_in_time
from spikemorph.zoo import load_data

PLAIN = {
    "name": "tiny",
    "model": "zoo:digits_mlp",
    "data": {"train": "digits:train:80", "test": "digits:test:20"},
    "training": {"epochs": 1},
    "fine_tuning": {"epochs": 1},
    "time": {"steps": 2, "calibration_steps": 2, "calibration_samples": 10},
    "measure": {"spiking": 10, "energy": 0},
    "attack": {"eps": ["8/255"], "attacks": "fgsm,refine=0", "in_time": "fgsm,refine=0",
               "ann": "fgsm,refine=0", "patience": "0",
               "paths": "clip", "in_time_paths": "clip", "samples": 4, "gate_samples": 0,
               "in_time_gates": 0},
    "network": [{"name": "only"}],
}  # fmt: skip


def recipe(**changed: object) -> Recipe:
    plain = {key: value for key, value in {**PLAIN, **changed}.items() if value is not None}
    return recipe_of(plain, "test")


def carry_out(wanted: Recipe, out: Path) -> list[str]:
    lines: list[str] = []
    run_recipe(wanted, out, "test", tell=lines.append)
    return lines


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole")
    carry_out(recipe(), out)
    return out


@pytest.fixture
def copied(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "run"))


def test_without_attacks_nothing_is_said_of_robustness(copied: Path) -> None:
    assert "obust accuracy" in (copied / "only" / "report.html").read_text()
    carry_out(recipe(attack=None), copied)
    left = {path.name for path in (copied / "only").iterdir()}
    assert not left & {"robustness.json", "robustness_ann.json"}
    assert not (copied / "robust.json").exists()
    assert "obust accuracy" not in (copied / "only" / "report.html").read_text()


def test_a_network_on_the_other_road_keeps_no_certificate(copied: Path) -> None:
    carry_out(recipe(network=[{"name": "only", "road": "through-time"}]), copied)
    left = {path.name for path in (copied / "only").iterdir()}
    assert {"trained.safetensors", "timing.json", "robustness.json"} <= left
    assert not left & {"certificate.json", "network.safetensors", "energy.json", "evaluation.json"}
    page = (copied / "only" / "report.html").read_text()
    assert "exact for all inputs" not in page
    carry_out(recipe(), copied)
    back = {path.name for path in (copied / "only").iterdir()}
    assert "certificate.json" in back and not back & {"trained.safetensors", "timing.json"}


def test_a_stage_that_was_stopped_is_not_taken_for_done(
    copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its first file is of the new settings, its second of the old, when the old ones come back."""
    before = (copied / "only" / "energy.json").read_text()
    with monkeypatch.context() as patch:

        def stopped(*_: object) -> None:
            raise KeyboardInterrupt

        patch.setattr(energy, "activity", stopped)
        with pytest.raises(KeyboardInterrupt):
            carry_out(recipe(measure={"spiking": 10, "energy": 3}), copied)
    assert "only: energy" in carry_out(recipe(), copied)
    assert (copied / "only" / "energy.json").read_text() == before


def test_a_teacher_that_changed_under_its_name_is_seen(tmp_path: Path) -> None:
    graph, teacher = load_graph("zoo:digits_mlp").graph, tmp_path / "teacher.safetensors"
    taught = {"epochs": 1, "distil": 0.5, "teacher": str(teacher)}
    network = {"name": "half", "method": "magnitude", "sparsity": 0.5}
    wanted = recipe(training=taught, attack=None, network=[network])
    save_graph(teacher, graph)
    carry_out(wanted, tmp_path / "run")
    assert "half: prune was done before" in carry_out(wanted, tmp_path / "run")
    save_graph(teacher, fresh(graph, torch.Generator().manual_seed(0)))
    assert "half: prune" in carry_out(wanted, tmp_path / "run")


def test_the_teacher_is_the_network_that_was_there_before(tmp_path: Path) -> None:
    wanted = recipe(training={"epochs": 1, "distil": 0.5}, attack=None)
    model, data = load_graph("zoo:digits_mlp"), load_data("digits:train:80")
    first = fresh(model.graph, torch.Generator().manual_seed(0))
    save_graph(tmp_path / "model.safetensors", first)
    choice = replace(wanted.network[0], method="magnitude", sparsity=0.5, start="first")
    bench = Bench(wanted, choice, model, data, data, tmp_path, None, lambda _: None, start=tmp_path)
    task, _ = _task(bench)
    assert task.lesson is not None
    x = data.values()[:5]
    teacher = task.lesson.objective.teacher  # type: ignore[attr-defined]
    from_first, from_model = (type(teacher)(graph).eval()(x) for graph in (first, model.graph))
    assert torch.equal(teacher(x), from_first) and not torch.equal(teacher(x), from_model)


def test_in_time_none_stands_for_all_samples() -> None:
    graph, data = load_graph("zoo:digits_mlp").graph, load_data("digits:test:20")
    assert data.y is not None
    x, y = data.values(), data.y
    network = fold(to_trainable(graph, Dynamics(4), x).eval())
    every, some = measure_in_time(network, x, y, 0), measure_in_time(network, x, y, 5, 10)
    assert every == measure_in_time(network, x, y, 20, 20)
    assert (every["n"], every["counted"], some["n"], some["counted"]) == (20, 20, 10, 5)
    assert every["synops"] > 0 and every["whole"] == some["whole"]
    assert every["whole"] == {"n": 20, "accuracy": every["accuracy"]}
    assert some == {**measure_in_time(network, x[:10], y[:10], 5), "whole": every["whole"]}
