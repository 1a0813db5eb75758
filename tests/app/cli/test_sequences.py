"""Recurrent networks on the command line: made, proved, run whole and as they come, and refused."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from fuzz import models
from helpers import refused

import spikemorph as sm

Run = Callable[..., tuple[int, str, str]]
LENGTHS = np.array([6, 6, 1, 2, 3, 4, 5, 6] * 4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GRU, sequences of one to six elements, whose rest is no number, and full ones."""
    place = tmp_path_factory.mktemp("sequences")
    (place / "m.onnx").write_bytes(models.recurrent())
    rng = np.random.default_rng(0)
    x, y = rng.random((32, 6, 3), np.float32), np.arange(32) % 3
    np.savez(place / "full.npz", x=x, y=y)
    mixed = np.where(np.arange(6)[None, :, None] < LENGTHS[:, None, None], x, np.nan)
    np.savez(place / "mixed.npz", x=mixed.astype(np.float32), y=y, lengths=LENGTHS)
    return place


def saved(folder: Path, carry: str) -> Path:
    """The GRU, converted by this schedule."""
    snn = sm.to_snn(str(folder / "m.onnx"), np.load(folder / "full.npz")["x"], carry=carry,
                    levels=32, input_range=(0.0, 1.0))  # fmt: skip
    snn.save(folder / f"{carry}.safetensors")
    return folder / f"{carry}.safetensors"


@pytest.fixture(scope="module")
def made(folder: Path) -> Path:
    return saved(folder, "delta")


@pytest.mark.parametrize("data", ["full.npz", "mixed.npz"])
def test_what_is_proved_holds_for_all_lengths(
    spikemorph: Run, folder: Path, data: str, tmp_path: Path
) -> None:
    out, told = tmp_path / "n.safetensors", tmp_path / "n.json"
    words = ("--data", folder / data, "--out", out, "--carry", "delta", "--input-range", "0,1")
    status, said, _ = spikemorph("convert", folder / "m.onnx", *words, "--json", told)
    assert status == 0 and "inner steps at every element, of sequences of any length" in said
    last = json.loads(told.read_text())["curve"][-1]
    assert (last["mismatching_logits"], last["agreement"]) == (0, 100.0)
    status, said, _ = spikemorph("certify", out, "--data", folder / data, "--out", tmp_path / "c")
    assert status == 0 and "0 mismatching logits of 96" in said
    assert json.loads((tmp_path / "c").read_text())["per"] == "element"


def test_a_stream_ends_where_the_batch_does(
    spikemorph: Run, folder: Path, made: Path, tmp_path: Path
) -> None:
    batch, streamed = tmp_path / "b.json", tmp_path / "s.json"
    assert spikemorph("evaluate", made, "--data", folder / "mixed.npz", "--json", batch)[0] == 0
    status, said, _ = spikemorph(
        "stream", made, "--data", folder / "mixed.npz", "--json", streamed,
        "--csv", tmp_path / "s.csv", "--save-state", tmp_path / "state.safetensors",
    )  # fmt: skip
    found = json.loads(streamed.read_text())
    assert status == 0 and f"last answers: {found['accuracy']:.2f} % right" in said
    assert found["accuracy"] == json.loads(batch.read_text())["curve"][-1]["accuracy"]
    assert [row["streams"] for row in found["elements"]] == [32, 28, 24, 20, 16, 12]
    assert len((tmp_path / "s.csv").read_text().splitlines()) == 7


def test_a_stream_goes_on_from_its_state(
    spikemorph: Run, folder: Path, made: Path, tmp_path: Path
) -> None:
    held = np.load(folder / "full.npz")
    np.savez(tmp_path / "a.npz", x=held["x"][:, :4], y=held["y"])
    np.savez(tmp_path / "b.npz", x=held["x"][:, 4:], y=held["y"])
    state, rows = tmp_path / "state.safetensors", []
    runs = (("a.npz", "--save-state", state), ("b.npz", "--state", state), (folder / "full.npz",))
    for data, *more in runs:
        told = tmp_path / "told.json"
        assert spikemorph("stream", made, "--data", tmp_path / data, *more, "--json", told)[0] == 0
        rows.append(json.loads(told.read_text())["elements"])
    assert rows[0] + rows[1] == rows[2]


def test_bad_sequences_and_states_end_in_one_line(
    spikemorph: Run, folder: Path, made: Path, tmp_path: Path
) -> None:
    x = np.load(folder / "full.npz")["x"]
    stream = ("stream", made, "--data")
    for name, change, words in (
        ("nothing", {"lengths": np.zeros(32, np.int64)}, ("length 0", "1 to 6")),
        ("beyond", {"lengths": np.full(32, 7)}, ("length 7", "1 to 6")),
        ("few", {"lengths": np.full(3, 6)}, ("lengths",)),
        (
            "hole",
            {"x": np.where(np.arange(6)[None, :, None] == 2, np.nan, x)},
            ("index (0, 2, 0) is nan",),
        ),
        ("wide", {"x": np.repeat(x, 2, 2)}, ("elements of shape (6,)", "takes (3,)")),
    ):
        held = {"x": x} | change
        np.savez(tmp_path / f"{name}.npz", **{k: np.asarray(v, v.dtype if k != "x" else np.float32)
                                              for k, v in held.items()})  # fmt: skip
        refused(spikemorph(*stream, tmp_path / f"{name}.npz"), *words)
    full = folder / "full.npz"
    state = tmp_path / "state.safetensors"
    spikemorph(*stream, full, "--save-state", state, "--steps", "5")
    refused(spikemorph(*stream, full, "--state", state), str(state), "another network")
    refused(spikemorph(*stream, full, "--state", made), str(made))
    refused(spikemorph(*stream, full, "--steps", "0"), "--steps 0", "1 or more")
    refused(spikemorph("stream", folder / "m.onnx", "--data", full), "m.onnx")
    convert = ("convert", folder / "m.onnx", "--data", full, "--out", tmp_path / "n.safetensors")
    refused(spikemorph(*convert, "--carry", "replay"), "--carry replay", "reset or delta")
    refused(spikemorph(*convert, "--state-levels", "1"), "1 levels of states")


def test_what_a_sequence_costs(spikemorph: Run, folder: Path, made: Path, tmp_path: Path) -> None:
    """What energy counts is what evaluate saw sent; both schedules side by side; a page shows it."""
    other, data = saved(folder, "reset"), ("--data", f"{folder / 'full.npz'}:8")
    told = {name: tmp_path / f"{name}.json" for name in ("energy", "evaluate", "compare")}
    for name in ("energy", "evaluate"):
        assert spikemorph(name, made, *data, "--json", told[name])[0] == 0
    assert spikemorph("compare", made, other, *data, "--json", told["compare"])[0] == 0
    found = {name: json.loads(path.read_text()) for name, path in told.items()}
    sent = found["evaluate"]["curve"][-1]["spikes_per_inference"]
    counts = found["energy"]["counts"]
    (gru,) = counts["along"]
    assert gru["node"] == "gru" and sum(gru["spikes_out"]) == counts["totals"]["spikes_out"]
    assert sum(gru["spikes_out"]) / counts["samples"] == pytest.approx(sent)
    delta, reset = found["compare"]["networks"]
    assert delta["spikes_per_inference"] == pytest.approx(sent) != reset["spikes_per_inference"]
    assert delta["accuracy"] == reset["accuracy"] and delta["mismatching_logits"] == 0
    page = tmp_path / "page.html"
    assert spikemorph("report", made, *data, "--out", page)[0] == 0
    shown = page.read_text()
    assert "Operations per element: gru" in shown and "a column is an element" in shown


def test_what_does_not_take_mixed_lengths_says_so(
    spikemorph: Run, folder: Path, made: Path
) -> None:
    """A network would see what stands behind the ends; it is not read as if it were a sequence."""
    data = ("--data", folder / "mixed.npz")
    for words in (("attack", made, *data, "--eps", "0.1"), ("energy", made, *data),
                  ("compare", made, *data)):  # fmt: skip
        refused(spikemorph(*words), "mixed", "1 to 6 elements")


def test_a_network_without_recurrence_is_no_stream(spikemorph: Run, files: Path) -> None:
    found = spikemorph("stream", files / "exact.safetensors", "--data", "digits:test:2")
    refused(found, "no recurrent layer", "evaluate it")
    found = spikemorph(
        "convert", "zoo:digits_mlp", "--data", "digits:test:20", "--carry", "delta",
        "--out", files / "delta.safetensors",
    )  # fmt: skip
    refused(found, "--carry delta", "no layer is recurrent")
