"""Data by name: what it is is known from its card, before anything is fetched or learnt."""

from collections.abc import Callable
from pathlib import Path

import pytest
from helpers import refused

from spikemorph.graph import Input, InputError
from spikemorph.sources import sampling
from spikemorph.zoo import data_catalogue, datasets

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing can be fetched."""

    def fail(*_: object) -> Path:
        pytest.fail("it was fetched")

    monkeypatch.setattr(datasets, "obtain", fail)


@pytest.mark.usefixtures("unreachable")
def test_another_shape_is_refused_before_it_is_fetched(spikemorph: Run, tmp_path: Path) -> None:
    out = ("--out", tmp_path / "o.safetensors")
    for words in (
        ("convert", "zoo:digits_mlp", "--data", "cifar10:test", *out),
        ("finetune", "zoo:digits_mlp", "--data", "cifar10:train", *out),
        ("attack", "zoo:digits_mlp", "--data", "cifar10:test", "--eps", "8/255"),
    ):
        refused(spikemorph(*words), "cifar10:t", "(3, 32, 32)", "(1, 8, 8)")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "spec", ["digits:test", "fashion-mnist:sample:5", "mnist:test", "cifar10:test"]
)
@pytest.mark.usefixtures("unreachable")
def test_nothing_is_learnt_from_what_networks_are_tested_on(spec: str) -> None:
    name = spec.partition(":")[0]
    with pytest.raises(InputError, match=f"{spec}: .*give {name}:train"):
        sampling.refuse_test_data(None, spec)
    with pytest.raises(InputError, match="never trained or calibrated"):
        sampling.split_data("digits:train", spec, 0)


def test_every_split_but_train_and_validation_is_for_tests() -> None:
    for entry in data_catalogue():
        learnt_from = {name for name, split in entry.splits.items() if not split.tests}
        assert learnt_from - {"validation"} == {"train"}


def test_files_and_folders_are_the_users_own(tmp_path: Path) -> None:
    sampling.refuse_test_data(str(tmp_path), f"{tmp_path}/x.npz", f"{tmp_path}/x.npz:3", None)
    sampling.refuse_unfit(Input((1, 2, 2)), str(tmp_path), f"{tmp_path}/x.npz", None)


def test_a_factory_beside_the_user_is_found(
    spikemorph: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "besideme.py").write_text(
        "import importlib\nfrom torch import nn\n"
        "def net():\n    return importlib.import_module('besideme_too').net()\n"
    )
    (tmp_path / "besideme_too.py").write_text(
        "from torch import nn\n"
        "def net():\n    return nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))\n"
    )
    monkeypatch.chdir(tmp_path)
    assert spikemorph("inspect", "besideme:net", "--input-shape", "1,4")[0] == 0
