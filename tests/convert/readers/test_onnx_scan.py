"""ONNX's Scan, read as a graph with registers, against ONNX Runtime."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from spikemorph.convert import read_onnx
from spikemorph.graph import InputError, UnsupportedError, run
from spikemorph.graph.graph import MOST_NODES
from spikemorph.layers.scan import Scan

BATCH, COUNT, WIDE, HIDDEN = 2, 6, 3, 4


def written(path: Path, **told: Any) -> Path:
    """A cell of two states whose weights lie outside its body, one of them behind a node."""
    draw = np.random.default_rng(0)
    first = told.pop("sizes", (BATCH, COUNT, WIDE))
    reads, starts = told.pop("reads", "x"), told.pop("starts", None)
    source, turn = told.pop("source", "x"), {"perm": told.pop("turn", (0, 1, 2))}
    kept = {
        "w": draw.normal(size=(WIDE, HIDDEN)),
        "turned": draw.normal(size=(HIDDEN, HIDDEN)),
        "h0": np.repeat(draw.normal(size=(1, HIDDEN)), BATCH, 0) if starts is None else starts,
        "c0": np.zeros((BATCH, HIDDEN)),
    }

    def value(name: str, shape: Any) -> Any:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    state = (BATCH, HIDDEN)
    body = helper.make_graph(
        [
            helper.make_node("MatMul", ["x_t", "w"], ["of_x"]),
            helper.make_node("MatMul", ["h", "u"], ["of_h"]),
            helper.make_node("Add", ["of_x", "of_h"], ["both"]),
            helper.make_node("Sub", ["both", "c"], ["sum"]),
            helper.make_node("Tanh", ["sum"], ["h_next"]),
            helper.make_node("Sigmoid", ["of_x" if reads == "x" else reads], ["c_next"]),
            helper.make_node("Identity", ["h_next"], ["y_t"]),
            helper.make_node("Relu", ["sum"], ["z_t"]),
        ],
        "cell",
        [value("h", state), value("c", state), value("x_t", (BATCH, WIDE))],
        [value(n, state) for n in ("h_next", "c_next", "y_t", "z_t")],
    )
    nodes = [
        helper.make_node("Transpose", ["turned"], ["u"], perm=[1, 0]),
        helper.make_node("Relu", ["x"], ["outside"]),
        helper.make_node("Transpose", ["x"], ["second"], perm=[1, 0, 2]),
        helper.make_node(
            "Scan", ["h0", "c0", source], ["h_end", "c_end", "y", "z"], name="cell",
            body=body, **{"num_scan_inputs": 1, **told},
        ),
        helper.make_node("Transpose", ["y"], ["y_turned"], **turn),
        helper.make_node("Flatten", ["y_turned"], ["flat"]),
    ]  # fmt: skip
    graph = helper.make_graph(
        nodes,
        "net",
        [value("x", first)],
        [
            value(name, None)
            for name in ("h_end", "c_end", "flat", "z")[: 3 if source == "second" else 4]
        ],
        [numpy_helper.from_array(v.astype(np.float32), n) for n, v in kept.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)
    return path


BOTH = {"scan_input_axes": [1], "scan_output_axes": [1, 1]}
SECOND = {"source": "second", "turn": (1, 0, 2)}  # elements first, samples second
BACK = {"scan_input_directions": [1], "scan_output_directions": [1, 1]}


@pytest.mark.parametrize(
    "told", [BOTH, {**BOTH, **BACK}, SECOND], ids=["forward", "backward", "second"]
)
def test_every_output_of_a_scan_is_that_of_onnx_runtime(told: Any, tmp_path: Path) -> None:
    path = written(tmp_path / "scan.onnx", **told)
    x = torch.rand(BATCH, COUNT, WIDE, generator=torch.Generator().manual_seed(1)) - 0.5
    graph = read_onnx(path)
    expected = onnxruntime.InferenceSession(path).run(None, {"x": x.numpy()})
    assert any(isinstance(node.op, Scan) for node in graph.nodes)
    for output, value in zip(graph.outputs, expected, strict=True):
        found = run(replace(graph, outputs=(output,)), x)
        assert np.allclose(found.numpy(), value, atol=1e-5)


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({**BOTH, "scan_input_directions": [1]}, "both directions"),
        ({}, "along the axis of samples"),
        ({**BOTH, "scan_output_axes": [2, 1]}, "gives elements out along axis 2"),
        ({"scan_input_axes": [2], "sizes": (BATCH, WIDE, COUNT)}, "scans along axis 2"),
        ({**BOTH, "reads": "outside"}, "what is computed outside"),
        ({**BOTH, "starts": np.eye(BATCH, HIDDEN)}, "differs between samples"),
        ({**BOTH, "starts": np.zeros((1, HIDDEN))}, "its first state has shape"),
        ({**BOTH, "num_scan_inputs": 0}, "does not fit what it reads"),
        ({**BOTH, "scan_output_axes": [1]}, "does not fit what it gives out"),
    ],
    ids=[
        "ways",
        "samples",
        "out axis",
        "in axis",
        "outside",
        "starts",
        "broadcast",
        "none",
        "axes",
    ],
)
def test_scans_that_are_not_taken_say_why(told: Any, words: str, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match=words):
        read_onnx(written(tmp_path / "scan.onnx", **told))


def _changed(path: Path, change: Any) -> Path:
    """The file with its scan and the body of it changed."""
    model = onnx.load(written(path, **BOTH))
    (scan,) = (node for node in model.graph.node if node.op_type == "Scan")
    change(scan, next(item.g for item in scan.attribute if item.HasField("g")))
    onnx.save(model, path)
    return path


@pytest.mark.parametrize(("nodes", "outputs"), [(300, 30), (10, 700)])
def test_outputs_times_nodes_of_a_body_are_bounded(
    nodes: int, outputs: int, tmp_path: Path
) -> None:
    def change(scan: Any, body: Any) -> None:
        body.node.extend(
            helper.make_node("Tanh", [f"r{k - 1}" if k else "z_t"], [f"r{k}"]) for k in range(nodes)
        )
        body.output[-1].name = f"r{nodes - 1}"
        body.output.extend([body.output[-1]] * outputs)
        scan.output.extend(f"more{k}" for k in range(outputs))
        for item in scan.attribute:
            if item.name == "scan_output_axes":
                item.ints.extend([1] * outputs)

    with pytest.raises(InputError, match=r"node 'cell' \(Scan\): another copy of its body"):
        read_onnx(_changed(tmp_path / "scan.onnx", change))


def test_bodies_are_counted_before_they_are_read(tmp_path: Path) -> None:
    def change(scan: Any, body: Any) -> None:
        body.node.extend([helper.make_node("Unheard", ["x_t"], ["r"])] * MOST_NODES)

    with pytest.raises(InputError, match=f"{MOST_NODES} are read at most"):
        read_onnx(_changed(tmp_path / "scan.onnx", change))


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("scan_input_axes", [2**40], "none of 3"),
        ("scan_output_axes", [1, -4], "none of 3"),
        ("scan_output_axes", "axes", "holds no whole numbers"),
        ("scan_input_directions", [1.5], "holds no whole numbers"),
        ("num_scan_inputs", "one", "does not fit what it reads"),
    ],
)
def test_damaged_words_about_a_scan_are_refused(
    name: str, value: Any, words: str, tmp_path: Path
) -> None:
    def change(scan: Any, body: Any) -> None:
        kept = [item for item in scan.attribute if item.name != name]
        del scan.attribute[:]
        scan.attribute.extend([*kept, helper.make_attribute(name, value)])

    with pytest.raises(UnsupportedError, match=words):
        read_onnx(_changed(tmp_path / "scan.onnx", change))


def test_a_loop_is_refused_with_a_repair(tmp_path: Path) -> None:
    path = written(tmp_path / "scan.onnx", **BOTH)
    model = onnx.load(path)
    (cell,) = (node for node in model.graph.node if node.op_type == "Scan")
    cell.op_type = "Loop"
    onnx.save(model, path)
    with pytest.raises(UnsupportedError, match="export it as Scan"):
        read_onnx(path)
