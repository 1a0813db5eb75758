"""``certify --eps`` as users meet it: proved, printed, kept, compared, reported, refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import refused
from torch import nn

import spikemorph as sm
from spikemorph.robust.certified.evaluation import Certification

Run = Callable[..., tuple[int, str, str]]
DATA = ("--data", "digits:test")


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network of the digits, exact."""
    place = tmp_path_factory.mktemp("certified") / "digits.safetensors"
    sm.to_snn("zoo:digits_mlp", "digits:train", input_range=(0, 1)).save(place)
    return place


def test_what_is_proved_is_printed_and_written_and_what_python_gives(
    spikemorph: Run, digits: Path, tmp_path: Path
) -> None:
    words = (digits, *DATA, "--eps", "0.5/255,4/255", "--samples", "40")
    status, shown, _ = spikemorph("certify", *words, "--json", tmp_path / "certified.json")
    assert status == 0
    found = json.loads((tmp_path / "certified.json").read_text())
    assert (found["n"], found["kind"], found["method"]) == (40, "exact", "lines")
    rows = [row["certified"]["accuracy"] for row in found["eps"]]
    assert found["clean"]["accuracy"] >= rows[0] > rows[1]
    for row in found["eps"]:
        assert f"{row['certified']['accuracy']:.2f}" in shown
        assert row["intervals"] <= row["certified"]["correct"]
        upto = [s["certified"] or -1 for s in found["per_sample"]]
        assert sum(eps >= row["eps"] for eps in upto) == row["certified"]["correct"]
    reasons = {s["reason"] for s in found["per_sample"] if (s["certified"] or 0) < 4 / 255}
    assert all("class" in r or "wrong" in r for r in reasons)
    assert f"after {found['steps']} steps" in shown and "less than" in shown  # 8 bits: half a step
    own = sm.load(digits).certify_robust("digits:test", eps=("0.5/255", "4/255"), samples=40)
    told = own.to_dict()
    assert [told[k] for k in ("clean", "eps", "per_sample")] == [
        found[k] for k in ("clean", "eps", "per_sample")
    ]
    status, _, _ = spikemorph("report", tmp_path, "--out", tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert status == 0 and "Certified robustness" in page and "right, and proved at no eps" in page


def test_compare_says_what_is_proved(spikemorph: Run, digits: Path, tmp_path: Path) -> None:
    words = (digits, *DATA, "--samples", "20", "--eps", "1/255")
    status, shown, _ = spikemorph("compare", *words, "--json", tmp_path / "comparison.json")
    assert status == 0
    (row,) = json.loads((tmp_path / "comparison.json").read_text())["networks"]
    own = sm.load(digits).certify_robust("digits:test", eps="1/255", samples=20)
    assert row["certified"] == {"1/255": own.share(0).accuracy}
    assert "proved" in shown


def test_a_stopped_proof_goes_on(
    spikemorph: Run, digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work, done = Certification.run, list[int]()

    def once(evaluation: Certification, number: int, *rest: Any) -> Any:
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(number)
        return work(evaluation, number, *rest)

    words = (digits, *DATA, "--eps", "2/255", "--samples", "40", "--block", "10")
    kept = (*words, "--folder", tmp_path / "blocks", "--json", tmp_path / "two.json")
    monkeypatch.setattr(Certification, "run", once)
    assert spikemorph("certify", *kept)[0] != 0 and done == [0, 1]
    monkeypatch.setattr(Certification, "run", work)
    assert spikemorph("certify", *kept)[0] == 0
    assert spikemorph("certify", *words, "--json", tmp_path / "one.json")[0] == 0
    one, two = (json.loads((tmp_path / f"{n}.json").read_text()) for n in ("one", "two"))
    for key in ("clean", "eps", "per_sample"):
        assert one[key] == two[key]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--eps", "1/255"), "--data"),
        ((*DATA, "--eps", "8"), "8/255"),
        ((*DATA, "--eps", "2/255,1/255"), "growing"),
        ((*DATA, "--eps", "1/255:2/255"), "each of 1 channels"),
        ((*DATA, "--eps", "1/255", "--method", "guess"), "intervals, lines"),
        ((*DATA, "--samples", "3"), "--eps"),
    ],
)
def test_what_makes_no_sense_is_refused(
    spikemorph: Run, digits: Path, words: tuple[str, ...], said: str
) -> None:
    refused(spikemorph("certify", digits, *words), said)


def test_only_what_is_exact_and_chooses_classes_is_certified(
    spikemorph: Run, digits: Path, tmp_path: Path
) -> None:
    whole = sm.load(digits)
    short = tmp_path / "short.safetensors"
    sm.SNN(whole.network, sm.convert.certify(whole.network, 1)).save(short)
    refused(spikemorph("certify", short, *DATA, "--eps", "1/255"), "level B", "1 of the")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        free = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
    x = torch.rand(24, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    loose = sm.to_snn(free, x, input_range=(0, 1), neuron="snm")
    assert loose.certificate.level is None and loose.certificate.refusals
    with pytest.raises(sm.InputError, match=r"node '2': snm retracts.*level none"):
        loose.certify_robust(x, torch.arange(24) % 3, eps="1/255")
    numbers = sm.to_snn(free, x, input_range=(0, 1))
    with pytest.raises(sm.InputError, match="numbers, not classes"):
        numbers.certify_robust(x, torch.rand(24, 3), eps="1/255")
