"""Files of weights as trainings leave them: under a key, behind a prefix; others are named."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from spikemorph.convert.readers.read_onnx import read_onnx
from spikemorph.convert.readers.read_torch import read_torch
from spikemorph.convert.readers.state_dicts import fitted, read_state_dict
from spikemorph.graph import InputError
from spikemorph.graph import graph as graph_module
from spikemorph.graph.saving import load_graph_file, save_graph


def module() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))


def same(found: Any, module: nn.Module) -> bool:
    wanted = module.state_dict()
    return found.keys() == wanted.keys() and all(torch.equal(found[k], wanted[k]) for k in wanted)


@pytest.mark.parametrize("key", ["state_dict", "model_state_dict", "model", "net", "module"])
def test_one_state_dict_under_a_key_is_found(tmp_path: Path, key: str) -> None:
    path, network = tmp_path / "c.pt", module()
    beside = {"epoch": 3, "optimizer": {"state": {}, "param_groups": [{"lr": 0.1}]}}
    torch.save({**beside, key: network.state_dict()}, path)
    assert same(read_state_dict(path), network)


def test_two_are_not_chosen_between(tmp_path: Path) -> None:
    path = tmp_path / "c.pt"
    torch.save({"model": module().state_dict(), "net": module().state_dict()}, path)
    with pytest.raises(InputError, match=r"c.pt: holds several, under model, net; save"):
        read_state_dict(path)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod.", "model.net.", ""])
def test_a_prefix_of_all_names_is_taken_off(prefix: str) -> None:
    network = module()
    wrapped = {prefix + name: value for name, value in network.state_dict().items()}
    assert same(fitted(wrapped, network.state_dict()), network)


def test_other_names_are_left_as_they_are() -> None:
    state = {"module.0.weight": torch.ones(1), "head.weight": torch.ones(1)}
    assert fitted(state, ["0.weight", "head.weight"]) is state
    assert fitted({}, ["a"]) == {}
    assert list(fitted({"a.b": torch.ones(1)}, ["c"])) == ["a.b"]


def test_whole_modules_and_scripts_are_called_so(tmp_path: Path) -> None:
    torch.save(module(), tmp_path / "whole.pt")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        script = torch.jit.trace(module().eval(), torch.ones(2, 3))  # type: ignore[no-untyped-call]
        torch.jit.save(script, tmp_path / "script.pt")  # type: ignore[no-untyped-call]
    for name, word in (("whole.pt", "is a whole pickled module"), ("script.pt", "TorchScript")):
        with pytest.raises(InputError, match=rf"{name}: .*{word}.*state_dict\(\)"):
            read_state_dict(tmp_path / name)


def test_more_nodes_than_are_read_are_refused(
    write_onnx: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    onnx = pytest.importorskip("onnx")
    names = ["x", *(f"h{k}" for k in range(4)), "y"]
    nodes = [
        onnx.helper.make_node("Relu", [a], [b]) for a, b in zip(names, names[1:], strict=False)
    ]
    path = write_onnx(nodes, [1, 4])
    assert read_onnx(path).outputs
    graph = read_onnx(path)
    save_graph(path.with_suffix(".safetensors"), graph)
    monkeypatch.setattr(graph_module, "MOST_NODES", len(nodes) - 1)
    with pytest.raises(InputError, match=r"model.onnx: has 5 nodes, 4 are read at most"):
        read_onnx(path)
    with pytest.raises(InputError, match="Sequential: has .* nodes, 4 are read at most"):
        read_torch(nn.Sequential(*(nn.ReLU() for _ in range(5))), torch.zeros(1, 4))
    with pytest.raises(InputError, match=r"model.safetensors: has 6 nodes, 4 are read at most"):
        load_graph_file(path.with_suffix(".safetensors"))
    with pytest.raises(InputError, match="has 6 nodes, 4 are read at most"):
        save_graph(path.with_name("again.safetensors"), graph)
    assert not path.with_name("again.safetensors").exists()
