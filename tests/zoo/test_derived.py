"""Networks that recipes made: cards, files, and what commands take them for."""

import json
from pathlib import Path
from typing import Any

import pytest

from spikemorph.graph import InputError
from spikemorph.graph.grid import UNIT
from spikemorph.graph.saving import file_kind, save_graph
from spikemorph.sources.models import load_graph, network_file
from spikemorph.sources.subjects import open_subject
from spikemorph.zoo import derived
from spikemorph.zoo.derived import FLOAT, SPIKING, TIMED, made_card, made_file, made_names
from spikemorph.zoo.fetch import sha256_of

KINDS = {FLOAT: ("graph",), SPIKING: ("network",), TIMED: ("trained through time",)}


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A zoo of one float graph, `thing`."""
    monkeypatch.setattr(derived, "_folder", lambda: tmp_path)
    save_graph(tmp_path / "thing.safetensors", load_graph("zoo:digits_mlp").graph)
    card: dict[str, Any] = {
        "name": "thing", "kind": FLOAT, "dataset": "digits", "input_shape": [1, 8, 8],
        "input_range": [0.0, 1.0], "command": "spikemorph run x.toml", "made_as": "x",
        "sparsity": 0.0, "nonzero": 6464, "accuracy": 97.0, "robust": {"0.1": 50.0},
        "robust_samples": 100, "licence": "Apache-2.0", "data_licence": "CC BY 4.0",
        "sha256": sha256_of((tmp_path / "thing.safetensors").read_bytes()), "versions": {},
    }  # fmt: skip
    (tmp_path / "thing.made.json").write_text(json.dumps(card))
    return tmp_path


def test_a_made_float_graph_is_a_model(shelf: Path) -> None:
    model = load_graph("zoo:thing")
    assert (model.name, model.entry.interval, model.input_shape) == ("thing", UNIT, (1, 8, 8))
    assert open_subject("zoo:thing").subject.kind == "ann"
    with pytest.raises(InputError, match="zoo:thing: is a float network, not a spiking one"):
        network_file("zoo:thing")


def test_a_spiking_network_is_no_float_model(shelf: Path) -> None:
    card = json.loads((shelf / "thing.made.json").read_text())
    (shelf / "thing.made.json").write_text(json.dumps(card | {"kind": SPIKING}))
    with pytest.raises(InputError, match="zoo:thing: is a spiking network already"):
        load_graph("zoo:thing")
    assert network_file("zoo:thing") == shelf / "thing.safetensors"


def test_a_path_stays_a_path() -> None:
    assert network_file("some/net.safetensors") == Path("some/net.safetensors")


def test_a_changed_file_is_refused(shelf: Path) -> None:
    content = bytearray((shelf / "thing.safetensors").read_bytes())
    content[-1] ^= 1
    (shelf / "thing.safetensors").write_bytes(content)
    with pytest.raises(InputError, match="thing.safetensors: not the file its card describes"):
        load_graph("zoo:thing")


def test_a_damaged_card_is_refused(shelf: Path) -> None:
    (shelf / "thing.made.json").write_text('{"name": "thing"}')
    with pytest.raises(InputError, match="thing.made.json: not a card"):
        made_card("thing")


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(InputError, match="no network 'nothing' in the zoo"):
        made_card("nothing")


def test_robust_networks_are_shipped_on_both_roads() -> None:
    kinds: dict[str, set[str]] = {}
    for name in made_names():
        card = made_card(name)
        kinds.setdefault(f"{card.dataset} {card.sparsity:.0f}", set()).add(card.kind)
        assert "robust" in name or "proved" in name
        assert card.robust or card.certified
        assert file_kind(made_file(name)) in KINDS[card.kind]
    for sparsity in (90, 99):
        assert kinds[f"fashion-mnist {sparsity}"] == {FLOAT, SPIKING, TIMED}
