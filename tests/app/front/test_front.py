"""The front door: five lines that do the job, one road with the command line, and what is refused."""

import json
import runpy
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import draw
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

import spikemorph as sm
from spikemorph.front.snn import SNN
from spikemorph.graph.interpret import run_integers
from spikemorph.spiking import ReferenceEngine

ROOT = Path(__file__).parents[3]
X, Y = draw(24, 1, 4, 4).abs().clamp(max=1), torch.arange(24) % 3
UNIT = (0, 1)


def network() -> nn.Module:
    """Two layers with a batch norm between them, in evaluation mode."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        parts = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3)
        return nn.Sequential(*parts).eval()


@pytest.fixture(scope="module")
def snn() -> SNN:
    return sm.to_snn(network(), X, input_range=UNIT)


def test_the_example_runs(tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    """The five lines, and what else is at the door."""
    monkeypatch.setattr("sys.argv", ["front_door.py", str(tmp_path)])
    runpy.run_path(str(ROOT / "examples" / "front_door.py"))
    said = capsys.readouterr().out
    assert said.startswith(
        "1 neuron layer (pow2), certificate A: equals its integer network after 3 steps, for all"
    )
    assert (
        "every node converts" in said
        and "worst case" in said
        and "% of the weights are zero" in said
    )
    assert "tensor(" not in said
    parts = json.loads((tmp_path / "report.json").read_text())["parts"]
    wanted = {"model", "certificate", "evaluation", "energy", "activity", "robustness"}
    assert parts.keys() == wanted


def test_python_and_the_command_line_make_the_same_file(
    tmp_path: Path, spikemorph: Callable[..., Any]
) -> None:
    """One road: the same bytes, so the same hash; evaluation, energy and attack say the same."""
    by_hand, by_command = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    out = spikemorph("convert", "zoo:digits_mlp", "--data", "digits:test:60", "--levels", 8,
                     "--out", by_command)  # fmt: skip
    assert out[0] == 0, out
    snn = sm.to_snn("zoo:digits_mlp", "digits:train", levels=8)
    snn.save(by_hand)
    assert by_hand.read_bytes() == by_command.read_bytes()
    told = tmp_path / "told.json"
    for command, found in (
        (("evaluate",), snn.evaluate("digits:test:60")),
        (("energy", "--samples", 20), snn.energy("digits:test:60", samples=20)),
    ):
        words = (command[0], by_command, "--data", "digits:test:60", *command[1:], "--json", told)
        assert spikemorph(*words)[0] == 0
        assert _same(told, found.to_dict())


def _same(told: Path, found: dict[str, Any]) -> bool:
    plain, other = json.loads(told.read_text()), json.loads(json.dumps(found))
    for one in (plain, other):
        one.pop("seconds", None)
    return bool(plain == other)


def test_settled_outputs_are_the_integer_network_s(snn: SNN) -> None:
    grid, readout = snn.network.grid, snn.network.readout
    wanted = readout.real(run_integers(snn.network.graph, grid.to_integers(X)))
    assert torch.equal(snn(X), wanted.float())
    *_, last = snn.steps(X)
    assert torch.equal(last.logits.float(), snn(X))
    assert torch.equal(snn.module()(X).float(), snn(X))
    trains = ReferenceEngine(snn.network).run(X, 2, record=True).trains
    for k, (spikes, _, logits) in enumerate(snn.steps(X, 2)):
        assert all(torch.equal(spikes[name], trains[name][k]) for name in trains)
        assert torch.equal(snn(X, steps=k + 1), logits.float())


def test_bytes_span_the_input_range_and_reals_are_in_its_units() -> None:
    wide = sm.to_snn(network(), X, input_range=(0, 2))
    assert torch.equal(
        wide(torch.full((1, 1, 4, 4), 255, dtype=torch.uint8)), wide(2 * torch.ones(1, 1, 4, 4))
    )


class Items(Dataset[Any]):
    """Images and labels, one after another, in the form that is asked for."""

    def __init__(self, form: Callable[[Tensor, Tensor], Any]) -> None:
        self.form = form

    def __len__(self) -> int:
        return len(X)

    def __getitem__(self, index: int) -> Any:
        if index >= len(X):
            raise IndexError(index)
        return self.form(X[index], Y[index])


@pytest.mark.parametrize(
    "given",
    [
        (X, Y),
        (X.numpy(), Y.numpy()),
        (X.double(), Y.tolist()),
        (DataLoader(TensorDataset(X, Y), batch_size=7), None),
        (TensorDataset(X, Y), None),
        (DataLoader(Items(lambda x, y: {"image": x, "label": y}), batch_size=5), None),
        (DataLoader(Items(lambda x, y: {"x": x, "y": y})), None),
        ((X, Y), None),
        (X.clone().requires_grad_(), Y),
    ],
    ids=["tensors", "arrays", "doubles", "loader", "dataset", "images", "x and y", "pair", "gradients"],
)  # fmt: skip
def test_every_form_of_data_is_the_same_data(given: Any, snn: SNN) -> None:
    x, y = given
    assert sm.to_snn(network(), x, input_range=UNIT).certificate == snn.certificate
    found, wanted = snn.evaluate(x, y), snn.evaluate(X, Y)
    assert found.curve == wanted.curve and found.settled.accuracy is not None


def test_a_module_is_left_as_it_was_and_a_wrong_mode_is_said() -> None:
    """Nothing is written onto the user's module; the warning stands at the user's line."""
    model = network().train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.warns(UserWarning, match="in training mode; read in evaluation mode") as said:
        found = sm.to_snn(model, X, input_range=UNIT)
    assert all(warning.filename == __file__ for warning in said)
    assert all(part.training for part in model.modules())
    assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in before.items())
    assert found.certificate == sm.to_snn(network(), X, input_range=UNIT).certificate


def test_an_input_range_that_nobody_declared_is_said() -> None:
    wanted = "inputs are taken to lie in 0..1; if not, give their ends: input_range"
    with pytest.warns(UserWarning, match=wanted):
        sm.to_snn(network(), X)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sm.to_snn("zoo:digits_mlp", "digits:train:64")  # the zoo knows its own


def test_values_outside_the_range_are_refused_with_the_range_that_holds_them() -> None:
    with pytest.raises(sm.InputError) as caught:
        sm.to_snn(network(), 200 * X, input_range=UNIT)
    (repair,) = caught.value.repairs
    assert repair.setting == "input_range"
    low, high = repair.value  # type: ignore[misc]
    assert low == 0 and 200 <= high <= 210
    assert str(caught.value).endswith(f"input_range=({low!r}, {high!r})")
    assert sm.to_snn(network(), 200 * X, input_range=(low, high)).certificate.level == "A"


def test_save_load_and_what_is_kept(snn: SNN, tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    snn.save(path)
    back = sm.load(path)
    assert repr(back) == repr(snn) and torch.equal(back(X), snn(X))
    back.save(tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == path.read_bytes()


def test_a_report_shows_what_was_measured(tmp_path: Path) -> None:
    snn = sm.to_snn(network(), X, input_range=UNIT)
    snn.report(tmp_path / "bare.html")
    snn.evaluate(X, Y)
    snn.attack(X, Y, eps="8/255", attacks="fgsm,refine=2", patience="0", samples=4, gate_samples=0)
    snn.report(tmp_path / "full.html")
    bare, full = ((tmp_path / f"{name}.json").read_text() for name in ("bare", "full"))
    assert '"evaluation"' not in bare and '"certificate"' in bare and '"model"' in bare
    assert '"evaluation"' in full and '"robustness"' in full and '"energy"' not in full


def test_pruned_models_go_on(tmp_path: Path) -> None:
    """A sparse model is a module, a file, and a model to convert; its zeros are in the spikes."""
    pruned = sm.prune(network(), 0.5, X, Y, epochs=1, input_range=UNIT)
    assert pruned.result.zeros >= 0.5
    assert torch.equal(pruned.module()(X), pruned.module()(X))
    spiking = sm.to_snn(pruned, X)
    kept = spiking.certificate.masks
    assert sum(mask.kept for mask in kept) < sum(mask.weights for mask in kept)
    pruned.save(tmp_path / "sparse.safetensors")
    again = sm.to_snn(tmp_path / "sparse.safetensors", X)
    assert again.certificate == spiking.certificate


def test_a_room_with_the_name_of_a_function_is_both() -> None:
    """`spikemorph.prune` is a room and can be called, whichever was asked for first."""
    from spikemorph.prune import prune_graph

    assert callable(prune_graph)
    assert (
        callable(sm.prune)
        and sm.prune(network(), 0.5, input_shape=(1, 1, 4, 4)).result.zeros >= 0.5
    )


class Odd(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.special.bessel_j0(x)


def test_inspect_says_why(capsys: Any) -> None:
    assert "every node converts" in repr(sm.inspect(network(), input_shape=(1, 1, 4, 4)))
    assert "1 nodes do not convert" in repr(sm.inspect(Odd(), input_shape=(1, 3)))


LOADER = DataLoader(Items(lambda x, y: {"pixels": x, "target": y}))
BAD: dict[str, tuple[Callable[[SNN], Any], str]] = {
    "keys": (lambda snn: snn.evaluate(LOADER), "x: its batches have the keys pixels, target; say "
             "which hold samples and labels: keys=('pixels', 'target')"),
    "triples": (lambda snn: snn.evaluate(DataLoader(TensorDataset(X, Y, Y))), "batches hold 3 things"),
    "shape": (lambda snn: snn(X[..., 1:]), "x: samples have shape (1, 4, 3), the model takes (1, 4, 4)"),
    "device": (lambda snn: snn(X.to("meta")), "x: it has a shape and no values; give the numbers"),
    "words": (lambda snn: snn.evaluate(3), "x: is a int; give a tensor, an array, a DataLoader"),
    "list": (lambda snn: sm.to_snn(network(), [X, X, X]), "images: is a list; give a tensor"),
    "two labels": (lambda snn: snn.evaluate((X, Y), Y), "x: it has labels of its own; leave"),
    "neuron": (lambda snn: sm.to_snn(network(), X, neuron="lif"), "neuron='lif': choose one of pow2"),
    "calibrator": (lambda snn: sm.to_snn(network(), X, calibrator="best"), "calibrator='best': choose"),
    "engine": (lambda snn: snn.evaluate(X, engine="fast"), "engine='fast': choose one of auto, dense"),
    "eps": (lambda snn: snn.attack(X, Y, eps="8"), "eps='8': inputs are in 0..1, and this is all of it; "
            "did you mean 8/255? Give it so"),
    "setting": (lambda snn: snn.attack(X, Y, eps="8/255", steps=3), "steps=3: no such setting; known"),
    "training": (lambda snn: sm.prune(network(), 0.5, X, Y, epoch=3), "epoch=3: no such setting;"),
    "class": (lambda snn: sm.to_snn(nn.Linear, X), "model: is the class Linear; give an nn.Module"),
    "no model": (lambda snn: sm.to_snn(3, X), "model: is a int; give an nn.Module"),
    "misfit": (lambda snn: sm.to_snn(network(), X[..., 1:, 1:], input_range=UNIT), "model: samples of "
               "shape (1, 3, 3) do not go through Sequential: mat1 and mat2"),
    "last": (lambda snn: sm.to_snn(nn.Conv2d(3, 4, 3), draw(2, 8, 8, 3)), "channels come first: "
             "numpy.moveaxis(x, -1, 1)"),
    "unknown": (lambda snn: sm.inspect(network()), "Sequential: what samples it takes is not known; give "
                "input_shape=(1, 3, 32, 32), for example"),
    "folder": (lambda snn: sm.load(ROOT), f"{ROOT}: is a folder; give a file in it"),
    "model folder": (lambda snn: sm.to_snn(str(ROOT), X), f"{ROOT}: is a folder; give a file in it"),
    "save": (lambda snn: snn.save("net.pt"), "path='net.pt': networks are saved as .safetensors"),
    "float": (lambda snn: sm.load("zoo:digits_mlp"), "zoo:digits_mlp: is a float network"),
    "steps": (lambda snn: snn(X, steps=0), "0 steps: a network runs for 1 step or more"),
    "mean": (lambda snn: sm.to_snn(network(), X, mean=(0.1, 0.2)), "2 means and 2 deviations do not fit; "
             "give mean, std: 1 number each"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_calls_are_refused_in_one_line_in_the_words_of_python(name: str, snn: SNN) -> None:
    """One line that names the argument, says what is wrong and what to do; no option in it."""
    call, wanted = BAD[name]
    with pytest.raises(sm.InputError) as caught:
        call(snn)
    said = str(caught.value)
    assert wanted in said and "\n" not in said and "--" not in said


def test_errors_are_worded_for_where_they_are_read(
    tmp_path: Path, spikemorph: Callable[..., Any]
) -> None:
    """The same refusal as an argument, an option, and a key."""
    with pytest.raises(sm.InputError, match="^neuron='lif': choose one of pow2"):
        sm.to_snn(network(), X, neuron="lif")
    words = (
        "convert",
        "zoo:digits_mlp",
        "--data",
        "digits:test:9",
        "--out",
        tmp_path / "n.safetensors",
    )
    status, _, err = spikemorph(*words, "--neuron", "lif")
    assert status == 2 and err.startswith("error: --neuron lif: choose one of pow2")
    recipe = tmp_path / "r.toml"
    recipe.write_text(
        'name = "r"\nmodel = "zoo:digits_mlp"\n[data]\ntrain = "digits:train:64"\n'
        'test = "digits:test:9"\n[convert]\nneuron = "lif"\n[[network]]\nname = "a"\n'
    )
    status, _, err = spikemorph("run", recipe, "--out", tmp_path / "run")
    assert status == 2 and 'neuron = "lif": choose one of pow2' in err and "--" not in err
