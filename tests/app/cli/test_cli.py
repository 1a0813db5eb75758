"""The command line as users meet it: what it prints, its JSON, and one clear line for bad input."""

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import refused
from safetensors.torch import load_file, save_file
from torch import nn

from spikemorph.cli.output import out as console
from spikemorph.zoo import build_model, load_model_card

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def spikemorph(spikemorph: Run, monkeypatch: pytest.MonkeyPatch) -> Run:
    """In a wide terminal."""
    monkeypatch.setattr(console, "width", 200)
    return spikemorph


@pytest.fixture(scope="module")
def network(call: Callable[..., int], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The digits MLP, converted once."""
    path = tmp_path_factory.mktemp("network") / "mlp.safetensors"
    assert call("convert", "zoo:digits_mlp", "--data", "digits:test:50", "--out", path) == 0
    return path


@pytest.mark.slow  # its training cut short: test_the_demo_ends_with_a_report
def test_demo_ends_with_the_table_and_a_certificate_of_level_a(
    spikemorph: Run, tmp_path: Path
) -> None:
    status, shown, _ = spikemorph("demo", "--out", tmp_path / "demo", "--json", tmp_path / "d.json")
    assert status == 0
    assert shown.index("mismatching logits") < shown.index("Certificate level A")
    result = json.loads((tmp_path / "d.json").read_text())
    assert result["settled"]["mismatching_logits"] == 0
    assert result["certificate"]["level"] == "A"
    assert result["curve"][-1]["agreement"] == 100
    assert abs(result["float_accuracy"] - result["integer_accuracy"]) <= 1
    assert (tmp_path / "demo" / "digits_cnn.safetensors").is_file()


def test_json_of_convert_and_evaluate_has_the_fixed_keys(
    spikemorph: Run, network: Path, tmp_path: Path
) -> None:
    file = tmp_path / "e.json"
    status, shown, _ = spikemorph(
        "evaluate", network, "--data", "digits:test:50", "--steps", "1,2,9", "--json", file
    )
    assert status == 0
    result = json.loads(file.read_text())
    wanted = "model n float_accuracy integer_accuracy curve settled certificate seconds"
    assert set(wanted.split()) <= set(result)
    assert [point["steps"] for point in result["curve"]] == [1, 2, 9]
    assert result["n"] == 50
    assert result["float_accuracy"] >= 90  # the network's file says which zoo network it came from
    wanted = "steps accuracy agreement mismatching_logits spikes_per_inference"
    assert set(wanted.split()) <= set(result["curve"][0])
    assert {"steps_max", "steps_mean", "accuracy", "mismatching_logits"} <= set(result["settled"])
    assert {"level", "steps_required", "steps_used"} <= set(result["certificate"])
    assert "integer -> spiking" in shown


@pytest.mark.parametrize("engine", ["reference", "dense"])
def test_engines_give_the_same_result(
    spikemorph: Run, network: Path, tmp_path: Path, engine: str
) -> None:
    files = [tmp_path / "a.json", tmp_path / "b.json"]
    for name, file in zip(("auto", engine), files, strict=True):
        words = ["--data", "digits:test:20", "--engine", name, "--json", file]
        assert spikemorph("evaluate", network, *words)[0] == 0
    a, b = (json.loads(file.read_text()) for file in files)
    assert a["curve"] == b["curve"]
    assert a["settled"] == b["settled"]


def test_certify_saves_the_certificate_and_counts(spikemorph: Run, network: Path) -> None:
    status, shown, _ = spikemorph("certify", network, "--data", "digits:test:30")
    assert status == 0
    assert "0 mismatching logits of 300" in shown
    saved = json.loads(network.with_suffix(".certificate.json").read_text())
    assert saved["level"] == "A"
    assert saved["mismatching_logits"] == 0


def test_fewer_steps_than_required_lower_the_level(
    spikemorph: Run, network: Path, tmp_path: Path
) -> None:
    file = tmp_path / "b.json"
    words = ["--data", "digits:test:20", "--steps", "1,2", "--json", file]
    assert spikemorph("evaluate", network, *words)[0] == 0
    assert json.loads(file.read_text())["certificate"]["level"] == "B"


@pytest.mark.parametrize("name", ["if", "snm", "burst", "bif"])
def test_inexact_neurons_get_no_certificate(spikemorph: Run, tmp_path: Path, name: str) -> None:
    path = tmp_path / "n.safetensors"
    words = ["convert", "zoo:digits_mlp", "--data", "digits:test:20", "--out", path]
    status, shown, _ = spikemorph(*words, "--neuron", name)
    assert status == 0
    assert "No certificate" in shown
    assert "node 'relu" in shown
    status, shown, _ = spikemorph("certify", path)
    assert status == 3


@pytest.mark.parametrize("rates", ["layer=100", "layer=99.9", "channel=99.9"])
def test_classical_rate_coding_is_there_to_compare_with(
    spikemorph: Run, tmp_path: Path, rates: str
) -> None:
    file = tmp_path / "r.json"
    words = ["convert", "zoo:digits_mlp", "--data", "digits:test:100", "--json", file]
    words += ["--out", tmp_path / "r.safetensors", "--rate-coded", rates]
    status, shown, _ = spikemorph(*words, "--neuron", "if")
    assert status == 0
    assert "never stop" in shown
    result = json.loads(file.read_text())
    assert result["curve"][-1]["steps"] == 32
    assert result["curve"][-1]["accuracy"] >= 90
    assert result["certificate"]["level"] is None
    assert result["integer_accuracy"] is None  # it stands for no integer network
    assert result["curve"][-1]["mismatching_logits"] is None
    assert result["curve"][-1]["agreement"] >= 90  # with the float network
    assert "float -> rate-coded" in shown
    refused(spikemorph(*words, "--neuron", "pow2"), "pow2", "rate-coded")


def test_inspect_lists_what_can_and_what_cannot_be_taken(
    spikemorph: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "odd.py").write_text(
        "from torch import nn\n"
        "def net():\n"
        "    return nn.Sequential(nn.Linear(4, 4), nn.GELU(), nn.Linear(4, 4), nn.SiLU())\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    file = tmp_path / "i.json"
    words = ["inspect", "odd:net", "--input-shape", "1,4", "--json", file]
    assert spikemorph(*words)[0] == 3
    found = json.loads(file.read_text())
    nodes = [(node["op"], node["converts"]) for node in found["nodes"]]
    refused = [("gelu", False), ("silu", False)]
    assert nodes == [("Input", True), ("Linear", True), *refused, ("linear", False)]
    assert found["nodes"][-1]["reason"].startswith("not looked at")
    assert (found["parameters"], found["unseen"]) == (None, 1)


@pytest.mark.parametrize("rule", ["silent", "confidence=0.9", "conformal=0.05"])
def test_early_exits(spikemorph: Run, network: Path, tmp_path: Path, rule: str) -> None:
    file = tmp_path / "x.json"
    words = ["--data", "digits:test:100", "--exit", rule, "--calibration", "digits:train:400"]
    assert spikemorph("evaluate", network, *words, "--json", file)[0] == 0
    result = json.loads(file.read_text())["exit"]
    assert result["steps_mean"] <= 7
    if rule == "silent":
        assert result["agreement"] == 100
    if rule.startswith("conformal"):
        assert (
            result["agreement"] >= 90
        )  # 95 promised on average; 100 samples scatter by 2 each way


def test_inspect_says_what_becomes_of_every_node(spikemorph: Run, tmp_path: Path) -> None:
    file = tmp_path / "i.json"
    status, shown, _ = spikemorph("inspect", "zoo:digits_cnn", "--json", file)
    assert status == 0
    result = json.loads(file.read_text())
    assert result["supported"] is True
    assert result["parameters"] == load_model_card("digits_cnn").parameters
    assert {"name", "op", "converts", "reason"} <= set(result["nodes"][0])
    reasons = {node["name"]: node["reason"] for node in result["nodes"]}
    assert reasons["relu1"] == "a neuron layer"


def test_a_factory_with_weights(
    spikemorph: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.py").write_text(
        "from torch import nn\n"
        "def net():\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 10))\n"
        "def gelu():\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.GELU(), nn.Linear(8, 10))\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 10))
    save_file(model.state_dict(), tmp_path / "w.safetensors")
    torch.save(model.state_dict(), tmp_path / "w.pt")
    torch.save(model, tmp_path / "pickled.pt")
    shape = ["--input-shape", "1,1,8,8"]
    words = ["convert", "mine:net", "--data", "digits:test:20", "--out", tmp_path / "o.safetensors"]
    for file in ("w.safetensors", "w.pt"):
        assert spikemorph(*words, *shape, "--weights", tmp_path / file)[0] == 0
    refused(
        spikemorph(*words, *shape, "--weights", tmp_path / "pickled.pt"),
        "pickled.pt",
        "whole pickled module",
    )
    refused(spikemorph(*words), "--input-shape")
    status, _, err = spikemorph("convert", "mine:gelu", *words[2:], *shape)
    assert status == 3
    assert "'2' (gelu)" in err
    assert "fine-tune" in err


def test_normalisation_and_range_are_folded(spikemorph: Run, tmp_path: Path) -> None:
    file = tmp_path / "n.json"
    words = ["convert", "zoo:digits_cnn", "--data", "digits:test:100", "--json", file]
    words += ["--out", tmp_path / "n.safetensors", "--input-range", "0,255"]
    assert spikemorph(*words, "--mean", "0", "--std", "255")[0] == 0
    result = json.loads(file.read_text())
    assert result["float_accuracy"] >= 95
    assert result["settled"]["mismatching_logits"] == 0


BAD = {
    "no model": (["convert", "nothing.onnx"], "nothing.onnx", "no such file"),
    "no zoo network": (["convert", "zoo:nothing"], "nothing", "digits_cnn"),
    "levels": (["convert", "zoo:digits_mlp", "--levels", "1"], "1 levels", "2 to 65536"),
    "bits": (["convert", "zoo:digits_mlp", "--weight-bits", "12"], "12 weight bits", "16"),
    "neuron": (["convert", "zoo:digits_mlp", "--neuron", "x"], "--neuron x", "pow2"),
    "range": (["convert", "zoo:digits_mlp", "--input-range", "1,0"], "range", "1"),
    "no zero": (
        ["convert", "zoo:digits_mlp", "--mean", "0", "--input-range", "1,2"],
        "contain zero",
        "1",
    ),
    "device": (["convert", "zoo:digits_mlp", "--device", "nowhere"], "--device nowhere", "cpu"),
    "std": (["convert", "zoo:digits_mlp", "--std", "0"], "--std", "above zero"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_options_are_one_line(spikemorph: Run, tmp_path: Path, case: str) -> None:
    words, *expected = BAD[case]
    out = tmp_path / "bad.safetensors"
    refused(spikemorph(*words, "--data", "digits:test:20", "--out", out), *expected)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["nonsense"], "No such command"),
        (["convert", "zoo:digits_mlp"], "Missing option"),
        (["convert", "zoo:digits_mlp", "--levels", "many"], "--levels"),
        (["data"], "Missing command"),
        (["evaluate", "--nothing"], "--nothing"),
    ],
)
def test_bad_usage_is_one_line(spikemorph: Run, words: list[str], expected: str) -> None:
    refused(spikemorph(*words), expected, "--help")


def test_without_a_command_there_is_help(spikemorph: Run) -> None:
    status, shown, _ = spikemorph()
    assert status == 0
    assert "certify" in shown


def test_bad_data_is_one_line(spikemorph: Run, network: Path, tmp_path: Path) -> None:
    x, y = np.zeros((4, 1, 8, 8), np.float32), np.array([0, 1, 2, 3])
    cases = {
        "range": ({"x": x + 2, "y": y}, "sample", "outside"),
        "labels": ({"x": x, "y": y + 8}, "sample 2", "0..9"),
        "shape": ({"x": x[:, :, :4], "y": y}, "(1, 4, 8)", "(1, 8, 8)"),
        "nan": ({"x": x * np.nan, "y": y}, "nan", "index"),
        "empty": ({"x": x[:0], "y": y[:0]}, "empty.npz", "no samples"),
    }
    for name, (arrays, *expected) in cases.items():
        file = tmp_path / f"{name}.npz"
        np.savez(file, **arrays)
        words = expected if name != "range" else ["outside"]
        refused(spikemorph("evaluate", network, "--data", file), *words)
    refused(spikemorph("evaluate", network, "--data", "digits:nowhere"), "nowhere")


def test_silent_layers_are_refused(spikemorph: Run, tmp_path: Path) -> None:
    np.savez(tmp_path / "black.npz", x=np.zeros((9, 1, 8, 8), np.uint8))
    (tmp_path / "quiet.py").write_text(
        "import torch\nfrom torch import nn\n"
        "def net():\n"
        "    first = nn.Linear(64, 8, bias=False)\n"
        "    return nn.Sequential(nn.Flatten(), first, nn.ReLU(), nn.Linear(8, 10))\n"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(tmp_path))
        found = spikemorph(
            "convert", "quiet:net", "--data", tmp_path / "black.npz", "--input-shape", "1,1,8,8",
            "--out", tmp_path / "o.safetensors",
        )  # fmt: skip
    refused(found, "node '2'", "silent", "more samples")


def test_a_full_disk_leaves_nothing(
    spikemorph: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    out = tmp_path / "o.safetensors"
    words = ["convert", "zoo:digits_mlp", "--data", "digits:test:20", "--out", out]
    refused(spikemorph(*words), "o.safetensors", "No space left")
    assert not list(tmp_path.iterdir())


def test_tampered_and_damaged_networks_are_refused(
    spikemorph: Run, network: Path, tmp_path: Path
) -> None:
    content = network.read_bytes()
    changed = tmp_path / "changed.safetensors"
    changed.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(content[: len(content) // 2])
    for file, word in (
        (changed, "hash"),
        (cut, "safetensors"),
        (tmp_path / "none", "no such file"),
    ):
        refused(spikemorph("evaluate", file, "--data", "digits:test:20"), file.name, word)
    plain = tmp_path / "plain.safetensors"
    save_file({"a": torch.zeros(1)}, plain)
    refused(
        spikemorph("evaluate", plain, "--data", "digits:test:20"), "plain.safetensors", "network"
    )


def test_lists(spikemorph: Run, tmp_path: Path) -> None:
    for words, word in (
        (["data", "list"], "fashion-mnist"),
        (["zoo", "list"], "digits_resnet"),
        (["zoo", "show", "digits_cnn"], "Apache-2.0"),
        (["data", "fetch", "digits"], "comes with the installation"),
        (["--version"], "0.1.0"),
    ):
        status, shown, _ = spikemorph(*words)
        assert status == 0
        assert word in shown


def test_shipped_weights_are_what_the_zoo_builds() -> None:
    state = build_model("digits_mlp").state_dict()
    folder = Path(__file__).parents[3] / "zoo" / "models"
    for name, tensor in load_file(folder / "digits_mlp.safetensors").items():
        assert torch.equal(state[name], tensor)
