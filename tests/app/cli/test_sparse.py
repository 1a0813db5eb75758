"""Energy, comparison, report, recipes and the demo as users meet them on the command line."""

import json
from collections.abc import Callable, Sequence
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from completing import words_of
from helpers import refused
from torch import nn

from spikemorph.cli import demo
from spikemorph.cli.output import progress_console

Run = Callable[..., tuple[int, str, str]]

RECIPE = """
name = "tiny"
model = "zoo:digits_mlp"
[data]
train = "digits:train:200"
test = "digits:test:40"
[training]
epochs = 2
[measure]
energy = 20
[[network]]
name = "dense"
[[network]]
name = "sparse"
method = "magnitude"
sparsity = 0.8
"""


@pytest.fixture(scope="module")
def made(call: Callable[..., int], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small recipe that was run; not to be changed."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "tiny.toml").write_text(RECIPE)
    recipe, record = folder / "tiny.toml", folder / "c.json"
    assert call("run", recipe, "--out", folder, "--json", record) == 0
    return folder


def test_json_of_energy_has_the_fixed_keys(spikemorph: Run, made: Path, tmp_path: Path) -> None:
    words = ["energy", made / "sparse" / "network.safetensors", "--data", "digits:test:40"]
    status, shown, _ = spikemorph(*words, "--samples", "20", "--json", tmp_path / "e.json")
    assert status == 0
    found = json.loads((tmp_path / "e.json").read_text())
    assert {"model", "n", "counts", "prices", "band", "memory", "break_even_spike_rate"} <= set(
        found
    )
    keys = "name node evidence ann integer_dense integer_masked snn_dense snn"
    assert all(set(keys.split()) <= set(price) for price in found["prices"])
    assert {"against", "min", "median", "max", "verdict"} <= set(found["band"])
    keys = "weights_total weights_nonzero storage_bits format dense_fp32_bits factors"
    assert set(keys.split()) <= set(found["memory"])
    assert {"quantisation", "sparsity", "index_overhead"} <= set(found["memory"]["factors"])
    assert found["n"] == 20
    assert max(map(len, shown.splitlines()[:20])) <= 80
    assert "…" not in shown
    for price in found["prices"]:
        assert price["name"] in shown


def test_rows_of_compare_are_what_energy_says(spikemorph: Run, made: Path, tmp_path: Path) -> None:
    paths = [made / name / "network.safetensors" for name in ("dense", "sparse")]
    same = [
        "--data",
        "digits:test:40",
        "--samples",
        "20",
        "--models",
        "step,cpu",
        "--dense",
        paths[0],
    ]
    status, shown, _ = spikemorph("compare", *paths, *same, "--json", tmp_path / "c.json")
    assert status == 0
    rows = json.loads((tmp_path / "c.json").read_text())["networks"]
    assert [row["name"] for row in rows] == ["dense", "sparse"]  # their folders tell them apart
    assert "…" not in shown
    for row, path in zip(rows, paths, strict=True):
        assert spikemorph("energy", path, *same, "--json", tmp_path / "e.json")[0] == 0
        found = json.loads((tmp_path / "e.json").read_text())
        assert row["energy"] == {price["name"]: price["snn"] for price in found["prices"]}
        assert set(row["energy"]) == {"step", "cpu"}
        assert row["synops"] * 20 == found["counts"]["totals"]["synops"]
        assert row["storage_bits"] == found["memory"]["storage_bits"]
        assert row["verdict"] == found["band"]["verdict"]
        layers = found["counts"]["layers"]
        assert sum(layer["synops"] for layer in layers) == found["counts"]["totals"]["synops"]
    recorded = json.loads((made / "c.json").read_text())["networks"]
    for row, other in zip(rows, recorded, strict=True):
        assert row["accuracy"] == other["accuracy"]
        assert row["energy"]["step"] == other["energy"]["step"]


BAD_ENERGY: dict[str, tuple[Sequence[str], Sequence[str]]] = {
    "no samples": (["--samples", "0"], ["0 samples", "1 or more"]),
    "less than none": (["--samples", "-3"], ["-3 samples", "1 or more"]),
    "models": (["--models", "nothing"], ["--models nothing", "step"]),
    "one odd model": (["--models", "step,x"], ["--models x"]),
    "no model": (["--models", ""], ["--models"]),
    "no model of the band": (["--models", "cpu"], ["--models cpu", "band", "step"]),
    "dense": (["--dense", "nothing"], ["nothing: no such file"]),
    "device": (["--device", "nowhere"], ["--device nowhere"]),
}


@pytest.mark.parametrize("command", ["energy", "compare"])
@pytest.mark.parametrize("case", BAD_ENERGY)
def test_bad_energy_is_one_line(spikemorph: Run, made: Path, command: str, case: str) -> None:
    options, words = BAD_ENERGY[case]
    network = made / "sparse" / "network.safetensors"
    refused(spikemorph(command, network, "--data", "digits:test:20", *options), *words)


def test_bad_steps_and_networks_of_one_name_are_one_line(spikemorph: Run, made: Path) -> None:
    network, data = made / "sparse" / "network.safetensors", ["--data", "digits:test:20"]
    for steps in ("0", "-1", "100000000"):
        refused(spikemorph("energy", network, *data, "--steps", steps), f"--steps {steps}")
    refused(spikemorph("compare", network, network, *data), "sparse/network", "given twice")
    refused(spikemorph("compare", *data), "networks", "--help")
    model = made / "sparse" / "model.safetensors"
    refused(spikemorph("energy", model, *data), "model.safetensors", "not a spikemorph network")


def test_tampered_files_are_refused(spikemorph: Run, made: Path, tmp_path: Path) -> None:
    files = {}
    for name in ("network", "model"):
        content = bytearray((made / "sparse" / f"{name}.safetensors").read_bytes())
        content[-1] ^= 1
        files[name] = tmp_path / f"{name}.safetensors"
        files[name].write_bytes(content)
    data = ["--data", "digits:test:20"]
    for command in ("energy", "compare", "evaluate", "certify"):
        refused(spikemorph(command, files["network"], *data), "network.safetensors", "hash")
    good = made / "sparse" / "network.safetensors"
    refused(spikemorph("energy", good, *data, "--dense", files["network"]), "hash")
    out = ["--out", tmp_path / "o.safetensors"]
    refused(spikemorph("convert", files["model"], *data, *out), "model.safetensors", "hash")
    refused(spikemorph("prune", files["model"], "--sparsity", "0.5", *out), "hash")
    assert not (tmp_path / "o.safetensors").exists()


def test_a_report_of_a_folder_of_runs_is_an_index_of_them(
    spikemorph: Run, made: Path, tmp_path: Path
) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "energy.json").write_bytes(
            (made / "sparse" / "energy.json").read_bytes()
        )
    status, shown, _ = spikemorph("report", tmp_path)
    assert status == 0 and shown.strip() == f"saved {tmp_path / 'index.html'}: 2 networks"
    assert (tmp_path / "one" / "report.html").is_file() and not (tmp_path / "report.html").exists()
    refused(spikemorph("report", tmp_path, "--out", tmp_path / "r.html"), "no part of a run")
    (tmp_path / "two" / "energy.json").write_text("{")
    refused(spikemorph("report", tmp_path), "two/energy.json", "JSON")


def test_a_report_of_a_part_says_what_is_missing(
    spikemorph: Run, made: Path, tmp_path: Path
) -> None:
    (tmp_path / "energy.json").write_bytes((made / "sparse" / "energy.json").read_bytes())
    status, shown, _ = spikemorph("report", tmp_path)
    assert status == 0
    said = next(line for line in shown.splitlines() if line.startswith("not in this run"))
    for part in ("model", "certificate", "evaluation", "activity", "sparsity", "reproduce"):
        assert part in said
    assert "energy" not in said
    page = words_of((tmp_path / "report.html").read_text())
    assert "spikemorph certify NETWORK" in page  # the command that makes the part
    assert shown.rstrip().endswith(f"saved {tmp_path / 'report.html'}")
    refused(spikemorph("report", tmp_path / "none"), "none", "no part of a run")
    (tmp_path / "energy.json").write_text("{")
    refused(spikemorph("report", tmp_path), "energy.json", "JSON")


class Tags(HTMLParser):
    """The tags of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.seen.add(tag)


def test_names_with_markup_are_shown_as_they_are(
    spikemorph: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential()
            self.body.add_module("<blink>", nn.Linear(64, 8))
            self.body.add_module("relu", nn.ReLU())
            self.body.add_module("[bold]", nn.Linear(8, 10))

        def forward(self, x):  # type: ignore[no-untyped-def]  # traced
            return self.body(x.flatten(1))

    monkeypatch.setattr("spikemorph.cli.demo.OddNetwork", Odd, raising=False)
    pruned = tmp_path / "[red]odd.safetensors"
    words = ["spikemorph.cli.demo:OddNetwork", "--input-shape", "1,1,8,8", "--sparsity", "0.5"]
    status, shown, err = spikemorph("prune", *words, "--out", pruned)
    assert status == 0, err
    assert "[bold]" in shown
    text = RECIPE.replace('"zoo:digits_mlp"', f'"{pruned}"').replace('"sparse"', '"<marquee>[b]"')
    (tmp_path / "odd.toml").write_text(text)
    status, shown, err = spikemorph("run", tmp_path / "odd.toml", "--out", tmp_path / "o")
    assert status == 0, err
    assert "<marquee>[b]" in shown
    assert "<marquee>[b]: epoch 1" in err
    page = (tmp_path / "o" / "<marquee>[b]" / "report.html").read_text()
    tags = Tags()
    tags.feed(page)
    assert not tags.seen & {"marquee", "blink"}
    assert "&lt;marquee&gt;" in page
    network = tmp_path / "o" / "<marquee>[b]" / "network.safetensors"
    status, shown, _ = spikemorph("energy", network, "--data", "digits:test:20")
    assert status == 0
    assert "<marquee>[b] on digits:test" in shown


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ('name = "tiny"', "name = ", ("TOML", "odd.toml")),
        ("epochs = 2", "epoch = 2", ("odd.toml", "training", "'epoch'", "epochs")),
        ("epochs = 2", "epochs = 2.5", ("epochs", "int")),
        ('"magnitude"', '"magnitudes"', ("'sparse'", 'method = "magnitudes"', "rigl")),
        ("sparsity = 0.8", "sparsity = 1.0", ("'sparse'", "sparsity 1")),
        ('"sparse"', '"dense"', ("one name",)),
        ("digits:test:40", "digits:train:40", ("tested on what it learns from",)),
        ("digits_mlp", "digits_mpl", ("digits_mpl", "digits_mlp")),
    ],
)
def test_a_bad_recipe_is_one_line(
    spikemorph: Run, tmp_path: Path, before: str, after: str, words: Sequence[str]
) -> None:
    recipe = tmp_path / "odd.toml"
    assert before in RECIPE
    recipe.write_text(RECIPE.replace(before, after))
    refused(spikemorph("run", recipe, "--out", tmp_path / "o"), *words)
    assert not (tmp_path / "o").exists()


def test_a_run_that_cannot_be_written_is_one_line(spikemorph: Run, made: Path) -> None:
    recipe = made / "tiny.toml"
    refused(spikemorph("run", recipe, "--out", recipe), str(recipe), "choose another --out")
    refused(spikemorph("run", made / "none.toml"), "none.toml", "No such file")


def test_ctrl_c_stops_a_run_that_goes_on_later(
    spikemorph: Run, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = progress_console.print

    def pressed(line: str, **how: bool) -> None:
        plain(line, **how)  # type: ignore[arg-type]
        if line.startswith("sparse: epoch 1"):
            raise KeyboardInterrupt

    words = ["run", made / "tiny.toml", "--out", tmp_path]
    monkeypatch.setattr(progress_console, "print", pressed)
    status, _, err = spikemorph(*words)
    assert status == 130
    assert err.rstrip().endswith("stopped; nothing was half-written")
    monkeypatch.setattr(progress_console, "print", plain)
    status, _, err = spikemorph(*words)
    assert status == 0
    assert "dense: energy was done before" in err
    assert "epoch 2" in err
    assert "epoch 1" not in err
    for name in ("model", "network"):
        wanted = (made / "sparse" / f"{name}.safetensors").read_bytes()
        assert (tmp_path / "sparse" / f"{name}.safetensors").read_bytes() == wanted


def test_the_demo_ends_with_a_report(
    spikemorph: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(demo.RECIPE["training"], "epochs", 1)  # type: ignore[arg-type]
    few = {
        "samples": 20,
        "attacks": "apgd-ce=3,apgd-dlr=3,square=10,refine=5",
        "ann": "apgd-ce=3,refine=0",
        "patience": "0",
    }
    monkeypatch.setitem(demo.RECIPE, "attack", {**demo.RECIPE["attack"], **few})  # type: ignore[dict-item]
    words = ("demo", "--out", tmp_path / "my demo", "--json", tmp_path / "d.json")
    status, shown, _ = spikemorph(*words)
    assert status == 0
    result = json.loads((tmp_path / "d.json").read_text())
    assert result["settled"]["mismatching_logits"] == 0
    assert result["certificate"]["level"] == "A"
    assert shown.index("mismatching logits") < shown.index("Certificate level A")
    page = tmp_path / "my demo" / "sparse" / "report.html"
    assert shown.rstrip().splitlines()[-2:] == [
        f"both networks: {tmp_path / 'my demo' / 'index.html'}", f"report: {page}"
    ]  # fmt: skip
    assert page.read_text().startswith("<!")
    made = json.loads((page.parent / "reproduce.json").read_text())
    assert made["command"] == f"spikemorph demo --out '{tmp_path / 'my demo'}'"
    assert "Masks of" in shown


OPTIONS = {
    "prune": "--out --sparsity --method --data --allocation --epochs --rate --distil --held-out "
    "--precision --allow-empty --checkpoint --json --seed --device hydra rigl erk lamp",
    "energy": "--data --dense --samples --steps --models --json --seed --device step truenorth",
    "compare": "--data --dense --samples --models --json --seed --device",
    "report": "--out RUN",
    "run": "--out --json --seed RECIPE",
    "demo": "--out --json --seed --device",
}


@pytest.mark.parametrize("command", OPTIONS)
def test_help_names_the_options(spikemorph: Run, command: str) -> None:
    status, shown, _ = spikemorph(command, "--help")
    assert status == 0
    for word in OPTIONS[command].lower().split():
        assert word in shown.lower(), word


def test_data_of_another_shape_is_one_line(spikemorph: Run, made: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "flat.npz", x=np.zeros((4, 1, 4, 8), np.uint8))
    network = made / "sparse" / "network.safetensors"
    for command in ("energy", "compare"):
        found = spikemorph(command, network, "--data", tmp_path / "flat.npz")
        refused(found, "flat.npz", "(1, 4, 8)", "(1, 8, 8)")
