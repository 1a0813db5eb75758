"""What a command would have ignored, or broken on, is said in one line before any work."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from helpers import refused
from onnx import TensorProto, helper, numpy_helper

from spikemorph.convert import read_onnx
from spikemorph.graph import UnsupportedError, run

Run = Callable[..., tuple[int, str, str]]
CONVERT = ["convert", "zoo:digits_mlp", "--data", "digits:test:20"]


def test_what_says_nothing_of_a_model_is_refused(spikemorph: Run, tmp_path: Path) -> None:
    out = ["--out", tmp_path / "o.safetensors"]
    refused(spikemorph(*CONVERT, *out, "--weights", "none.pt"), "--weights", "factory")
    refused(spikemorph(*CONVERT, *out, "--input-shape", "1,1,8,8"), "--input-shape", "factory")
    words = ["convert", "mine:net", *CONVERT[2:], *out, "--input-shape", "1.9,1,8,8"]
    refused(spikemorph(*words), "--input-shape 1.9,1,8,8")
    assert not list(tmp_path.iterdir())


def test_test_data_does_not_calibrate(spikemorph: Run, tmp_path: Path) -> None:
    words = [*CONVERT, "--calibration", "digits:test", "--out", tmp_path / "o.safetensors"]
    refused(spikemorph(*words), "--calibration digits:test", "tested on what")
    assert not list(tmp_path.iterdir())


def test_places_are_looked_at_first(spikemorph: Run, tmp_path: Path) -> None:
    out = tmp_path / "o.safetensors"
    refused(spikemorph(*CONVERT, "--out", out, "--json", tmp_path / "no" / "j.json"), "j.json")
    assert not out.exists()
    refused(spikemorph(*CONVERT, "--out", tmp_path / "no" / "o.safetensors"), "no/o.safetensors")


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("def net(:\n", ["SyntaxError"]),
        ("raise RuntimeError('at import')\n", ["at import"]),
        ("import sys\nsys.exit(5)\n", ["SystemExit: 5"]),
        ("def net():\n    raise ValueError('inside')\n", ["factory fails", "inside"]),
        ("def net(size):\n    return size\n", ["factory fails", "without arguments"]),
    ],
)
def test_factories_that_fail(
    spikemorph: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, words: list[str]
) -> None:
    (tmp_path / "failing_factory.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(__import__("sys").modules, "failing_factory", raising=False)
    refused(spikemorph("inspect", "failing_factory:net", "--input-shape", "1,4"), *words)


def test_numbers_that_leave_nothing(spikemorph: Run, tmp_path: Path) -> None:
    out = ["--out", tmp_path / "o.safetensors"]
    refused(spikemorph(*CONVERT, *out, "--input-range", "0,1e-7"), "too narrow")
    refused(spikemorph(*CONVERT, *out, "--std", "1e-320"), "--std")
    np.savez(tmp_path / "big.npz", x=np.zeros((2, 1, 8, 8), np.uint8), y=np.array([1, 3 * 10**8]))
    data = ["--data", tmp_path / "big.npz"]
    refused(spikemorph(*CONVERT[:2], *data, *out), "label 300000000 of sample 1")
    refused(spikemorph("inspect", "x" * 300 + ".onnx"), "too long")


def saved(path: Path, kind: int, *nodes: onnx.NodeProto) -> Path:
    weight = numpy_helper.from_array(np.ones((4, 2), np.float32), "w")
    number = numpy_helper.from_array(np.full((1,), 255, np.uint8), "n")
    graph = helper.make_graph(
        list(nodes),
        "net",
        [helper.make_tensor_value_info("x", kind, [1, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2])],
        [weight, number],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, path)
    return path


def test_whole_numbers_are_cast_before_they_are_computed_with(tmp_path: Path) -> None:
    cast = helper.make_node("Cast", ["d"], ["f"], name="cast", to=TensorProto.FLOAT)
    product = helper.make_node("MatMul", ["f", "w"], ["y"], name="product")
    divide = helper.make_node("Div", ["x", "n"], ["d"], name="divide")
    with pytest.raises(UnsupportedError, match="'divide'.*whole numbers"):
        read_onnx(saved(tmp_path / "bad.onnx", TensorProto.UINT8, divide, cast, product))
    turn = helper.make_node("Identity", ["x"], ["d"], name="turn")
    graph = read_onnx(saved(tmp_path / "good.onnx", TensorProto.UINT8, turn, cast, product))
    x = torch.tensor([[1.0, 2.0, 3.0, 4.0]])
    torch.testing.assert_close(run(graph, x), torch.tensor([[10.0, 10.0]]))


def test_every_name_that_is_listed_is_shown(spikemorph: Run, tmp_path: Path) -> None:
    assert spikemorph("zoo", "list")[0] == 0
    for name in ("onnx-mnist", "fashion_robust_90", "digits_mlp"):
        status, shown, _ = spikemorph("zoo", "show", name, "--json", tmp_path / "card.json")
        assert status == 0 and name in shown
        assert name in (tmp_path / "card.json").read_text()
    refused(spikemorph("zoo", "show", "nope"), "onnx-mnist", "fashion_robust_90", "digits_mlp")
