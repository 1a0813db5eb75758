"""Whole ONNX files: how exporters write them, and what must be refused in them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper, version_converter

from spikemorph.convert import canonical, read_onnx
from spikemorph.graph import Graph, InputError, UnsupportedError, run
from spikemorph.zoo import fetch_network

DATA = Path(onnx.__file__).parent / "backend" / "test" / "data"
MATCHING = {"pytorch-converted": 68, "pytorch-operator": 6}
node = helper.make_node


def numbers(*shape: int) -> Any:
    return np.random.default_rng(shape).standard_normal(shape).astype(np.float32)


def ints(*values: int) -> Any:
    return np.array(values, dtype=np.int64)


def flatten_by_arithmetic(version: int) -> list[onnx.NodeProto]:
    """What exporters write for ``x.view(x.size(0), -1)``."""
    axes = [node("Unsqueeze", ["n"], ["n1"], axes=[0])]
    if version >= 13:
        axes = [
            node("Constant", [], ["zero"], value=numpy_helper.from_array(ints(0))),
            node("Unsqueeze", ["n", "zero"], ["n1"]),
        ]
    return [
        node("Shape", ["x"], ["s"], name="sizes"),
        node("Constant", [], ["first"], value=numpy_helper.from_array(np.array(0))),
        node("Gather", ["s", "first"], ["n"], axis=0),
        *axes,
        node("Constant", [], ["rest"], value=numpy_helper.from_array(ints(-1))),
        node("Concat", ["n1", "rest"], ["shape"], axis=0),
        node("Reshape", ["x", "shape"], ["y"]),
    ]


@pytest.mark.parametrize("version", [7, 11, 13, 21])
@pytest.mark.parametrize("batch", [2, "N", None])
def test_shape_arithmetic_is_folded(version: int, batch: Any, write_onnx: Any, agree: Any) -> None:
    path = write_onnx(flatten_by_arithmetic(version), (batch, 3, 4, 5), {}, version)
    graph = agree(path, (2, 3, 4, 5))
    assert [type(n.op).__name__ for n in graph.nodes] == ["Input", "Reshape"]


def test_part_of_a_shape_and_a_size(write_onnx: Any, agree: Any) -> None:
    nodes = [
        node("Shape", ["x"], ["s"], start=0, end=1),
        node("Size", ["w"], ["n"]),
        node("Reshape", ["n", "one"], ["n1"]),
        node("Concat", ["s", "n1"], ["shape"], axis=0),
        node("Reshape", ["x", "shape"], ["y"]),
    ]
    stored = {"w": numbers(3, 4), "one": ints(1)}
    agree(write_onnx(nodes, ("N", 3, 4), stored, 15), (2, 3, 4))


def test_a_network_that_computes_with_the_batch_size_is_refused(write_onnx: Any) -> None:
    nodes = [
        node("Shape", ["x"], ["s"]),
        node("Cast", ["s"], ["f"], to=1),
        node("Slice", ["f", "at", "end"], ["n"]),
        node("Mul", ["x", "n"], ["y"]),
    ]
    path = write_onnx(nodes, ("N", 3), {"at": ints(0), "end": ints(1)})
    with pytest.raises(InputError, match="batch size"):
        read_onnx(path)


@pytest.mark.parametrize("version", [7, 13])
def test_initialisers_may_be_listed_as_inputs(version: int, write_onnx: Any, agree: Any) -> None:
    nodes = [node("Conv", ["x", "w"], ["c"]), node("Relu", ["c"], ["y"])]
    stored = {"w": numbers(4, 3, 3, 3)}
    path = write_onnx(nodes, (2, 3, 6, 6), stored, version, weights_are_inputs=True)
    assert agree(path, (2, 3, 6, 6)).inputs == ("x",)


def test_a_file_as_cntk_writes_it(write_onnx: Any, agree: Any) -> None:
    """Weights reshaped in the file, automatic padding, a bias as a map, no softmax, spaces."""
    nodes = [
        node("Reshape", ["dense kernel", "kernel shape"], ["matrix"], name="reshape 1"),
        node("Conv", ["x", "w"], ["c"], name="Conv 1", auto_pad="SAME_UPPER", strides=[1, 1]),
        node("Add", ["c", "b"], ["p"], name="Plus 30"),
        node("Relu", ["p"], ["r"], name="ReLU 32"),
        node("MaxPool", ["r"], ["m"], name="Pooling 66", kernel_shape=[2, 2], strides=[2, 2],
             auto_pad="NOTSET", pads=[0, 0, 0, 0]),
        node("Reshape", ["m", "flat shape"], ["flat"], name="reshape 0"),
        node("MatMul", ["flat", "matrix"], ["times"], name="Times 212"),
        node("Add", ["times", "last"], ["y"], name="Plus 214"),
    ]  # fmt: skip
    stored = {
        "w": numbers(8, 1, 5, 5), "b": numbers(8, 1, 1), "dense kernel": numbers(8, 6, 6, 10),
        "kernel shape": ints(288, 10), "flat shape": ints(1, 288), "last": numbers(1, 10),
    }  # fmt: skip
    path = write_onnx(nodes, (1, 1, 12, 12), stored, 8, weights_are_inputs=True)
    graph = canonical(agree(path, (1, 1, 12, 12)))
    kinds = [type(n.op).__name__ for n in graph.nodes]
    assert kinds == ["Input", "Convolution", "ReLU", "MaxPool", "Reshape", "Linear"]


def test_weights_keep_their_precision(write_onnx: Any) -> None:
    """Doubles stay doubles; half precision is widened, which is exact."""
    double, half = numbers(4, 3).astype(np.float64) / 3, numbers(4, 3).astype(np.float16)
    for stored, kind in ((double, torch.float64), (half, torch.float32)):
        nodes = [node("Gemm", ["x", "w"], ["y"], transB=1)]
        weight: Any = read_onnx(write_onnx(nodes, (2, 3), {"w": stored})).nodes[1].op
        assert weight.weight.dtype == kind
        assert np.array_equal(weight.weight.numpy(), stored.astype(np.float64))


def test_local_functions_are_opened(write_onnx: Any, agree: Any) -> None:
    path = write_onnx([node("twice", ["x"], ["y"], domain="own")], (2, 3))
    model = onnx.load(path)
    sets = [helper.make_opsetid("", 13)]
    body = [node("Add", ["a", "a"], ["s"]), node("Relu", ["s"], ["b"])]
    model.functions.append(helper.make_function("own", "twice", ["a"], ["b"], body, sets))
    model.opset_import.append(helper.make_opsetid("own", 1))
    path.write_bytes(model.SerializeToString())
    agree(path, (2, 3))


REFUSED: dict[str, tuple[list[onnx.NodeProto], tuple[int, ...], dict[str, Any], int, str]] = {
    "old softmax over several axes": (
        [node("Softmax", ["x"], ["y"], axis=1)], (2, 3, 4), {}, 11, "axes 1 to 2 together"),
    "softmax over samples": ([node("Softmax", ["x"], ["y"], axis=0)], (2, 3), {}, 13, "samples"),
    "reshape across samples": (
        [node("Reshape", ["x", "s"], ["y"])], (2, 4), {"s": ints(4, 2)}, 13, "batch axis"),
    "concatenation of samples": (
        [node("Concat", ["x", "x"], ["y"], axis=0)], (2, 3), {}, 13, "concatenates samples"),
    "cast to integers": ([node("Cast", ["x"], ["y"], to=7)], (2, 3), {}, 13, "rounds"),
    "dropout in training": (
        [node("Dropout", ["x", "r", "t"], ["y"])], (2, 3),
        {"r": np.float32(0.5), "t": np.array(True)}, 13, "dropout is on"),
    "negative slope": ([node("LeakyRelu", ["x"], ["y"], alpha=-0.1)], (2, 3), {}, 13, "monotone"),
    "slope that is no number": (
        [node("LeakyRelu", ["x"], ["y"], alpha=float("nan"))], (2, 3), {}, 13, "nan"),
    "empty clip": ([node("Clip", ["x"], ["y"], min=1.0, max=1.0)], (2, 3), {}, 7, "empty range"),
    "variance below zero": (
        [node("BatchNormalization", ["x", "o", "z", "z", "v"], ["y"])], (2, 2),
        {"o": numbers(2), "z": numbers(2), "v": -np.ones(2, np.float32)}, 13, r"variance\[0\]"),
    "product of other axes": (
        [node("GlobalMaxPool", ["x"], ["m"]), node("Flatten", ["m"], ["f"]),
         node("Mul", ["x", "f"], ["y"])], (2, 3, 4), {}, 13, "shapes"),
    "quotient": ([node("Div", ["x", "x"], ["y"])], (2, 3), {}, 13, "by another"),
    "bias per sample": (
        [node("Gemm", ["x", "w", "b"], ["y"])], (2, 3), {"w": numbers(3, 2), "b": numbers(2, 1)},
        13, "differs between samples"),
    "constant per sample": (
        [node("Add", ["x", "c"], ["y"])], (2, 3), {"c": numbers(2, 1)}, 13, "between samples"),
    "constant that adds axes": (
        [node("Add", ["x", "c"], ["y"])], (2, 3), {"c": numbers(1, 1, 1, 1)}, 13, "adds axes"),
    "random constant": (
        [node("RandomNormal", [], ["c"], shape=[3]), node("Add", ["x", "c"], ["y"])],
        (2, 3), {}, 13, "random"),
    "window of padding only": (
        [node("MaxPool", ["x"], ["y"], kernel_shape=[2], pads=[2, 0])], (2, 3, 5), {}, 13,
        "nothing but padding"),
    "global pool of features": ([node("GlobalMaxPool", ["x"], ["y"])], (2, 3), {}, 13, "positions"),
    "reflection": (
        [node("Pad", ["x"], ["y"], pads=[0, 0, 1, 0, 0, 1], mode="reflect")], (2, 3, 4), {}, 7,
        "reflect"),
    "padding with ones": (
        [node("Pad", ["x"], ["y"], pads=[0, 0, 1, 0, 0, 1], value=1.0)], (2, 3, 4), {}, 7,
        "pads with 1"),
    "cropping": (
        [node("Conv", ["x", "w"], ["y"], pads=[-1, 0])], (2, 3, 9), {"w": numbers(2, 3, 3)}, 13,
        "crops"),
    "indices of a pool": (
        [node("MaxPool", ["x"], ["m", "i"], kernel_shape=[2]), node("Cast", ["i"], ["y"], to=1)],
        (2, 3, 4), {}, 13, "reads output 1"),
    "a value that is not made": ([node("Add", ["x", "ghost"], ["y"])], (2, 3), {}, 13, "'ghost'"),
    "a value made twice": (
        [node("Relu", ["x"], ["y"]), node("Tanh", ["x"], ["y"])], (2, 3), {}, 13, "made already"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_nothing_is_passed_through_silently(what: str, write_onnx: Any) -> None:
    """Each network is legal ONNX, or nearly, and computes what no op here computes."""
    nodes, shape, weights, version, reason = REFUSED[what]
    path = write_onnx(nodes, shape, weights, version)
    with pytest.raises(UnsupportedError, match=reason) as caught:
        read_onnx(path)
    assert all(problem.repair and problem.node for problem in caught.value.problems)


def test_every_node_that_cannot_be_taken_is_named(write_onnx: Any) -> None:
    nodes = [
        node("Elu", ["x"], ["a"], name="first"),
        node("Relu", ["a"], ["b"], name="fine"),
        node("Own", ["b"], ["c"], name="second", domain="own"),
        node("Softmax", ["x"], ["d"], name="third", axis=0),
        node("Erf", ["d"], ["e"]),
        node("Add", ["c", "e"], ["y"], name="fine too"),
    ]
    with pytest.raises(UnsupportedError) as caught:
        read_onnx(write_onnx(nodes, (2, 3)))
    assert [p.node for p in caught.value.problems] == ["first", "second", "third", "Erf_e"]
    assert [p.op for p in caught.value.problems] == ["Elu", "Own", "Softmax", "Erf"]


def first_tensor(path: Path) -> Any:
    item = onnx.TensorProto()
    item.ParseFromString(path.read_bytes())
    return numpy_helper.to_array(item).copy()


def refused_or_equal(folder: Path, copy: Path, error_of: Callable[..., float]) -> bool:
    """Whether the model in `folder` reads; then both its forms give the recorded output."""
    model = onnx.load(folder / "model.onnx")
    if model.opset_import[0].version < 7:  # what the reader's message tells the user to do
        model = version_converter.convert_version(model, 13)
    copy.write_bytes(model.SerializeToString())
    sample = folder / "test_data_set_0"
    try:
        graph = read_onnx(copy)
    except UnsupportedError as error:
        assert {p.op for p in error.problems} <= {n.op_type for n in model.graph.node}
        return False
    except InputError as error:
        several = len(model.graph.input) > len(model.graph.initializer) + 1
        assert "inputs" in str(error) if several else "sizes" in str(error)
        return False
    want = first_tensor(sample / "output_0.pb")
    for form in (graph, canonical(graph)):
        got = run(form, torch.from_numpy(first_tensor(sample / "input_0.pb")))
        assert error_of(got, want) <= 1e-5, folder.name
    return True


@pytest.mark.skipif(not DATA.is_dir(), reason="this onnx package has no test data")
@pytest.mark.parametrize("group", MATCHING)
def test_models_of_the_onnx_package_read_and_match_or_are_refused(
    group: str, tmp_path: Path, error_of: Any
) -> None:
    """Recorded outputs within 1e-5; as many models as today at least."""
    folders = [f for f in sorted((DATA / group).iterdir()) if (f / "model.onnx").is_file()]
    read = [f for f in folders if refused_or_equal(f, tmp_path / "model.onnx", error_of)]
    assert len(read) >= MATCHING[group]


LIGHT = {
    "shufflenet": True, "squeezenet": True, "densenet121": True, "inception_v2": True,
    "resnet50": True, "bvlc_alexnet": False, "inception_v1": False,
}  # fmt: skip
HEAVY = ("resnet50", "densenet121")  # gigabytes, or seconds


@pytest.mark.skipif(not DATA.is_dir(), reason="this onnx package has no test data")
@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow) if n in HEAVY else n for n in LIGHT]
)
def test_large_architectures_read_and_match(name: str, agree: Any) -> None:
    path = DATA / "light" / f"light_{name}.onnx"
    if LIGHT[name]:
        agree(path, (1, 3, 224, 224))
        return
    with pytest.raises(UnsupportedError, match="LRN") as caught:
        read_onnx(path)
    assert {problem.op for problem in caught.value.problems} == {"LRN"}


@pytest.mark.skipif(not DATA.is_dir(), reason="this onnx package has no test data")
@pytest.mark.parametrize("name", ["vgg19", "zfnet512"])
def test_a_small_file_that_computes_hundreds_of_megabytes_of_weights_is_refused(name: str) -> None:
    with pytest.raises(InputError, match=r"node .* \(ConstantOfShape\): its constant value takes"):
        read_onnx(DATA / "light" / f"light_{name}.onnx")


@pytest.mark.network
def test_a_network_that_others_trained_reads(agree: Any) -> None:
    """The CNTK export that the ONNX model collection ships."""
    try:
        path = fetch_network("onnx-mnist")
    except InputError as error:
        pytest.skip(str(error))
    graph: Graph = agree(path, (1, 1, 28, 28))
    assert "Convolution28" in graph
