"""Recipes of the robust pipeline: both roads and attacks; what is made once, and what is refused."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from spikemorph.graph import InputError
from spikemorph.graph.saving import load_graph_file
from spikemorph.layers.masks import masks_of
from spikemorph.recipes.pipeline import run_recipe
from spikemorph.recipes.recipe import recipe_of
from spikemorph.report.robust import eps_text
from spikemorph.sources.subjects import open_subject
from spikemorph.surrogate.trained_file import load_trained

PLAIN: dict[str, Any] = {
    "name": "tiny-robust",
    "model": "zoo:digits_mlp",
    "data": {"train": "digits:train:150", "test": "digits:test:30"},
    "training": {"epochs": 2, "held_out": 20, "smoothing": 0.0, "objective": "fast",
                 "eps": "8/255"},
    "fine_tuning": {"epochs": 1, "smoothing": 0.0, "objective": "fast", "eps": "8/255"},
    "convert": {"input_bits": 12},
    "time": {"steps": 2, "calibration_steps": 4},
    "measure": {"energy": 5},
    "attack": {"eps": ["8/255", "16/255"], "attacks": "pgd=2,square=5,refine=3",
               "in_time": "pgd=2,refine=3", "ann": "pgd=2,refine=0", "patience": "1,2",
               "paths": "clip", "in_time_paths": "clip", "samples": 10,
               "gate_samples": 0},
    "network": [
        {"name": "dense", "method": "train", "fresh": True, "road": "quantisation-aware"},
        {"name": "timed", "start": "dense", "road": "through-time"},
        {"name": "sparse", "method": "magnitude", "sparsity": 0.8, "start": "dense",
         "road": "quantisation-aware"},
        {"name": "sparse-timed", "start": "sparse", "road": "through-time",
         "fine_tuning": {"objective": "rfgsm"}},
    ],
}  # fmt: skip
NAMES = ("dense", "timed", "sparse", "sparse-timed")
EXACT = ("prune", "convert", "measure", "energy", "attack")
TIMED = ("prune", "fine-tune", "measure", "attack")


def changed(**tables: Any) -> dict[str, Any]:
    """The recipe with values of its tables, or whole tables, changed."""
    plain = dict(PLAIN)
    for name, value in tables.items():
        both = isinstance(value, dict) and isinstance(plain.get(name), dict)
        plain[name] = {**plain[name], **value} if both else value
    return plain


def with_network(index: int, **values: Any) -> dict[str, Any]:
    """The recipe with one network changed; None takes a value out."""
    networks = [dict(network) for network in PLAIN["network"]]
    networks[index] |= values
    kept = {k: v for k, v in networks[index].items() if v is not None}
    return changed(network=[*networks[:index], kept, *networks[index + 1 :]])


def carry_out(plain: dict[str, Any], out: Path, *, stop: str | None = None) -> list[str]:
    """Run a recipe; the lines it told. At the line `stop`, the user presses Ctrl-C."""
    lines: list[str] = []

    def tell(line: str) -> None:
        lines.append(line)
        if stop is not None and line.startswith(stop):
            raise KeyboardInterrupt

    def run() -> None:
        run_recipe(recipe_of(plain, "test"), out, "spikemorph run test.toml", tell=tell)

    if stop is None:
        run()
    else:
        with pytest.raises(KeyboardInterrupt):
            run()
    return lines


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The recipe carried out without a stop; not to be changed."""
    out = tmp_path_factory.mktemp("whole")
    carry_out(PLAIN, out)
    return out


@pytest.fixture
def copied(whole: Path, tmp_path: Path) -> Path:
    """A copy of that run, to be changed."""
    return Path(shutil.copytree(whole, tmp_path / "run"))


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def done(lines: list[str]) -> set[str]:
    """``network: stage`` of all stages that were carried out."""
    stages = {f"{name}: {stage}" for name in NAMES for stage in {*EXACT, *TIMED}}
    return stages.intersection(lines)


def test_every_network_leaves_its_parts(whole: Path) -> None:
    assert {path.name for path in whole.iterdir()} == {
        *NAMES, "comparison.json", "robust.json", "index.html",
    }  # fmt: skip
    common = {
        "model.safetensors", "sparsity.json", "model.json", "stages.json", "robustness.json",
        "robustness_ann.json", "blocks", "comparison.json", "reproduce.json", "report.html",
        "report.json",
    }  # fmt: skip
    exact = {
        "network.safetensors", "certificate.json", "evaluation.json", "energy.json",
        "activity.json",
    }  # fmt: skip
    timed = {"trained.safetensors", "deployed.safetensors", "timing.json"}
    for name in NAMES:
        found = {path.name for path in (whole / name).iterdir()}
        assert found == common | (timed if "timed" in name else exact), name
        assert "obustness" in (whole / name / "report.html").read_text()


@pytest.mark.parametrize(
    ("plain", "wanted"),
    [
        (PLAIN, ["8/255"] * 4),
        (
            changed(fine_tuning={"objective": "clean"}, training={"objective": "clean"}),
            [None, None, None, "8/255"],
        ),
        (with_network(0, training={"objective": "fast", "eps": "2/255"}), ["8/255"] * 4),
        (with_network(1, fine_tuning={"eps": 0.25}), ["8/255", 0.25, "8/255", "8/255"]),
        (
            changed(
                fine_tuning={"objective": "clean"},
                training={"objective": "fast", "eps": "2/255"},
            ),
            ["2/255", "2/255", "2/255", "8/255"],
        ),
    ],
)
def test_the_eps_of_a_network_is_that_of_its_last_training_that_attacked(
    plain: dict[str, Any], wanted: list[Any]
) -> None:
    recipe = recipe_of(plain, "test")
    assert [recipe.trained_eps(network) for network in recipe.network] == wanted


def test_the_table_says_what_the_evaluations_say(whole: Path) -> None:
    robust = read(whole / "robust.json")
    assert [row["name"] for row in robust["networks"]] == list(NAMES)
    for row in robust["networks"]:
        spiking = read(whole / row["name"] / "robustness.json")
        ann = read(whole / row["name"] / "robustness_ann.json")
        assert spiking["model"] == ann["model"] == row["name"]
        assert spiking["kind"] == ("through time" if "timed" in row["name"] else "exact")
        assert ann["kind"] == "ann"
        assert spiking["trained_eps"] == 8 / 255
        assert (row["n"], row["clean"]) == (10, spiking["clean"]["accuracy"])
        assert [eps_text(eps) for eps in row["robust"]] == ["8/255", "16/255"]
        assert list(row["robust"].values()) == [e["worst_case"] for e in spiking["eps"]]
        assert list(row["ann_robust"].values()) == [e["worst_case"] for e in ann["eps"]]
        assert row["ann_clean"] == ann["clean"]["accuracy"]
        assert {m["path"] for e in spiking["eps"] for m in e["attacks"]} <= {"clip", None}
    zero = {row["name"]: row["sparsity"] for row in robust["networks"]}
    assert zero["sparse"] >= 79.9
    assert zero["sparse-timed"] >= 79.9
    assert max(zero["dense"], zero["timed"]) < 50


def test_both_roads_keep_the_connections_they_start_from(whole: Path) -> None:
    before = masks_of(load_graph_file(whole / "sparse" / "model.safetensors"))
    assert before
    module, _ = load_trained(whole / "sparse-timed" / "trained.safetensors")
    after = masks_of(module.graph)
    assert all((after[name] == mask).all() for name, mask in before.items())
    files = [whole / name / "model.safetensors" for name in ("sparse", "sparse-timed")]
    assert files[0].read_bytes() == files[1].read_bytes()  # it starts from just that


def test_a_folded_network_is_not_attacked(whole: Path) -> None:
    with pytest.raises(InputError, match="trained.safetensors"):
        open_subject(str(whole / "timed" / "deployed.safetensors"))


def test_a_finished_run_does_nothing_again(copied: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in copied.rglob("*.safetensors")}
    lines = carry_out(PLAIN, copied)
    assert not done(lines)
    assert sum("was done before" in line for line in lines) == 2 * (len(EXACT) + len(TIMED))
    assert {p: p.stat().st_mtime_ns for p in copied.rglob("*.safetensors")} == before


def test_a_changed_attack_redoes_the_attacks_only(copied: Path) -> None:
    """And blocks of an eps that stays are not done again."""
    before = {p: p.stat().st_mtime_ns for p in copied.rglob("block-*.safetensors")}
    lines = carry_out(changed(attack={"eps": ["8/255", "32/255"]}), copied)
    assert done(lines) == {f"{name}: attack" for name in NAMES}
    after = {p: p.stat().st_mtime_ns for p in copied.rglob("block-*.safetensors")}
    assert before.items() <= after.items()
    assert len(after) == len(before) * 3 // 2
    assert read(copied / "dense" / "robustness.json")["eps"][1]["eps"] == 32 / 255


def test_changed_time_steps_redo_one_road_only(copied: Path) -> None:
    lines = carry_out(changed(time={"steps": 3}), copied)
    stages = ("fine-tune", "measure", "attack")
    assert done(lines) == {f"{name}: {stage}" for name in NAMES[1::2] for stage in stages}
    assert read(copied / "timed" / "robustness.json")["steps"] == 3


def test_a_lost_file_is_made_again(copied: Path) -> None:
    wanted = (copied / "timed" / "trained.safetensors").read_bytes()
    (copied / "timed" / "trained.safetensors").unlink()
    assert done(carry_out(PLAIN, copied)) == {"timed: fine-tune"}
    assert (copied / "timed" / "trained.safetensors").read_bytes() == wanted


def test_a_stopped_run_goes_on_and_ends_the_same(whole: Path, tmp_path: Path) -> None:
    carry_out(PLAIN, tmp_path, stop="timed: attack")
    lines = carry_out(PLAIN, tmp_path)
    assert "dense: prune was done before" in lines
    assert "timed: fine-tune was done before" in lines
    for name in NAMES:
        for file in ("model", "trained" if "timed" in name else "network"):
            path = Path(name) / f"{file}.safetensors"
            assert (tmp_path / path).read_bytes() == (whole / path).read_bytes(), path
        found, wanted = (read(out / name / "robustness.json") for out in (tmp_path, whole))
        assert found["per_sample"] == wanted["per_sample"]


@pytest.mark.parametrize(
    ("plain", "words"),
    [
        (with_network(1, start="nothing"), ("'timed'", "'nothing'", "dense")),
        (with_network(1, start="timed"), ("'timed'", "no network before it")),
        (with_network(0, start="sparse"), ("'dense'", "'sparse'", "none")),
        (with_network(2, fresh=True), ("'sparse'", "new weights")),
        (with_network(0, sparsity=0.5), ("'dense'", "prunes nothing")),
        (with_network(3, method=None, sparsity=0.5), ("'sparse-timed'", "no method")),
        (with_network(3, road="post-training"), ("'sparse-timed'", "fine_tuning")),
        (with_network(3, road="highway"), ("'sparse-timed'", "highway", "through-time")),
        (with_network(3, fine_tuning={"speed": 1}), ("'sparse-timed'", "speed")),
        (changed(attack={"attack": "pgd"}), ("attack", "unknown keys")),
        (changed(attack={"eps": "8/255"}), ("attack", "eps", "list")),
        (changed(attack={"eps": [True]}), ("attack", "eps[0]", "str")),
        (changed(attack={"eps": None}), ("attack", "eps", "list")),
    ],
)
def test_contradictions_are_refused_when_read(
    plain: dict[str, Any], words: tuple[str, ...]
) -> None:
    with pytest.raises(InputError) as error:
        recipe_of(plain, "test")
    for word in words:
        assert word in str(error.value)


@pytest.mark.parametrize(
    ("plain", "words"),
    [
        (changed(attack={"eps": ["8"]}), ("did you mean 8/255?",)),
        (changed(attack={"eps": [0.1, 8]}), ("did you mean 8.0/255?",)),
        (changed(attack={"eps": []}), ("eps", "at least one")),
        (changed(attack={"attacks": "deepfool"}), ("deepfool", "apgd-ce")),
        (changed(attack={"in_time": "pgd=0"}), ("pgd=0",)),
        (changed(attack={"ann": "nothing"}), ("nothing",)),
        (changed(attack={"norm": "l3"}), ("l3", "linf")),
        (changed(attack={"samples": 0}), ("samples 0",)),
        (changed(attack={"paths": "paper"}), ("'dense'", "not known")),
        (changed(attack={"in_time_paths": "straight-through"}), ("'timed'", "not known")),
        (changed(time={"reset": "none"}), ("'timed'", "none", "hard or soft")),
        (changed(time={"steps": 0}), ("'timed'", "steps 0")),
        (changed(time={"percentile": 101}), ("'timed'", "percentile")),
        (changed(fine_tuning={"objective": "x"}), ("'dense'", "x", "trades")),
        (with_network(3, fine_tuning={"eps": "8"}), ("'sparse-timed'", "8/255")),
        (
            with_network(3, fine_tuning={"objective": "ibp", "eps": "8/255", "smoothing": 0.0}),
            ("'sparse-timed'", "objective ibp", "quantisation-aware"),
        ),
    ],
)
def test_what_would_fail_hours_later_is_refused_before_anything_is_made(
    tmp_path: Path, plain: dict[str, Any], words: tuple[str, ...]
) -> None:
    with pytest.raises(InputError) as error:
        carry_out(plain, tmp_path / "run")
    for word in words:
        assert word in str(error.value)
    assert not (tmp_path / "run").exists()


def test_a_network_that_others_start_from_need_not_be_attacked(tmp_path: Path) -> None:
    plain = changed(network=with_network(0, attacked=False)["network"][:2])
    carry_out(plain, tmp_path / "run")
    rows = read(tmp_path / "run" / "robust.json")["networks"]
    assert [row["name"] for row in rows] == ["timed"]
    assert not (tmp_path / "run" / "dense" / "robustness.json").exists()
    assert (tmp_path / "run" / "dense" / "report.html").exists()
