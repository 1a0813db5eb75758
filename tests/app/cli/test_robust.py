"""``attack`` as users meet it: what is read, printed, resumed, shared between processes, refused."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from helpers import refused
from torch import nn

from spikemorph.measures import robustness
from spikemorph.robust.cascade import blocks
from spikemorph.train.processes import Processes
from spikemorph.zoo import load_data

Run = Callable[..., tuple[int, str, str]]
FEW = ("--attacks", "pgd=2,square=5,refine=0", "--patience", "0", "--samples", "12", "--gates", "0")


def timeless(plain: Any) -> Any:
    """Plain data without times and the command's own words."""
    if isinstance(plain, dict):
        return {k: timeless(v) for k, v in plain.items() if k not in ("seconds", "command")}
    return [timeless(value) for value in plain] if isinstance(plain, list) else plain


def read(path: Path) -> Any:
    return json.loads(path.read_text())


@pytest.mark.parametrize(
    ("model", "kind", "paths"),
    [
        ("zoo:digits_cnn", "ann", "all"),
        ("floats", "ann", "all"),
        ("exact", "exact", "straight-through,clip"),
        ("learnt", "exact", "clip"),
        ("timed", "through time", "pcw-1,bptr,act"),
    ],
)
def test_json_has_the_fixed_keys_and_the_table_its_numbers(
    spikemorph: Run, files: Path, tmp_path: Path, model: str, kind: str, paths: str
) -> None:
    source = model if ":" in model else files / f"{model}.safetensors"
    words = (source, "--data", "digits:test", "--eps", "16/255,8/255", *FEW, "--paths", paths)
    status, shown, _ = spikemorph("attack", *words, "--json", tmp_path / "a.json")
    assert status == 0
    found = read(tmp_path / "a.json")
    assert {"model", "n", "clean", "eps", "gates", "per_sample", "curves", "paths"} <= set(found)
    assert (found["n"], found["kind"], found["data"]) == (12, kind, "digits:test")
    assert found["model"] == model.removeprefix("zoo:")
    assert (found["steps"] is None) == (kind == "ann")
    assert [row["eps"] for row in found["eps"]] == [8 / 255, 16 / 255]
    asked = {"all": {"gradients"}}.get(paths, {name.replace("-", " ") for name in paths.split(",")})
    seen = {m["path"] for row in found["eps"] for m in row["attacks"] if m["path"] is not None}
    assert {name.replace("-", " ") for name in seen} == asked
    keys = {"name", "path", "steps", "restarts", "robust", "zero_gradient_fraction"}
    for row in found["eps"]:
        low, high = row["ci95"]
        assert low <= row["worst_case"] <= high
        assert f"{row['worst_case']:.2f}" in shown
        for member in row["attacks"]:
            assert keys <= set(member)
            assert member["robust"] >= row["worst_case"] - 1e-9
    worst = [row["worst_case"] for row in found["eps"]]
    assert worst == sorted(worst, reverse=True)
    if model not in ("zoo:digits_cnn",):  # half of the weights are pruned, and stay so
        assert found["sparsity"]["nonzero"] <= 0.5 * found["sparsity"]["weights"] + 1
    assert found["reproduce"]["command"].startswith("spikemorph attack ")
    assert "no gate was asked" in shown


def test_gates_are_printed_and_written(spikemorph: Run, files: Path, tmp_path: Path) -> None:
    words = (
        "--data",
        "digits:test",
        "--eps",
        "8/255",
        "--attacks",
        "pgd=2,refine=0",
        "--patience",
        "0",
        "--samples",
        "4",
    )
    others = ("--undefended", "zoo:digits_cnn", "--transfer", files / "pruned.safetensors")
    status, shown, _ = spikemorph(
        "attack", files / "exact.safetensors", *words, "--gates", "2", "--paths",
        "straight-through,clip", *others, "--json", tmp_path / "a.json",
    )  # fmt: skip
    assert status == 0
    gates = read(tmp_path / "a.json")["gates"]
    assert len(gates) >= 15
    assert all({"name", "passed", "detail"} <= set(gate) for gate in gates)
    for gate in gates:
        assert gate["title"] in shown
    assert {g["name"]: g["passed"] for g in gates}["transfer"] is not None  # it was given one


def test_a_folder_resumes_and_says_the_same(
    spikemorph: Run, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[int] = []
    work = blocks.Evaluation.run

    def counted(evaluation: Any, number: int, *rest: Any) -> Any:
        done.append(number)
        return work(evaluation, number, *rest)

    monkeypatch.setattr(blocks.Evaluation, "run", counted)
    words = ("--data", "digits:test", "--eps", "8/255,16/255", *FEW, "--paths", "clip")
    attack = ("attack", files / "exact.safetensors", *words, "--folder", tmp_path / "blocks")
    for name, count in (("one", 2), ("two", 0)):
        done.clear()
        assert spikemorph(*attack, "--json", tmp_path / f"{name}.json")[0] == 0
        assert len(done) == count
    one, two = (read(tmp_path / f"{name}.json") for name in ("one", "two"))
    for found in (one, two):
        del found["reproduce"]
    assert one == two  # seconds as well: they are of the blocks
    assert spikemorph(*attack, "--seed", "1")[0] == 0
    assert len(done) == 2  # another seed is another evaluation


RECIPE = """
name = "tiny"
model = "zoo:digits_mlp"
data = { train = "digits:train:100", test = "digits:test:20" }
fine_tuning = { epochs = 1 }
time = { steps = 2, calibration_steps = 2 }
measure = { energy = 4 }
[attack]
eps = ["64/255", 0.1]
attacks = "fgsm,refine=0"
ann = "fgsm,refine=0"
patience = "0"
paths = "clip"
samples = 5
gate_samples = 0
[[network]]
name = "exact"
[[network]]
name = "timed"
road = "through-time"
"""


def test_run_shows_all_networks_under_attack(spikemorph: Run, tmp_path: Path) -> None:
    (tmp_path / "tiny.toml").write_text(RECIPE)
    out = ("--out", tmp_path / "run", "--json", tmp_path / "run.json")
    status, shown, _ = spikemorph("run", tmp_path / "tiny.toml", *out)
    assert status == 0
    found = read(tmp_path / "run.json")
    assert found["robust"] == read(tmp_path / "run" / "robust.json")
    assert [row["name"] for row in found["robust"]["networks"]] == ["exact", "timed"]
    assert "64/255" in shown  # the larger one, and sorted after 0.1
    for row in found["robust"]["networks"]:
        smaller, larger = row["robust"].values()
        assert larger <= smaller <= row["clean"]
        assert row["name"] in shown


@pytest.mark.slow
def test_two_processes_end_with_the_json_of_one(
    call: Callable[..., int], files: Path, tmp_path: Path
) -> None:
    """30 samples are two blocks, as there are two processes; the first runs the gates, too."""
    program = str(Path(sys.executable).with_name("spikemorph"))
    words = [
        "attack", str(files / "exact.safetensors"), "--data", "digits:test", "--eps", "8/255",
        "--attacks", "pgd=2,square=5,refine=3", "--patience", "1,2", "--samples", "30",
        "--gates", "2", "--paths", "clip",
    ]  # fmt: skip
    assert call(*words, "--json", tmp_path / "alone.json") == 0
    shared = [*words, "--folder", str(tmp_path / "blocks"), "--json"]
    running = [
        subprocess.Popen(
            [program, *shared, str(tmp_path / f"{rank}.json")],
            env=os.environ | {"RANK": str(rank), "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE, text=True,
        )
        for rank in (0, 1)
    ]  # fmt: skip
    said = [process.communicate(timeout=300)[0] for process in running]
    assert [process.returncode for process in running] == [0, 0]
    assert "worst case" in said[0]
    assert not said[1].strip()
    assert not (tmp_path / "1.json").exists()
    assert timeless(read(tmp_path / "0.json")) == timeless(read(tmp_path / "alone.json"))
    assert len(list((tmp_path / "blocks").rglob("block-*.safetensors"))) == 2


def test_blocks_are_as_large_as_asked_for(spikemorph: Run, tmp_path: Path) -> None:
    words = ("attack", "zoo:digits_cnn", "--data", "digits:test", "--eps", "8/255", *FEW)
    assert spikemorph(*words, "--folder", tmp_path / "b", "--block", "5")[0] == 0
    assert len(list((tmp_path / "b").rglob("block-*.safetensors"))) == 3  # of 12 samples
    found = [robustness.Where(None, Processes(0, n)).block_of(250) for n in (1, 4, 500)]
    assert found == [100, 63, 1]


def test_who_waits_for_a_process_that_died_says_so(
    spikemorph: Run, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(robustness, "_LONG", 0.0)
    monkeypatch.setattr(robustness, "time", SimpleNamespace(sleep=stopped, monotonic=monotonic))
    status, _, err = spikemorph(
        "attack", files / "exact.safetensors", "--data", "digits:test", "--eps", "8/255",
        "--attacks", "square=2,refine=0", "--patience", "0", "--samples", "130", "--gates", "0",
        "--folder", tmp_path,
    )  # fmt: skip
    assert status == 130
    assert "waiting for blocks 1 of other processes" in " ".join(err.split())
    assert len(list(tmp_path.rglob("block-*.safetensors"))) == 1


def test_processes_without_a_folder_are_refused(
    spikemorph: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    refused(spikemorph("attack", "zoo:digits_cnn", "--data", "digits:test", "--eps", "0.1"), "--fo")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--eps", "8"), ("did you mean 8/255?",)),
        (("--eps", "8/0"), ("8/0",)),
        (("--eps", "-1/255"), ("-1/255",)),
        (("--eps", ""), ("no number",)),
        (("--eps", "8/255,8/255"), ("twice",)),
        (("--attacks", "deepfool"), ("deepfool", "apgd-ce", "square", "standard")),
        (("--attacks", "pgd=0"), ("pgd=0", "1 or more")),
        (("--attacks", "standard=5"), ("standard",)),
        (("--attacks", "pgd=2,"), ("known",)),
        (("--attacks", ""), ("no attack is named",)),
        (("--paths", "ste"), ("'ste'", "gradients")),
        (("--norm", "l1"), ("l1", "linf, l2")),
        (("--data", "digits:test:0"), ("digits",)),
        (("--data", "fashion-mnist:sample"), ("(1, 28, 28)", "(1, 8, 8)")),
        (("--device", "tpu9"), ("tpu9", "cpu")),
        (("--json", "/nowhere/a.json"), ("/nowhere/a.json",)),
        (("--eps", "1"), ("did you mean 1/255?",)),
        (("--undefended", "zoo:digits_mlp"), ("--undefended", "--gates 0")),
        (("--transfer", "nothing"), ("nothing: not a model",)),
        (("--transfer", "zoo:fashion_cnn"), ("network fashion_cnn", "(1, 8, 8)")),
    ],
)
def test_bad_options_of_attack(
    spikemorph: Run, options: tuple[str, str], words: tuple[str, ...]
) -> None:
    given = {
        "--data": "digits:test:5",
        "--eps": "8/255",
        "--attacks": "pgd=2,refine=0",
        "--patience": "0",
        "--gates": "0",
    }
    given |= dict([options])
    flat = [word for pair in given.items() for word in pair]
    refused(spikemorph("attack", "zoo:digits_cnn", *flat), *words)


def test_l2_distances_may_be_above_one(spikemorph: Run, tmp_path: Path) -> None:
    words = ("attack", "zoo:digits_cnn", "--data", "digits:test", "--eps", "1.5", *FEW)
    assert spikemorph(*words, "--norm", "l2", "--json", tmp_path / "a.json")[0] == 0
    found = read(tmp_path / "a.json")
    assert (found["norm"], found["eps"][0]["eps"]) == ("l2", 1.5)


@pytest.mark.parametrize("eps", ["8", "128"])
def test_l2_distances_in_pixel_units_are_asked_about(spikemorph: Run, eps: str) -> None:
    """No two images of 64 values are more than 8 apart."""
    words = ("attack", "zoo:digits_cnn", "--data", "digits:test", "--eps", eps, *FEW)
    refused(spikemorph(*words, "--norm", "l2"), "at most 8 apart", f"did you mean {eps}/255?")


def test_images_made_for_other_networks_are_members(spikemorph: Run, tmp_path: Path) -> None:
    """What only they break is broken, in a folder, too; each source has a name of its own."""
    words = ("attack", "zoo:digits_cnn", "--data", "digits:test", "--eps", "48/255")
    few = (
        "--attacks",
        "fgsm,refine=1",
        "--patience",
        "0",
        "--samples",
        "30",
        "--gates",
        "0",
        "--folder",
        tmp_path / "b",
    )
    sources = ("--transfer", "zoo:digits_cnn", "--transfer", "zoo:digits_mlp")
    assert spikemorph(*words, *few, "--json", tmp_path / "a.json")[0] == 0
    assert spikemorph(*words, *few, *sources, "--json", tmp_path / "t.json")[0] == 0
    (alone,), (more,) = read(tmp_path / "a.json")["eps"], read(tmp_path / "t.json")["eps"]
    names = [member["name"] for member in more["attacks"]]
    assert [name[:24] for name in names[1:]] == [
        "transfer from digits_cnn",
        "transfer from digits_mlp",
        "refine",
    ]
    assert more["attacks"][1]["broken"] > 0
    assert more["worst_case"] < alone["worst_case"]


def test_a_normalisation_goes_inside_the_model(
    spikemorph: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A module that wants (x - 0.25) / 0.5 is attacked, trained and pruned on raw images."""
    code = "from spikemorph.zoo import build_model\nfrom torch import nn\n"
    code += "class Raw(nn.Module):\n def __init__(s):\n  super().__init__()\n"
    code += (
        "  s.net = build_model('digits_mlp')\n def forward(s, x):\n  return s.net(0.5 * x + 0.25)\n"
    )
    (tmp_path / "normed.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    model = ("normed:Raw", "--input-shape", "1,1,8,8", "--mean", "0.25", "--std", "0.5")
    attacked = ("--data", "digits:test", "--eps", "16/255", *FEW)
    assert spikemorph("attack", *model, *attacked, "--json", tmp_path / "n.json")[0] == 0
    assert spikemorph("attack", "zoo:digits_mlp", *attacked, "--json", tmp_path / "z.json")[0] == 0
    normed, plain = read(tmp_path / "n.json"), read(tmp_path / "z.json")
    assert normed["clean"] == plain["clean"]
    assert [row["worst_case"] for row in normed["eps"]] == [r["worst_case"] for r in plain["eps"]]
    out = ("--out", tmp_path / "o.safetensors")
    train = ("--data", "digits:train:60", "--epochs", "1", "--rate", "1e-6")
    assert (
        spikemorph("finetune", *model, *train, *out, "--objective", "fast", "--eps", "0.1")[0] == 0
    )
    tested = ("attack", out[1], *attacked, "--json", tmp_path / "o.json")
    assert spikemorph(*tested)[0] == 0  # and it takes raw images from now on
    assert read(tmp_path / "o.json")["clean"] == plain["clean"]
    refused(spikemorph("prune", *model, "--std", "0", "--sparsity", "0.5", *out), "--std")
    exact = (
        "attack",
        "zoo:fashion_robust_90_snn",
        "--data",
        "fashion-mnist:sample:5",
        "--eps",
        "0.1",
    )
    refused(spikemorph(*exact, "--mean", "0.1"), "--mean, --std out")


def test_bad_networks_of_attack(spikemorph: Run, files: Path, tmp_path: Path) -> None:
    common = (
        "--data",
        "digits:test:5",
        "--eps",
        "8/255",
        "--attacks",
        "pgd=2,refine=0",
        "--patience",
        "0",
        "--gates",
        "0",
    )
    (tmp_path / "noise.safetensors").write_bytes(b"nothing to read")
    refused(spikemorph("attack", tmp_path / "noise.safetensors", *common), "noise.safetensors")
    refused(spikemorph("attack", "zoo:nothing", *common), "nothing", "digits_cnn")
    refused(spikemorph("attack", "missing.safetensors", *common), "missing.safetensors", "no such")
    exact = files / "exact.safetensors"
    refused(spikemorph("attack", exact, *common, "--input-range", "0,255"), "--input-range")


def test_bad_samples_of_attack(spikemorph: Run, tmp_path: Path) -> None:
    x = np.zeros((3, 1, 8, 8), np.uint8)
    np.savez(tmp_path / "bare.npz", x=x)
    np.savez(tmp_path / "many.npz", x=x, y=np.array([0, 1, 12]))
    for name, word in (("bare.npz", "labels"), ("many.npz", "12")):
        words = ("--data", tmp_path / name, "--eps", "8/255", *FEW)
        refused(spikemorph("attack", "zoo:digits_cnn", *words), name, word)


def probabilities() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10), nn.Softmax(1))


def scaled(top: float) -> nn.Module:
    """One network; its inputs run to `top`."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for value in model.parameters():
            value.copy_(0.3 * torch.randn(value.shape, generator=generator))
        model[1].weight.div_(top)  # type: ignore[union-attr, operator]
    return model


def unit() -> nn.Module:
    return scaled(1.0)


def wide() -> nn.Module:
    return scaled(256.0)


def test_probabilities_are_detected(
    spikemorph: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    sys.modules["robust_cli_models"] = sys.modules[__name__]
    words = ("--data", "digits:test", "--eps", "8/255", *FEW, "--input-shape", "1,1,8,8")
    found = spikemorph("attack", "robust_cli_models:probabilities", *words)
    refused(found, "probabilities", "softmax")
    assert not list(tmp_path.iterdir())  # no folder of blocks, of which there are none


def test_eps_means_the_same_whatever_the_models_input_range(
    spikemorph: Run, tmp_path: Path
) -> None:
    """One network on inputs in 0..1 and in 0..256: powers of two, so the same logits bit for bit."""
    sys.modules["robust_cli_models"] = sys.modules[__name__]
    digits = load_data("digits:test:12")
    y = unit()(digits.values()).argmax(1)  # right without attack, on all of them
    np.savez(tmp_path / "own.npz", x=digits.x.numpy(), y=y.numpy())
    words = ("--data", tmp_path / "own.npz", "--eps", "4/255,16/255", *FEW)
    words += ("--input-shape", "1,1,8,8")
    for name, ends in (("unit", "0,1"), ("wide", "0,256")):
        out = ("--input-range", ends, "--json", tmp_path / f"{name}.json")
        assert spikemorph("attack", f"robust_cli_models:{name}", *words, *out)[0] == 0
    one, two = (read(tmp_path / f"{name}.json") for name in ("unit", "wide"))
    assert one["clean"]["accuracy"] == two["clean"]["accuracy"] == 100
    assert any(0 < row["worst_case"] < 100 for row in one["eps"])
    assert one["examples"] == two["examples"]
    assert timeless(one["eps"]) == timeless(two["eps"])
    assert one["per_sample"] == two["per_sample"]
