"""ONNX files are read as ONNX Runtime runs them, in every spelling from operator set 7 on."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from spikemorph.graph.tables import reads_onnx

NEWEST = onnx.defs.onnx_opset_version()
DATA = Path(onnx.__file__).parent / "backend" / "test" / "data"
node = helper.make_node
Case = tuple[list[onnx.NodeProto], tuple[int, ...], dict[str, Any]]


def numbers(*shape: int) -> Any:
    return np.random.default_rng(shape).standard_normal(shape).astype(np.float32)


def ints(*values: int) -> Any:
    return np.array(values, dtype=np.int64)


def conv(
    shape: tuple[int, ...], weight: tuple[int, ...], bias: bool = True, **options: Any
) -> Case:
    inputs = ["x", "w", "b"] if bias else ["x", "w"]
    stored = {"w": numbers(*weight), "b": numbers(weight[0])}
    return [node("Conv", inputs, ["y"], **options)], shape, {k: stored[k] for k in inputs[1:]}


def convolutions(version: int) -> Iterator[Case]:
    yield conv((2, 4, 9), (6, 2, 3), group=2, strides=[2], pads=[2, 0])
    yield conv((2, 3, 9, 8), (4, 3, 3, 2), dilations=[2, 1], pads=[1, 0, 2, 1])
    yield conv((2, 4, 8, 8), (4, 1, 3, 3), bias=False, group=4, pads=[1, 1, 1, 1])
    yield conv((1, 2, 5, 6, 7), (3, 2, 2, 3, 2), strides=[1, 2, 1], pads=[0, 1, 0, 1, 1, 1])
    for auto in ("SAME_UPPER", "SAME_LOWER", "VALID"):
        yield conv((2, 3, 9, 8), (4, 3, 4, 3), auto_pad=auto, strides=[2, 3])


def gemms(version: int) -> Iterator[Case]:
    for transposed, bias in ((0, (4,)), (1, (1, 4)), (1, (1,))):
        stored = {"w": numbers(*((4, 5) if transposed else (5, 4))), "b": numbers(*bias)}
        options = {"transB": transposed, "alpha": 0.5, "beta": 2.0}
        yield [node("Gemm", ["x", "w", "b"], ["y"], **options)], (3, 5), stored
    if version >= 11:
        yield [node("Gemm", ["x", "w"], ["y"])], (3, 5), {"w": numbers(5, 4)}


def products(version: int) -> Iterator[Case]:
    yield [node("MatMul", ["x", "w"], ["y"])], (3, 5), {"w": numbers(5, 4)}
    yield [node("MatMul", ["x", "w"], ["y"])], (3, 2, 5), {"w": numbers(5, 4)}


def norms(version: int) -> Iterator[Case]:
    stored = {"g": numbers(3), "s": numbers(3), "m": numbers(3), "v": numbers(3) ** 2}
    for shape in ((2, 3), (2, 3, 5, 4), (2, 3, 4, 3, 2)):
        yield [node("BatchNormalization", ["x", *stored], ["y"], epsilon=1e-3)], shape, stored


def plain(op: str) -> Callable[[int], Iterator[Case]]:
    def cases(version: int) -> Iterator[Case]:
        yield [node(op, ["x"], ["y"])], (2, 3, 6, 5), {}

    return cases


def clips(version: int) -> Iterator[Case]:
    if version < 11:
        for options in ({"min": 0.0, "max": 6.0}, {"min": -0.5}, {"max": 0.25}):
            yield [node("Clip", ["x"], ["y"], **options)], (2, 9), {}
        return
    ends = {"low": np.float32(-0.5), "high": np.float32(0.75)}
    yield [node("Clip", ["x", "low", "high"], ["y"])], (2, 9), ends
    yield [node("Clip", ["x", "", "high"], ["y"])], (2, 9), {"high": ends["high"]}
    yield [node("Clip", ["x", "low"], ["y"])], (2, 9), {"low": np.float32(0)}


def leaky(version: int) -> Iterator[Case]:
    for slope in (0.0, 0.01, 0.3):
        yield [node("LeakyRelu", ["x"], ["y"], alpha=slope)], (2, 9), {}


def prelus(version: int) -> Iterator[Case]:
    yield [node("PRelu", ["x", "a"], ["y"])], (2, 3, 4), {"a": np.full((3, 1), 0.25, np.float32)}


def hard_sigmoids(version: int) -> Iterator[Case]:
    yield [node("HardSigmoid", ["x"], ["y"], alpha=1 / 6, beta=0.5)], (2, 9), {}
    yield [node("HardSigmoid", ["x"], ["y"])], (2, 9), {}


def bounds(op: str) -> Callable[[int], Iterator[Case]]:
    def cases(version: int) -> Iterator[Case]:
        if version >= 8:  # before, both had one shape
            yield [node(op, ["c", "x"], ["y"])], (2, 9), {"c": np.array([0.2], np.float32)}

    return cases


def pools(op: str) -> Callable[[int], Iterator[Case]]:
    def cases(version: int) -> Iterator[Case]:
        options: list[tuple[tuple[int, ...], dict[str, Any]]] = [
            ((2, 3, 9), {"kernel_shape": [3], "strides": [2], "pads": [1, 0]}),
            ((2, 3, 8, 7), {"kernel_shape": [3, 2], "pads": [0, 1, 2, 0]}),
            ((1, 2, 6, 5, 4), {"kernel_shape": [2, 3, 2], "strides": [2, 1, 2]}),
            ((2, 3, 8, 7), {"kernel_shape": [3, 2], "strides": [2, 2], "auto_pad": "SAME_UPPER"}),
            ((2, 3, 8, 7), {"kernel_shape": [3, 2], "strides": [2, 2], "auto_pad": "SAME_LOWER"}),
        ]
        ceil = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1], "ceil_mode": 1}
        if version >= 10:
            options += [((2, 3, 8, 7), ceil), ((2, 3, 6, 9), ceil)]
        if op == "MaxPool" and version >= 10:
            options += [((2, 3, 9, 9), {"kernel_shape": [2, 3], "dilations": [3, 2]})]
        if op == "AveragePool":
            counted = {"count_include_pad": 1}
            options += [(shape, {**o, **counted}) for shape, o in options if "pads" in o]
        for shape, chosen in options:
            yield [node(op, ["x"], ["y"], **chosen)], shape, {}

    return cases


def reductions(op: str, until: int) -> Callable[[int], Iterator[Case]]:
    """Axes are an attribute up to operator set `until`, an input from there on."""

    def cases(version: int) -> Iterator[Case]:
        for axes, keep in ((ints(2, 3), 1), (ints(-1, 2), 0)):
            if version < until:
                made = node(op, ["x"], ["y"], axes=axes.tolist(), keepdims=keep)
                yield [made], (2, 3, 4, 5), {}
            else:
                yield [node(op, ["x", "a"], ["y"], keepdims=keep)], (2, 3, 4, 5), {"a": axes}

    return cases


def binary(op: str) -> Callable[[int], Iterator[Case]]:
    def cases(version: int) -> Iterator[Case]:
        for shape in ((), (1,), (3, 1, 1), (1, 3, 4, 5), (5,)):
            stored = {"c": 1.5 + abs(numbers(*shape))}
            yield [node(op, ["x", "c"], ["y"])], (2, 3, 4, 5), stored
            if op != "Div":
                yield [node(op, ["c", "x"], ["y"])], (2, 3, 4, 5), stored
        if op != "Div":
            yield [node("Tanh", ["x"], ["t"]), node(op, ["x", "t"], ["y"])], (2, 3, 4), {}
        if op == "Mul":
            mean = node("GlobalAveragePool", ["x"], ["m"])
            yield [mean, node(op, ["m", "x"], ["y"])], (2, 3, 4, 5), {}
            yield [node(op, ["x", "x"], ["y"])], (2, 3), {}

    return cases


def sums(version: int) -> Iterator[Case]:
    yield [node("Tanh", ["x"], ["t"]), node("Sum", ["x", "t", "x"], ["y"])], (2, 3, 4), {}


def concats(version: int) -> Iterator[Case]:
    for axis in (1, 2) if version < 11 else (1, -1):
        made = [node("Relu", ["x"], ["r"]), node("Concat", ["x", "r"], ["y"], axis=axis)]
        yield made, (2, 3, 4), {}


def flattens(version: int) -> Iterator[Case]:
    yield [node("Flatten", ["x"], ["y"])], (2, 3, 4, 5), {}
    if version >= 11:
        yield [node("Flatten", ["x"], ["y"], axis=-3)], (2, 3, 4, 5), {}


def reshapes(version: int) -> Iterator[Case]:
    for wish in (ints(2, 12, -1), ints(0, 0, 20), ints(0, -1)):
        yield [node("Reshape", ["x", "s"], ["y"])], (2, 3, 4, 5), {"s": wish}


def squeezes(op: str, shape: tuple[int, ...], axes: Any) -> Callable[[int], Iterator[Case]]:
    def cases(version: int) -> Iterator[Case]:
        if version < 13:
            yield [node(op, ["x"], ["y"], axes=axes.tolist())], shape, {}
        else:
            yield [node(op, ["x", "a"], ["y"])], shape, {"a": axes}

    return cases


def transposes(version: int) -> Iterator[Case]:
    yield [node("Transpose", ["x"], ["y"], perm=[0, 2, 3, 1])], (2, 3, 4, 5), {}


def paddings(version: int) -> Iterator[Case]:
    pads = [0, 0, 1, 2, 0, 1, 0, 3]
    if version < 11:
        yield [node("Pad", ["x"], ["y"], pads=pads)], (2, 3, 4, 5), {}
        return
    yield [node("Pad", ["x", "p"], ["y"])], (2, 3, 4, 5), {"p": ints(*pads)}
    zero = np.float32(0)
    yield [node("Pad", ["x", "p", "v"], ["y"])], (2, 3, 4, 5), {"p": ints(*pads), "v": zero}
    if version >= 18:
        stored = {"p": ints(1, 2, 0, 3), "a": ints(-1, 2)}
        yield [node("Pad", ["x", "p", "", "a"], ["y"])], (2, 3, 4, 5), stored


def dropouts(version: int) -> Iterator[Case]:
    if version < 12:
        yield [node("Dropout", ["x"], ["y"], ratio=0.4)], (2, 9), {}
    else:
        stored = {"r": np.float32(0.4), "t": np.array(False)}
        yield [node("Dropout", ["x", "r", "t"], ["y", ""])], (2, 9), stored


def casts(version: int) -> Iterator[Case]:
    yield [node("Cast", ["x"], ["d"], to=11), node("Cast", ["d"], ["y"], to=1)], (2, 9), {}


def softmaxes(op: str) -> Callable[[int], Iterator[Case]]:
    def cases(version: int) -> Iterator[Case]:
        yield [node(op, ["x"], ["y"])], (3, 7), {}
        yield [node(op, ["x"], ["y"], axis=1)], (3, 7, 1, 1), {}
        yield [node(op, ["x"], ["y"], axis=2)], (3, 7, 5), {}
        if version >= 13:
            yield [node(op, ["x"], ["y"], axis=1)], (3, 7, 5), {}

    return cases


def splits(version: int) -> Iterator[Case]:
    join = node("Concat", ["c", "a", "b"], ["y"], axis=1)
    attribute, entry = ({"split": [1, 2, 3]}, []) if version < 13 else ({}, ["n"])
    stored = {"n": ints(1, 2, 3)} if entry else {}
    yield [node("Split", ["x", *entry], ["a", "b", "c"], axis=1, **attribute), join], (2, 6), stored
    even = {"num_outputs": 3} if version >= 18 else {}
    yield [node("Split", ["x"], ["a", "b", "c"], axis=1, **even), join], (2, 6, 4), {}
    if version >= 18:
        yield [node("Split", ["x"], ["a", "b", "c"], axis=1, **even), join], (2, 7), {}


def slices(version: int) -> Iterator[Case]:
    whole = 2**31 - 1
    for starts, ends, axes in (
        (ints(1, -3), ints(3, whole), ints(1, 2)),
        (ints(0, 1), ints(whole, -1), ints(0, 2)),
    ):
        if version < 10:
            options = {"starts": starts, "ends": ends, "axes": axes}
            yield [node("Slice", ["x"], ["y"], **options)], (2, 4, 5), {}
        else:
            stored = {"s": starts, "e": ends, "a": axes, "n": ints(1, 1)}
            yield [node("Slice", ["x", *stored], ["y"])], (2, 4, 5), stored


def gathers(version: int) -> Iterator[Case]:
    for axis, index in ((1, -1), (2, np.array(0)), (-1, ints(2))):
        yield [node("Gather", ["x", "i"], ["y"], axis=axis)], (2, 4, 5), {"i": np.array(index)}


def recurrent(op: str, gates: int) -> Callable[[int], Iterator[Case]]:
    """All directions, with and without biases and initial states; samples on the second axis inside."""

    def cases(version: int) -> Iterator[Case]:
        for direction, ways in (("forward", 1), ("reverse", 1), ("bidirectional", 2)):
            stored = {"w": numbers(ways, gates * 3, 4), "r": numbers(ways, gates * 3, 3)}
            options: dict[str, Any] = {"hidden_size": 3, "direction": direction}
            enter = node("Transpose", ["x"], ["t"], perm=[1, 0, 2])
            ahead = node("Transpose", ["s"], ["y"], perm=[2, 0, 1, 3])
            yield [enter, node(op, ["t", "w", "r"], ["s"], **options), ahead], (2, 5, 4), stored
            stored |= {"b": numbers(ways, gates * 6), "h": start(ways)}
            given = ["t", "w", "r", "b", "", "h"]
            if op == "LSTM":
                stored["c"] = start(ways) / 2
                given.append("c")
            if op == "GRU":
                options["linear_before_reset"] = 1
            if op == "RNN":
                options["activations"] = ["Relu"] * ways
            last = node("Transpose", ["l"], ["y"], perm=[1, 0, 2])
            yield [enter, node(op, given, ["", "l"], **options), last], (2, 5, 4), stored

    return cases


def start(ways: int) -> Any:
    """The same initial state for two samples."""
    return np.repeat(numbers(ways, 1, 3), 2, axis=1)


CASES: dict[str, Callable[[int], Iterator[Case]]] = {
    "Conv": convolutions,
    "Gemm": gemms,
    "MatMul": products,
    "BatchNormalization": norms,
    "Relu": plain("Relu"),
    "Sigmoid": plain("Sigmoid"),
    "Tanh": plain("Tanh"),
    "Clip": clips,
    "LeakyRelu": leaky,
    "PRelu": prelus,
    "HardSigmoid": hard_sigmoids,
    "Min": bounds("Min"),
    "Max": bounds("Max"),
    "MaxPool": pools("MaxPool"),
    "AveragePool": pools("AveragePool"),
    "GlobalAveragePool": plain("GlobalAveragePool"),
    "GlobalMaxPool": plain("GlobalMaxPool"),
    "ReduceMean": reductions("ReduceMean", 18),
    "ReduceMax": reductions("ReduceMax", 18),
    "Add": binary("Add"),
    "Sub": binary("Sub"),
    "Mul": binary("Mul"),
    "Div": binary("Div"),
    "Neg": plain("Neg"),
    "Sum": sums,
    "Concat": concats,
    "Flatten": flattens,
    "Reshape": reshapes,
    "Squeeze": squeezes("Squeeze", (2, 1, 4, 1), ints(1, 3)),
    "Unsqueeze": squeezes("Unsqueeze", (2, 3), ints(1, 3)),
    "Transpose": transposes,
    "Pad": paddings,
    "Identity": plain("Identity"),
    "Dropout": dropouts,
    "Cast": casts,
    "Softmax": softmaxes("Softmax"),
    "LogSoftmax": softmaxes("LogSoftmax"),
    "Split": splits,
    "Slice": slices,
    "Gather": gathers,
    "RNN": recurrent("RNN", 1),
    "GRU": recurrent("GRU", 3),
    "LSTM": recurrent("LSTM", 4),
}


def spellings(op: str) -> set[int]:
    """The operator sets from 7 on in which the operator's definition changed, and the newest."""
    known = {s.since_version for s in onnx.defs.get_all_schemas_with_history() if s.name == op}
    return {max(7, version) for version in known} | {NEWEST}


def test_every_row_is_compared() -> None:
    assert set(CASES) == set(reads_onnx)


@pytest.mark.parametrize("op", CASES)
def test_row_computes_what_onnxruntime_does(op: str, write_onnx: Any, agree: Any) -> None:
    """Within 1e-5, as read and in canonical form, in each operator set that changed the spelling."""
    for version in spellings(op):
        for nodes, shape, weights in CASES[op](version):
            agree(write_onnx(nodes, shape, weights, version), shape)
