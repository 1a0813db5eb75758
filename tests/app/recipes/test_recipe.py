"""Recipes: what a good one holds, and one line, in time, for every way to get one wrong."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from spikemorph.choices.settings import ConvertChoice, MeasureChoice, TrainingChoice
from spikemorph.graph import InputError
from spikemorph.recipes.pipeline import run_recipe
from spikemorph.recipes.recipe import read_recipe, recipe_of, with_seed
from spikemorph.zoo import Samples, load_data

GOOD: dict[str, Any] = {
    "name": "tiny",
    "model": "zoo:digits_mlp",
    "data": {"train": "digits:train", "test": "digits:test"},
    "training": {"epochs": 3, "rate": 1, "flip": True},
    "network": [
        {"name": "dense"},
        {
            "name": "sparse", "method": "rigl", "sparsity": 0.9, "allocation": "erk",
            "training": {"epochs": 7},
        },
    ],
}  # fmt: skip


def changed(*path: Any, to: Any) -> dict[str, Any]:
    """The good recipe with one value set."""
    plain = deepcopy(GOOD)
    inner: Any = plain
    for key in path[:-1]:
        inner = inner.setdefault(key, {}) if isinstance(inner, dict) else inner[key]
    inner[path[-1]] = to
    return plain


def without(*path: Any) -> dict[str, Any]:
    """The good recipe with one value taken out."""
    plain = deepcopy(GOOD)
    inner: Any = plain
    for key in path[:-1]:
        inner = inner[key]
    del inner[path[-1]]
    return plain


def test_a_network_changes_the_training_it_names_and_nothing_else() -> None:
    recipe = recipe_of(GOOD, "r")
    dense, sparse = recipe.network
    assert recipe.training == TrainingChoice(epochs=3, rate=1.0, flip=True)
    assert recipe.training_of(dense) == recipe.training
    mine = asdict(recipe.training_of(sparse))
    assert mine == asdict(recipe.training) | {"epochs": 7}
    assert (sparse.method, sparse.sparsity, sparse.allocation) == ("rigl", 0.9, "erk")
    assert (recipe.convert, recipe.measure) == (ConvertChoice(), MeasureChoice())


def test_whole_numbers_pass_as_reals_and_become_so() -> None:
    rate = recipe_of(changed("training", "rate", to=2), "r").training.rate
    assert (rate, type(rate)) == (2.0, float)


def test_another_seed_changes_nothing_but_the_seed() -> None:
    recipe = recipe_of(changed("seed", to=3), "r")
    assert with_seed(recipe, None) == recipe
    assert asdict(with_seed(recipe, 5)) == asdict(recipe) | {"seed": 5}


BAD: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "unknown key": (changed("sparsity", to=0.9), ("sparsity", "known: name, model")),
    "unknown key of a table": (changed("training", "epoch", to=1), ("training", "epoch", "rate")),
    "unknown key of a network": (
        changed("network", 1, "sparse", to=1), ("network[1]", "'sparse'", "sparsity"),
    ),
    "unknown key of its training": (
        changed("network", 1, "training", to={"rates": 1}), ("'sparse'", "training", "rates"),
    ),
    "missing model": (without("model"), ("model", "missing")),
    "missing test data": (without("data", "test"), ("data", "test", "missing")),
    "no networks": (changed("network", to=[]), ("[[network]]",)),
    "network is no list": (changed("network", to={"name": "a"}), ("[[network]]",)),
    "network is no table": (changed("network", to=["dense"]), ("network[0]", "table")),
    "data is no table": (changed("data", to="digits:test"), ("data", "table")),
    "training is no table": (changed("training", to=3), ("training", "table")),
    "a network's training is no table": (
        changed("network", 1, "training", to=3), ("network[1]: training", "table"),
    ),
    "real for whole": (changed("training", "epochs", to=2.5), ("epochs", "2.5", "int")),
    "text for whole": (changed("training", "epochs", to="2"), ("epochs", "'2'", "int")),
    "truth for whole": (changed("training", "epochs", to=True), ("epochs", "True", "int")),
    "whole for truth": (changed("training", "flip", to=1), ("flip", "bool")),
    "text for real": (changed("network", 1, "sparsity", to="0.9"), ("sparsity", "float")),
    "whole for text": (changed("network", 0, "name", to=3), ("name", "str")),
    "list for text": (changed("model", to=["a"]), ("model", "str")),
    "whole for text or none": (changed("network", 1, "method", to=3), ("method", "str")),
    "two of one name": (changed("network", 1, "name", to="dense"), ("dense", "its own")),
    "names that differ in case": (changed("network", 1, "name", to="Dense"), ("dense", "its own")),
    "no name": (changed("network", 0, "name", to=""), ("''", "folder")),
    "blank name": (changed("network", 0, "name", to="  "), ("folder",)),
    "name climbs out": (changed("network", 0, "name", to="../x"), ("'../x'", "folder")),
    "name is hidden": (changed("network", 0, "name", to=".."), ("'..'", "folder")),
    "name of a file there": (changed("network", 0, "name", to="a\\b"), ("folder",)),
    "name with a zero byte": (changed("network", 0, "name", to="a\0b"), ("folder",)),
    "long name": (changed("network", 0, "name", to="x" * 300), ("too long",)),
    "recipe's name climbs out": (changed("name", to="a/b"), ("'a/b'", "folder")),
    "sparsity without a method": (without("network", 1, "method"), ("'sparse'", "method")),
    "energy of less than nothing": (changed("measure", "energy", to=-1), ("energy", "0 for all")),
    "spikes of less than nothing": (changed("measure", "spiking", to=-1), ("spiking", "-1")),
    "seed below zero": (changed("seed", to=-1), ("seed", "-1")),
    "seed that is too large": (changed("seed", to=2**63), ("seed", "whole number")),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_what_is_wrong_is_named_in_one_line(case: str) -> None:
    plain, words = BAD[case]
    with pytest.raises(InputError) as caught:
        recipe_of(plain, "tiny.toml")
    said = str(caught.value)
    assert "\n" not in said
    assert len(said) < 300
    for word in words:
        assert word in said, said


@pytest.mark.parametrize(
    "text", ["name = ", "a b", "x = " + "[" * 9000, "name = 'a'\nname = 'b'", "\0"]
)
def test_what_is_no_toml_is_refused_with_the_file(tmp_path: Path, text: str) -> None:
    file = tmp_path / "odd.toml"
    file.write_text(text)
    with pytest.raises(InputError, match=r"odd\.toml: not readable as TOML"):
        read_recipe(file)


def test_what_is_no_text_or_no_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe\x00")
    for name in ("bytes.toml", "none.toml", "."):
        with pytest.raises(InputError, match="not readable as TOML"):
            read_recipe(tmp_path / name)


def unlabelled(samples: Samples) -> Samples:
    return replace(samples, y=None)


def mislabelled(samples: Samples) -> Samples:
    assert samples.y is not None
    return replace(samples, y=samples.y + 1, classes=())


def small(samples: Samples) -> Samples:
    return replace(samples, x=samples.x[:, :, :4])


DATA = {"train": "digits:train:200", "test": "digits:test:40"}
MADE_FIRST = {"name": "first", "method": "magnitude", "sparsity": 0.5}
TINY = {"name": "tiny", "model": "zoo:digits_mlp", "data": DATA, "network": [MADE_FIRST]}
TYPOS: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "model": ({"model": "zoo:nothing"}, ("nothing", "digits_mlp")),
    "train data": ({"data": {**DATA, "train": "digit:train"}}, ("digit:train", "fashion-mnist")),
    "test data": ({"data": {**DATA, "test": "digits:exam"}}, ("digits:exam", "digits:test")),
    "method": ({"method": "magnitudes"}, ("'last'", "method='magnitudes'", "rigl")),
    "allocation": ({"allocation": "even"}, ("'last'", "allocation='even'", "uniform")),
    "sparsity 1": ({"sparsity": 1.0}, ("'last'", "sparsity 1", "0 <= share < 1")),
    "sparsity below 0": ({"sparsity": -0.5}, ("'last'", "sparsity -0.5")),
    "epochs": ({"own": {"epochs": 0}}, ("'last'", "epochs is 0")),
    "rate": ({"own": {"rate": float("nan")}}, ("'last'", "rate: is nan")),
    "clip": ({"own": {"clip": -1.0}}, ("'last'", "clip is -1")),
    "no states": ({"own": {"temporal_sparsity": 1.0}}, ("'last'", "temporal_sparsity=1", "no recurrent")),
    "held out": ({"own": {"held_out": 200}}, ("'last'", "200 of 200")),
    "precision": ({"own": {"precision": "8"}}, ("'last'", "precision='8'", "bf16-mixed")),
    "smoothing": ({"own": {"smoothing": 2.0}}, ("'last'", "smoothing 2", "0 to 1")),
    "distil": ({"own": {"distil": -1.0}}, ("'last'", "distil -1")),
    "shift": ({"own": {"shift": 8}}, ("'last'", "shift 8", "0 to 7")),
    "neuron": ({"convert": {"neuron": "lif"}}, ("neuron='lif'", "pow2")),
    "coding": ({"convert": {"coding": "poisson"}}, ("coding='poisson'", "analog")),
    "schedule": ({"convert": {"schedule": "now"}}, ("schedule='now'", "free")),
    "calibrator": ({"convert": {"calibrator": "mean"}}, ("calibrator='mean'", "mse")),
    "levels": ({"convert": {"levels": 1}}, ("1 levels",)),
    "bits": ({"convert": {"weight_bits": 9}}, ("9 weight bits",)),
    "same data": ({"data": {**DATA, "test": "digits:train:40"}}, ("tested on what it learns from",)),
}  # fmt: skip


@pytest.mark.parametrize("case", TYPOS)
def test_a_mistake_in_the_last_network_is_found_before_the_first_is_made(
    tmp_path: Path, case: str
) -> None:
    tables, words = TYPOS[case]
    last = {"name": "last", "method": "magnitude", "sparsity": 0.5}
    last |= {key: value for key, value in tables.items() if key in ("method", "allocation")}
    last |= {"sparsity": tables.get("sparsity", 0.5), "training": tables.get("own", {})}
    rest = {key: value for key, value in tables.items() if key in ("model", "data", "convert")}
    with pytest.raises(InputError) as caught:
        wanted = recipe_of({**TINY, **rest, "network": [MADE_FIRST, last]}, "test")
        run_recipe(wanted, tmp_path / "run", "spikemorph run test.toml")
    assert not (tmp_path / "run").exists()
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("split", "spoil", "word"),
    [
        ("train", unlabelled, "no labels to learn from"),
        ("train", mislabelled, "label 10, the network has classes 0..9"),
        ("test", mislabelled, "label 10, the network has classes 0..9"),
        ("train", small, "(1, 4, 8)"),
        ("test", small, "(1, 4, 8)"),
    ],
)
def test_data_that_does_not_fit_is_refused_before_anything_is_made(
    tmp_path: Path, split: str, spoil: Callable[[Samples], Samples], word: str
) -> None:
    def read(spec: str) -> Samples:
        samples = load_data(spec)
        return spoil(samples) if split in spec else samples

    with pytest.raises(InputError, match="'first'") as caught:
        run_recipe(recipe_of(TINY, "test"), tmp_path / "run", "spikemorph run test.toml", read=read)
    assert word in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_one_file_under_two_names_is_no_test(tmp_path: Path) -> None:
    def read(spec: str) -> Samples:
        return replace(load_data("digits:test:40"), name=spec)

    with pytest.raises(InputError, match="tested on what it learns from"):
        run_recipe(recipe_of(TINY, "test"), tmp_path, "spikemorph run test.toml", read=read)
