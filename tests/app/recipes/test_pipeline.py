"""Recipes carried out: what is made, what is not made twice, and what a stopped run leaves."""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from spikemorph.graph import InputError
from spikemorph.graph.saving import load_graph_file
from spikemorph.layers.masks import masks_of, weight_of
from spikemorph.measures.comparison import compared
from spikemorph.recipes import pipeline
from spikemorph.recipes.pipeline import Stage, run_recipe
from spikemorph.recipes.recipe import Recipe, recipe_of
from spikemorph.recipes.stages.bench import Bench
from spikemorph.sources.sampling import Read
from spikemorph.zoo import Samples, load_data

PLAIN: dict[str, Any] = {
    "name": "tiny",
    "model": "zoo:digits_mlp",
    "data": {"train": "digits:train:200", "test": "digits:test:40"},
    "training": {"epochs": 3, "held_out": 20},
    "measure": {"energy": 10},
    "network": [{"name": "sparse", "method": "magnitude", "sparsity": 0.8}, {"name": "dense"}],
}
ALL = ("prune", "convert", "measure", "energy")
TIMES = ("seconds",)


def recipe(**tables: Any) -> Recipe:
    """The recipe with values of its tables, or whole tables, changed."""
    plain = dict(PLAIN)
    for name, value in tables.items():
        both = isinstance(value, dict) and isinstance(plain.get(name), dict)
        plain[name] = {**plain[name], **value} if both else value
    return recipe_of(plain, "test")


def carry_out(
    wanted: Recipe, out: Path, *, stop: str | None = None, read: Read = load_data
) -> list[str]:
    """Run a recipe; the lines it told. At the line `stop`, the user presses Ctrl-C."""
    lines: list[str] = []

    def tell(line: str) -> None:
        lines.append(line)
        if stop is not None and line.startswith(stop):
            raise KeyboardInterrupt

    if stop is None:
        run_recipe(wanted, out, "spikemorph run test.toml", read=read, tell=tell)
    else:
        with pytest.raises(KeyboardInterrupt):
            run_recipe(wanted, out, "spikemorph run test.toml", read=read, tell=tell)
    return lines


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The recipe carried out without a stop; not to be changed."""
    out = tmp_path_factory.mktemp("whole")
    carry_out(recipe(), out)
    return out


@pytest.fixture
def copied(whole: Path, tmp_path: Path) -> Path:
    """A copy of that run, to be changed."""
    return Path(shutil.copytree(whole, tmp_path / "run"))


def timeless(plain: Any) -> Any:
    """Plain data without times."""
    if isinstance(plain, dict):
        return {key: timeless(value) for key, value in plain.items() if key not in TIMES}
    return [timeless(value) for value in plain] if isinstance(plain, list) else plain


def assert_same(found: Path, wanted: Path) -> None:
    """The same files, models and networks bit for bit, JSON but for times."""
    files = sorted(path.relative_to(wanted) for path in wanted.rglob("*"))
    assert sorted(path.relative_to(found) for path in found.rglob("*")) == files
    for file in files:
        if file.suffix == ".safetensors":
            assert (found / file).read_bytes() == (wanted / file).read_bytes(), file
        elif file.suffix == ".json":
            both = [json.loads((folder / file).read_text()) for folder in (found, wanted)]
            assert timeless(both[0]) == timeless(both[1]), file


def test_a_run_leaves_its_parts_and_nothing_else(whole: Path) -> None:
    parts = {path.name for path in (whole / "sparse").iterdir()}
    assert parts == {
        "model.safetensors", "network.safetensors", "stages.json", "report.html", "report.json",
        "model.json", "sparsity.json", "certificate.json", "evaluation.json", "energy.json",
        "activity.json", "comparison.json", "reproduce.json",
    }  # fmt: skip
    assert {path.name for path in whole.iterdir()} == {
        "sparse", "dense", "comparison.json", "index.html",
    }  # fmt: skip
    index = (whole / "index.html").read_text()
    assert all(f'href="{name}/report.html"' in index for name in ("sparse", "dense"))


def test_the_pruned_network_is_as_sparse_as_asked_for(whole: Path) -> None:
    graph = load_graph_file(whole / "sparse" / "model.safetensors")
    masks = masks_of(graph)
    total = sum(mask.numel() for mask in masks.values())
    kept = sum(int(mask.sum()) for mask in masks.values())
    assert kept / total == pytest.approx(0.2, abs=1e-3)
    assert not any(bool(weight_of(graph[name])[~mask].any()) for name, mask in masks.items())
    assert not masks_of(load_graph_file(whole / "dense" / "model.safetensors"))


def test_compared_numbers_are_the_networks_own(whole: Path) -> None:
    comparison = json.loads((whole / "comparison.json").read_text())
    assert [row["name"] for row in comparison["networks"]] == ["sparse", "dense"]
    for row in comparison["networks"]:
        folder = whole / row["name"]
        assert json.loads((folder / "comparison.json").read_text()) == comparison
        seen, cost, certificate = (
            json.loads((folder / f"{part}.json").read_text())
            for part in ("evaluation", "energy", "certificate")
        )
        assert row["accuracy"] == seen["curve"][-1]["accuracy"]
        assert row["float_accuracy"] == seen["float_accuracy"]
        assert row["mismatching_logits"] == seen["settled"]["mismatching_logits"] == 0
        assert row["level"] == certificate["level"] == "A"
        assert row["steps"] == certificate["steps_required"]
        assert row["synops"] * cost["n"] == cost["counts"]["totals"]["synops"]
        assert row["storage_bits"] == cost["memory"]["storage_bits"]
        assert row["energy"] == {price["name"]: price["snn"] for price in cost["prices"]}
        assert row["verdict"] == cost["band"]["verdict"]
        zero = 1 - cost["memory"]["weights_nonzero"] / cost["memory"]["weights_total"]
        assert row["sparsity"] == pytest.approx(100 * zero)


def test_what_was_not_measured_is_not_compared() -> None:
    row = compared("n", None, None)
    assert row.accuracy is row.synops is row.sparsity is row.verdict is None
    assert row.energy == {}


def test_the_dense_network_is_the_baseline_wherever_it_stands(whole: Path) -> None:
    sparse, dense = (
        json.loads((whole / name / "energy.json").read_text()) for name in ("sparse", "dense")
    )
    assert "measured" in sparse["dense_source"]
    for mine, other in zip(sparse["prices"], dense["prices"], strict=True):
        assert mine["snn_dense"] == other["snn_dense"]
        assert mine["ann"] == other["ann"]


def test_nothing_is_done_twice(copied: Path, whole: Path) -> None:
    lines = carry_out(recipe(), copied)
    assert lines == [
        f"{name}: {stage} was done before" for name in ("dense", "sparse") for stage in ALL
    ]
    assert_same(copied, whole)


STOPS = [
    "dense: convert",
    "sparse: epoch 1",
    "sparse: epoch 2",
    "sparse: convert",
    "sparse: energy",
]


@pytest.mark.parametrize("stop", STOPS)
def test_a_stopped_run_ends_as_one_that_was_not(whole: Path, tmp_path: Path, stop: str) -> None:
    before = carry_out(recipe(), tmp_path / "run", stop=stop)
    after = carry_out(recipe(), tmp_path / "run")
    done = [line for line in before if "epoch" in line]
    again = [line for line in after if "epoch" in line]
    assert [line.split(":")[1] for line in done + again] == [" epoch 1", " epoch 2", " epoch 3"]
    assert_same(tmp_path / "run", whole)


@pytest.mark.parametrize("write", [1, 2, 5, 12])
def test_stopped_while_writing_nothing_is_half_written(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: int
) -> None:
    out, left = tmp_path / "run", write

    def stopped(_: int) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", stopped)
    with pytest.raises(KeyboardInterrupt):
        run_recipe(recipe(), out, "spikemorph run test.toml")
    for path in out.rglob("*"):
        assert not path.name.startswith("."), path
        if path.suffix == ".json":
            json.loads(path.read_text())
        if path.suffix == ".safetensors":
            assert path.read_bytes() == (whole / path.relative_to(out)).read_bytes()
    carry_out(recipe(), out)
    assert_same(out, whole)


def test_a_checkpoint_of_other_settings_is_not_taken_up(tmp_path: Path) -> None:
    other = recipe(training={"smoothing": 0.0})
    carry_out(recipe(), tmp_path / "run", stop="sparse: epoch 2")
    assert list((tmp_path / "run" / "sparse").glob("checkpoint-*"))
    carry_out(other, tmp_path / "run")
    carry_out(other, tmp_path / "fresh")
    assert_same(tmp_path / "run", tmp_path / "fresh")


@pytest.fixture
def redone(monkeypatch: pytest.MonkeyPatch) -> Callable[[Recipe, Path, Read], dict[str, set[str]]]:
    """Which stages of which network would be done again; the files are left as they are."""

    def find(wanted: Recipe, out: Path, read: Read = load_data) -> dict[str, set[str]]:
        seen: dict[str, set[str]] = {network.name: set() for network in wanted.network}
        own = pipeline.stages_of

        def noting(bench: Bench) -> tuple[Stage, ...]:
            return tuple(
                replace(
                    stage, work=lambda bench, name=stage.name: seen[bench.network.name].add(name)
                )
                for stage in own(bench)
            )

        monkeypatch.setattr(pipeline, "stages_of", noting)
        monkeypatch.setattr(pipeline, "_forget", lambda *_: None)
        run_recipe(wanted, out, "spikemorph run test.toml", read=read)
        return seen

    return find


SPARSE = {"name": "sparse", "method": "magnitude", "sparsity": 0.8}
FROM_CONVERT = {"convert", "measure", "energy"}
CHANGES: dict[str, tuple[dict[str, Any], set[str], set[str]]] = {
    "nothing": ({}, set(), set()),
    "epochs": ({"training": {"epochs": 4}}, set(ALL), set()),
    "smoothing": ({"training": {"smoothing": 0.0}}, set(ALL), set()),
    "sparsity": ({"network": [SPARSE | {"sparsity": 0.9}, {"name": "dense"}]}, set(ALL), set()),
    "method": ({"network": [SPARSE | {"method": "set"}, {"name": "dense"}]}, set(ALL), set()),
    "its training": (
        {"network": [SPARSE | {"training": {"rate": 0.1}}, {"name": "dense"}]}, set(ALL), set(),
    ),
    "order": ({"network": [{"name": "dense"}, SPARSE]}, set(), set()),
    "name": ({"name": "other"}, set(), set()),
    "levels": ({"convert": {"levels": 8}}, FROM_CONVERT, FROM_CONVERT),
    "seed": ({"seed": 1}, set(ALL), FROM_CONVERT),
    "train data": ({"data": {"train": "digits:train:190"}}, set(ALL), FROM_CONVERT),
    "test data": ({"data": {"test": "digits:test:30"}}, {"measure", "energy"}, {"measure", "energy"}),
    "spiking": ({"measure": {"spiking": 5}}, {"measure"}, {"measure"}),
    "energy": ({"measure": {"energy": 5}}, {"energy"}, {"energy"}),
    "model": ({"model": "zoo:digits_cnn"}, set(ALL), set(ALL)),
}  # fmt: skip


@pytest.mark.parametrize("case", CHANGES)
def test_a_change_redoes_the_stages_that_depend_on_it(
    copied: Path, redone: Callable[..., dict[str, set[str]]], case: str
) -> None:
    tables, sparse, dense = CHANGES[case]
    assert redone(recipe(**tables), copied) == {"sparse": sparse, "dense": dense}


def test_without_its_dense_network_only_the_energy_is_redone(
    copied: Path, redone: Callable[..., dict[str, set[str]]]
) -> None:
    assert redone(recipe(network=[SPARSE]), copied) == {"sparse": {"energy"}}


def test_data_that_changed_under_its_name_is_seen(
    copied: Path, redone: Callable[..., dict[str, set[str]]]
) -> None:
    def read(spec: str) -> Samples:
        samples = load_data(spec)
        return replace(samples, x=255 - samples.x) if "test" in spec else samples

    found = redone(recipe(), copied, read)
    assert found == {"sparse": {"measure", "energy"}, "dense": {"measure", "energy"}}


@pytest.mark.parametrize(
    ("file", "stage"),
    [("model.safetensors", "prune"), ("certificate.json", "convert"), ("activity.json", "energy")],
)
def test_a_missing_file_is_made_again(copied: Path, whole: Path, file: str, stage: str) -> None:
    (copied / "sparse" / file).unlink()
    lines = carry_out(recipe(), copied)
    assert [line for line in lines if "before" not in line and "epoch" not in line] == [
        f"sparse: {stage}"
    ]
    assert_same(copied, whole)


DAMAGED = [
    *((file, b"[]") for file in ("stages", "evaluation", "energy", "certificate", "activity")),
    *(("stages", content) for content in (b"", b'{"prune": 3}', b"\xff")),
    ("evaluation", b'{"model": '),
    ("certificate", b"null"),
]


@pytest.mark.parametrize(("file", "content"), DAMAGED)
def test_a_damaged_file_is_named(copied: Path, file: str, content: bytes) -> None:
    path = copied / "sparse" / f"{file}.json"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        run_recipe(recipe(), copied, "spikemorph run test.toml")
    said = str(caught.value)
    assert str(copied / "sparse") in said
    assert f"{file}.json" in said
    assert "delete" in said
    assert "\n" not in said


def test_the_report_says_how_to_make_the_run_again(whole: Path) -> None:
    found = json.loads((whole / "sparse" / "reproduce.json").read_text())
    certificate = json.loads((whole / "sparse" / "certificate.json").read_text())
    assert found["command"] == "spikemorph run test.toml"
    assert found["seeds"] == {"recipe": 0}
    assert found["versions"]["torch"] == torch.__version__
    assert found["hashes"]["network"] == certificate["network_hash"]
    assert all(len(digest) == 64 for digest in found["hashes"].values())
    assert set(found["hashes"]) == {"model", "training data", "test data", "network"}
