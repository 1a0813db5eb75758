"""The input range lives in the network: every command reads the same data as the same values."""

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import refused
from torch import Tensor, nn

from spikemorph import convert_graph
from spikemorph.choices.settings import TimeChoice
from spikemorph.graph import Graph, Input, InputError, Node
from spikemorph.graph.grid import UNIT, Grid, Interval
from spikemorph.graph.saving import load_graph_file, save_graph
from spikemorph.quant import Quantisation
from spikemorph.sources.models import load_graph, normalised
from spikemorph.spiking import save_network
from spikemorph.spiking.network import load_network
from spikemorph.surrogate.folded_network import load_deployed, save_deployed
from spikemorph.surrogate.folding import fold
from spikemorph.surrogate.trained_file import load_trained, save_trained
from spikemorph.training.through_time import started
from spikemorph.zoo import load_data

Run = Callable[..., tuple[int, str, str]]
RANGES = [(0.0, 1.0), (-1.0, 1.0), (0.0, 255.0), (-2.1, 2.6)]
N = 60
each_range = pytest.mark.parametrize("ends", RANGES, ids=lambda e: f"{e[0]:g}..{e[1]:g}")


def on_range(ends: tuple[float, float]) -> Graph:
    """The zoo's digits network, taking inputs from `low` to `high` for its own 0..1."""
    low, high = ends
    graph = normalised(load_graph("zoo:digits_mlp").graph, (low,), (high - low,))
    return graph.declare(Interval.of(low, high))


def saved_from_python(ends: tuple[float, float], path: Path) -> Path:
    """Converted and saved by the library alone, with nothing said beside the network."""
    graph, shown = on_range(ends), load_data("digits:train:300").values(Interval.of(*ends))
    made = convert_graph(graph, shown, grid=Grid.of(*ends), quantisation=Quantisation())
    save_network(path, made.network, made.notes())
    return path


def stored(ends: tuple[float, float], kind: str, folder: Path) -> Path:
    """The same test digits as bytes, and as floats in the network's own units."""
    digits = load_data(f"digits:test:{N}")
    assert digits.y is not None
    x = digits.x if kind == "bytes" else digits.values(Interval.of(*ends))
    path = folder / f"{kind}.npz"
    np.savez(path, x=x.numpy(), y=digits.y.numpy())
    return path


def plain(spikemorph: Run, out: Path, *words: object) -> Any:
    """The JSON of a command that succeeds."""
    code, _, error = spikemorph(*words, "--json", out)
    assert code == 0, error
    return json.loads(out.read_text())


def seen_by_all(spikemorph: Run, network: Path, data: Path, folder: Path) -> dict[str, Any]:
    """What each command finds; accuracies in per cent, spikes per inference."""
    words, out = ("--data", data), folder / "found.json"
    one = plain(spikemorph, out, "evaluate", network, *words)
    still = (
        "--eps",
        "0",
        "--attacks",
        "fgsm,refine=0",
        "--patience",
        "0",
        "--samples",
        N,
        "--gates",
        "0",
    )
    two = plain(spikemorph, out, "attack", network, *words, *still)
    three = plain(spikemorph, out, "compare", network, *words, "--samples", N)
    four = plain(spikemorph, out, "energy", network, *words, "--samples", N)
    proof = ("--out", folder / "proof.json")
    five = plain(spikemorph, out, "certify", network, *words, *proof)
    (row,) = three["networks"]
    return {
        "evaluate": one["settled"]["accuracy"],
        "attack": two["clean"]["accuracy"],
        "attack at eps 0": two["eps"][0]["worst_case"],
        "compare": row["accuracy"],
        "spikes, evaluate": one["curve"][-1]["spikes_per_inference"],
        "spikes, compare": row["spikes_per_inference"],
        "synops, compare": row["synops"],
        "synops, energy": four["counts"]["totals"]["synops"] / N,
        "certify": (five["n"], five["mismatching_logits"]),
    }


@each_range
def test_all_commands_read_all_data_alike(
    spikemorph: Run, tmp_path: Path, ends: tuple[float, float]
) -> None:
    """Bytes on -1..1 lie half-way between grid points, every one of them, so roundings are seen."""
    network = saved_from_python(ends, tmp_path / "network.safetensors")
    found = [
        seen_by_all(spikemorph, network, stored(ends, kind, tmp_path), tmp_path)
        for kind in ("bytes", "floats")
    ]
    assert found[0] == found[1]
    accuracies = [v for k, v in found[0].items() if k in ("evaluate", "attack", "compare")]
    assert len({*accuracies, found[0]["attack at eps 0"]}) == 1 and accuracies[0] > 90
    for what in ("spikes", "synops"):
        assert len({v for k, v in found[0].items() if k.startswith(what)}) == 1
    assert found[0]["certify"] == (N, 0)


def test_evaluate_and_attack_agree_through_time_too(spikemorph: Run, tmp_path: Path) -> None:
    ends = (-1.0, 1.0)
    shown = load_data("digits:train:100").values(Interval.of(*ends))
    choice = TimeChoice(steps=4, calibration_steps=4, scale=1.0)
    path = tmp_path / "trained.safetensors"
    save_trained(path, started(on_range(ends), choice, shown), {})
    out, found = tmp_path / "found.json", []
    for kind in ("bytes", "floats"):
        words = ("--data", stored(ends, kind, tmp_path))
        still = (
            "--eps",
            "0",
            "--attacks",
            "fgsm,refine=0",
            "--patience",
            "0",
            "--samples",
            N,
            "--gates",
            "0",
        )
        one = plain(spikemorph, out, "evaluate", path, *words)
        two = plain(spikemorph, out, "attack", path, *words, *still, "--paths", "pcw-1")
        found += [one["accuracy"], two["clean"]["accuracy"], two["eps"][0]["worst_case"]]
    assert len(set(found)) == 1 and found[0] > 30


def test_what_is_compared_takes_the_same_inputs(spikemorph: Run, tmp_path: Path) -> None:
    one, other = (
        saved_from_python(e, tmp_path / f"{n}.safetensors")
        for n, e in (("one", (0.0, 1.0)), ("other", (-1.0, 1.0)))
    )
    words = ("--data", "digits:test:10", "--samples", "10")
    for command in ("energy", "compare"):
        found = spikemorph(command, one, *words, "--dense", other)
        refused(found, "-1..1", "0..1", "same inputs")
    found = spikemorph("evaluate", one, *words[:2], "--model", bare(tmp_path / "bare.safetensors"))
    assert found[0] == 0  # of a bare model nothing contradicts
    signed = tmp_path / "signed.safetensors"
    save_graph(signed, on_range((-1.0, 1.0)))
    refused(spikemorph("evaluate", one, *words[:2], "--model", signed), "signed", "-1..1", "0..1")


@pytest.mark.parametrize("command", ["evaluate", "attack", "energy", "certify", "compare"])
def test_every_command_refuses_the_same_data_in_the_same_words(
    spikemorph: Run, tmp_path: Path, command: str
) -> None:
    network = saved_from_python((0.0, 1.0), tmp_path / "network.safetensors")
    digits, more = load_data("digits:test:4"), ("--eps", "0") if command == "attack" else ()
    x, y = digits.values().numpy(), digits.y.numpy()  # type: ignore[union-attr]
    far, nan, wrong = x.copy(), x.copy(), y.copy()
    far[2, 0, 3, 4], nan[1, 0, 0, 0], wrong[3] = 1.25, np.nan, 10
    cases = {
        "far": ({"x": far, "y": y}, ("sample 2, element (0, 3, 4): 1.25 is outside", "0..1")),
        "nan": ({"x": nan, "y": y}, ("x at index (1, 0, 0, 0) is nan",)),
        "wrong": ({"x": x, "y": wrong}, ("sample 3 has label 10", "0..9")),
        "wide": ({"x": x[:, 0], "y": y}, ("samples have shape (8, 8), the model takes (1, 8, 8)",)),
    }
    for name, (arrays, expected) in cases.items():
        np.savez(tmp_path / f"{name}.npz", **arrays)
        found = spikemorph(command, network, "--data", tmp_path / f"{name}.npz", *more)
        refused(found, f"{name}.npz: ", *expected)


# Declared once, where a network is made


def bare(path: Path, ends: tuple[float, float] = (-1.0, 1.0)) -> Path:
    """A float model as an import leaves it: its range is not known."""
    graph = on_range(ends)
    entry = Node(graph.inputs[0], Input(graph.entry.shape))
    save_graph(path, graph.substitute(entry.name, entry))
    return path


def test_a_pruned_model_knows_its_range_and_convert_needs_no_option(
    spikemorph: Run, tmp_path: Path
) -> None:
    model, pruned = bare(tmp_path / "model.safetensors"), tmp_path / "pruned.safetensors"
    words = ("--sparsity", "0.3", "--data", "digits:train:64", "--epochs", "1")
    signed = ("--input-range=-1,1",)
    assert spikemorph("prune", model, *words, *signed, "--out", pruned)[0] == 0
    assert load_graph_file(pruned).entry.domain == Interval.of(-1, 1)
    out = ("--out", tmp_path / "network.safetensors")
    convert = ("convert", pruned, "--data", "digits:test:40", "--calibration", "digits:train:64")
    assert spikemorph(*convert, *out)[0] == 0
    network, notes = load_network(tmp_path / "network.safetensors")
    assert network.grid.interval == Interval.of(-1, 1) and "input_range" not in notes
    assert spikemorph(*convert, *out, *signed)[0] == 0
    refused(spikemorph(*convert, *out, "--input-range", "0,1"), "0..1", "-1..1", "pruned")
    refused(
        spikemorph("attack", pruned, *convert[2:4], "--eps", "0", "--input-range", "0,1"), "-1..1"
    )


def test_a_range_taken_for_granted_is_told(spikemorph: Run, tmp_path: Path) -> None:
    model = bare(tmp_path / "model.safetensors", (0.0, 1.0))
    words = ("--data", "digits:test:20", "--calibration", "digits:train:64")
    code, told, _ = spikemorph("convert", model, *words, "--out", tmp_path / "n.safetensors")
    assert code == 0 and "inputs are taken to lie in 0..1" in told
    code, told, _ = spikemorph(
        "convert", "zoo:digits_mlp", *words, "--out", tmp_path / "n.safetensors"
    )
    assert code == 0 and "are taken to lie" not in told
    unsaid = tmp_path / "pruned.safetensors"
    assert spikemorph("prune", model, "--sparsity", "0.3", "--out", unsaid)[0] == 0
    assert load_graph_file(unsaid).entry.domain is None  # nothing was shown to it


def test_another_grid_than_the_declared_range_is_refused() -> None:
    x = load_data("digits:train:50").values()
    with pytest.raises(InputError, match=r"input range 0..1: .* declared to be -1..1"):
        convert_graph(on_range((-1.0, 1.0)), x, grid=Grid.of(0.0, 1.0), quantisation=Quantisation())


def test_networks_through_time_keep_their_range_and_are_not_saved_without(tmp_path: Path) -> None:
    shown = load_data("digits:train:20").values(Interval.of(-1, 1))
    choice, path = TimeChoice(steps=2, calibration_steps=2), tmp_path / "a.safetensors"
    module = started(on_range((-1.0, 1.0)), choice, shown)
    save_trained(path, module, {})
    assert load_trained(path)[0].graph.entry.interval == Interval.of(-1, 1)
    save_deployed(path, fold(module), {})
    assert load_deployed(path)[0].graph.entry.interval == Interval.of(-1, 1)
    unknown = started(load_graph_file(bare(tmp_path / "b.safetensors")), choice, shown)
    for save, what in ((save_trained, unknown), (save_deployed, fold(unknown))):
        with pytest.raises(InputError, match=r"c.safetensors: the range .* is not declared"):
            save(tmp_path / "c.safetensors", what, {})  # type: ignore[operator]
    assert not (tmp_path / "c.safetensors").exists()


def test_an_older_format_is_named(tmp_path: Path) -> None:
    path = saved_from_python((0.0, 1.0), tmp_path / "network.safetensors")
    path.write_bytes(path.read_bytes().replace(b"spikemorph-3", b"spikemorph-2"))
    with pytest.raises(InputError, match=r"its format is spikemorph-2, this version reads"):
        load_network(path)


# The grid


@each_range
@pytest.mark.parametrize("bits", [1, 8, 12])
def test_a_grid_keeps_the_declared_ends_exactly(ends: tuple[float, float], bits: int) -> None:
    grid = Grid.of(*ends, bits=bits)
    assert grid.interval == Interval(Fraction(ends[0]), Fraction(ends[1]))
    assert abs(grid.low * grid.step - grid.interval.low) <= grid.step / 2
    assert abs(grid.high * grid.step - grid.interval.high) <= grid.step / 2
    with pytest.raises(ValueError, match="half a step"):
        replace(grid, declared=Interval(grid.interval.low, grid.interval.high + 2 * grid.step))


@each_range
@pytest.mark.parametrize("bits", [8, 12])
def test_values_up_to_a_step_outside_become_the_end(ends: tuple[float, float], bits: int) -> None:
    grid, (low, high) = Grid.of(*ends, bits=bits), ends
    step = float(grid.step)
    x = torch.tensor([[low - 0.99 * step, low], [high, high + 0.99 * step]], dtype=torch.float64)
    points = grid.to_integers(x)
    assert points[0, 0] == points[0, 1] and points[1, 0] == points[1, 1]
    for value in (low - 1.01 * step, high + 1.01 * step):
        with pytest.raises(InputError, match=r"sample 1, element \(0,\): .* outside the declared"):
            grid.to_integers(torch.tensor([[0.0], [value]], dtype=torch.float64))
    for value in (float("nan"), float("inf")):
        with pytest.raises(InputError, match=r"sample 0, element \(1,\): .* is no number"):
            grid.to_integers(torch.tensor([[0.0, value]]))


@each_range
@pytest.mark.parametrize("bits", [8, 12])
def test_the_rounding_of_32_bits_decides_no_grid_point(
    ends: tuple[float, float], bits: int
) -> None:
    """On -1..1 every byte is half-way between two points of 8 bits: all go up, however computed."""
    interval, grid = Interval.of(*ends), Grid.of(*ends, bits=bits)
    every = torch.arange(256, dtype=torch.uint8)[:, None]
    low, high = (Fraction(end) for end in ends)
    values = (low + (high - low) * byte / 255 for byte in range(256))
    exact = [(value / grid.step + Fraction(1, 2)).__floor__() for value in values]
    once = interval.from_bytes(every)
    again = interval.from_unit(interval.to_unit(once))
    for x in (once, again, torch.nextafter(once, torch.tensor(-torch.inf)).clamp(*ends)):
        found = grid.to_integers(x)[:, 0].tolist()
        assert found == [min(max(point, grid.low), grid.high) for point in exact]


@each_range
def test_shares_of_a_range_and_values_are_each_others_inverse(ends: tuple[float, float]) -> None:
    interval, shares = Interval.of(*ends), torch.linspace(0, 1, 256)[:, None]
    values = interval.from_unit(shares)
    assert float(values.min()) == pytest.approx(ends[0]) and float(values.max()) == pytest.approx(
        ends[1]
    )
    torch.testing.assert_close(interval.to_unit(values), shares, rtol=0, atol=1e-6)
    assert bool(((interval.to_unit(values) >= 0) & (interval.to_unit(values) <= 1)).all())
    assert UNIT.to_unit(shares) is shares


# Signed inputs, in their own units


class Tones(nn.Module):
    """Which of three rows of a signal (1 channel, 24 steps) from -1 to 1 it is most alike."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv1d(1, 4, 5, padding=2), nn.Linear(4 * 24, 3)
        generator = torch.Generator().manual_seed(0)
        for parameter in self.parameters():
            nn.init.normal_(parameter, 0, 0.3, generator)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.relu(self.first(x)).flatten(1))


def signals(path: Path) -> Path:
    """Signed signals as floats, labelled by the network itself."""
    x = torch.rand(40, 1, 24, generator=torch.Generator().manual_seed(1)) * 2 - 1
    np.savez(path, x=x.numpy(), y=Tones()(x).argmax(1).numpy())
    return path


def test_signals_are_attacked_in_their_own_units(spikemorph: Run, tmp_path: Path) -> None:
    """On -1..1 an eps of 0.1 in the signal's units is 0.05 of the range."""
    sys.modules["tones"] = sys.modules[__name__]
    data, network = signals(tmp_path / "signals.npz"), tmp_path / "network.safetensors"
    words = ("--data", data, "--input-range=-1,1", "--input-bits", "12", "--out", network)
    assert spikemorph("convert", "tones:Tones", "--input-shape", "1,1,24", *words)[0] == 0
    attack = (
        "attack",
        network,
        "--data",
        data,
        "--attacks",
        "pgd=5,square=20,refine=0",
        "--patience",
        "0",
    )
    shares = plain(spikemorph, tmp_path / "a.json", *attack, "--eps", "0,0.05", "--gates", "0")
    own_units = ("--eps", "0,0.1", "--eps-units", "input", "--gates", "5")
    code, told, _ = spikemorph(*attack, *own_units, "--json", tmp_path / "b.json")
    own = json.loads((tmp_path / "b.json").read_text())
    assert code == 0 and "eps was given in units of inputs, -1..1" in told and "0.1 is 0.05" in told
    assert [row["eps"] for row in own["eps"]] == [row["eps"] for row in shares["eps"]] == [0, 0.05]
    assert own["per_sample"] == shares["per_sample"]
    assert own["eps"][0]["worst_case"] == own["clean"]["accuracy"] > own["eps"][1]["worst_case"]
    refused(spikemorph(*attack, "--eps", "2", "--eps-units", "input"), "inputs are 2 wide")
    refused(spikemorph(*attack, "--eps", "0.1", "--eps-units", "dB"), "--eps-units dB")
    refused(spikemorph(*attack, "--eps", "0.1", "--corruptions"), "(1, 24)", "corrupted")
