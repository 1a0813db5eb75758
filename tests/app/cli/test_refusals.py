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
    refused(spikemorph(*words), "digits:test", "never trained or calibrated on")
    assert not list(tmp_path.iterdir())


def test_places_are_looked_at_first(spikemorph: Run, tmp_path: Path) -> None:
    out = tmp_path / "o.safetensors"
    refused(spikemorph(*CONVERT, "--out", out, "--json", tmp_path / "no" / "j.json"), "j.json")
    assert not out.exists()
    refused(spikemorph(*CONVERT, "--out", tmp_path / "no" / "o.safetensors"), "no/o.safetensors")


def test_results_never_replace_what_is_read(spikemorph: Run, tmp_path: Path) -> None:
    model, data = tmp_path / "m.safetensors", tmp_path / "d.npz"
    prune = ["prune", "zoo:digits_mlp", "--sparsity", "0.5", "--out", model]
    assert spikemorph(*prune)[0] == 0
    np.savez(data, x=np.zeros((4, 1, 8, 8), np.uint8), y=np.arange(4))
    before = model.read_bytes(), data.read_bytes()
    again = ["prune", model, "--sparsity", "0.9", "--out"]
    refused(spikemorph(*again, model), "--out", "m.safetensors", "would replace")
    link = tmp_path / "link.safetensors"
    link.symlink_to(model)
    refused(spikemorph(*again, link), "link.safetensors", "would replace")
    refused(spikemorph(*again, tmp_path / "n.onnx"), "n.onnx", "ending .safetensors")
    refused(spikemorph(*again, tmp_path / "n"), "ending .safetensors")
    refused(spikemorph("inspect", model, "--json", model), "--json", "would replace")
    words = ["attack", model, "--data", data, "--eps", "0.1", "--json", data]
    refused(spikemorph(*words), "--json", "d.npz", "would replace")
    assert (model.read_bytes(), data.read_bytes()) == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["d.npz", link.name, model.name]


def test_what_is_no_spiking_network_is_told_so(spikemorph: Run, tmp_path: Path) -> None:
    data = ["--data", "digits:test:9"]
    for command in ("evaluate", "certify", "energy", "compare"):
        for name in ("digits_cnn", "onnx-mnist", "fashion_robust_90"):
            found = spikemorph(command, f"zoo:{name}", *data)
            refused(found, f"zoo:{name}: is a float network", "convert it first")
        refused(spikemorph(command, "zoo:nope", *data), "'nope'", "fashion_robust_99_snn")
        refused(spikemorph(command, tmp_path, *data), "is a folder")
    (tmp_path / "m.onnx").write_bytes(b"...")
    found = spikemorph("evaluate", tmp_path / "m.onnx", *data)
    refused(found, "m.onnx: is a model", "spikemorph convert")
    graph = tmp_path / "g.safetensors"
    assert spikemorph("prune", "zoo:digits_mlp", "--sparsity", "0.5", "--out", graph)[0] == 0
    refused(spikemorph("evaluate", graph, *data), "but graph, a float model: convert it first")
    timed = "zoo:fashion_robust_90_in_time"
    refused(spikemorph("certify", timed, *data), f"{timed}: this is not", "evaluate and attack")
    refused(spikemorph("inspect", tmp_path), "is a folder")
    refused(spikemorph("inspect", "zoo:nope"), "onnx-mnist", "fashion_robust_99")


def test_nobody_learns_from_test_samples(spikemorph: Run, tmp_path: Path) -> None:
    out = ["--out", tmp_path / "o.safetensors"]
    train = ["zoo:digits_mlp", "--data", "digits:train", *out]
    for command in (["prune", "--sparsity", "0.5"], ["finetune"]):
        words = [*command, "zoo:digits_mlp", "--data", "digits:test:90", *out]
        refused(spikemorph(*words), "digits:test:90", "give digits:train")
        words = [*command, *train, "--extra", "digits:test"]
        refused(spikemorph(*words), "digits:test", "never trained")


@pytest.mark.parametrize(
    ("road", "words", "owner"),
    [
        ("float", ["--levels", "4"], "quantisation-aware"),
        ("float", ["--leak", "0.5"], "through-time"),
        ("through-time", ["--weight-bits", "8"], "quantisation-aware"),
        ("quantisation-aware", ["--surrogate", "pcw 1"], "through-time"),
    ],
)
def test_options_of_another_road_are_not_ignored(
    spikemorph: Run, tmp_path: Path, road: str, words: list[str], owner: str
) -> None:
    out = ["--out", tmp_path / "o.safetensors", "--road", road]
    found = spikemorph("finetune", "zoo:digits_mlp", "--data", "digits:train:50", *out, *words)
    refused(found, words[0], f"belongs to --road {owner}", f"this is --road {road}")


def test_shapes_and_labels_that_are_almost_right(spikemorph: Run, tmp_path: Path) -> None:
    def told(x: np.ndarray, y: np.ndarray) -> tuple[int, str, str]:
        np.savez(tmp_path / "d.npz", x=x.astype(np.float32), y=y)
        return spikemorph("attack", "zoo:digits_mlp", "--data", tmp_path / "d.npz", "--eps", "0.1")

    labels = np.arange(10)
    refused(told(np.zeros((10, 8, 8, 1)), labels), "numpy.moveaxis(x, -1, 1)")
    refused(told(np.zeros((10, 8, 8)), labels), "x.reshape(-1, 1, 8, 8)")
    refused(told(np.zeros((10, 1, 9, 8)), labels), "the data set the model was made for")
    out = ["--out", tmp_path / "o.safetensors"]
    np.savez(tmp_path / "d.npz", x=np.zeros((10, 1, 8, 8), np.uint8), y=labels + 1)
    words = ["convert", "zoo:digits_mlp", "--data", tmp_path / "d.npz", *out]
    refused(spikemorph(*words), "label 10", "subtract one")


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
    refused(spikemorph(*CONVERT[:2], *data, *out), "label 300000000 is no class")
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
