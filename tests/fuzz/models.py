"""Small ONNX models of many shapes, made here from an explicit generator."""

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

_SHAPE = (1, 4, 4)


def _weights(seed: int, **shapes: tuple[int, ...]) -> list[onnx.TensorProto]:
    rng = np.random.default_rng(seed)
    return [
        numpy_helper.from_array(rng.standard_normal(shape).astype(np.float32) / 2, name)
        for name, shape in shapes.items()
    ]


def _ints(name: str, *values: int) -> onnx.TensorProto:
    return numpy_helper.from_array(np.array(values, np.int64), name)


def _model(
    nodes: list[Any],
    weights: list[Any],
    batch: int | str = "n",
    shape: tuple[int, ...] = _SHAPE,
    **more: Any,
) -> bytes:
    entry = helper.make_tensor_value_info("x", TensorProto.FLOAT, (batch, *shape))
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, (batch, 3))
    graph = helper.make_graph(nodes, "net", [entry], [out], weights)
    sets = [helper.make_opsetid("", 17), *([helper.make_opsetid("own", 1)] if more else [])]
    model: onnx.ModelProto = helper.make_model(graph, opset_imports=sets, ir_version=8, **more)
    return model.SerializeToString()


def convolutional() -> bytes:
    """Convolution, batch norm, ReLU, pool, convolution, ReLU, average, linear."""
    weights = _weights(
        0, w1=(4, 1, 3, 3), b1=(4,), g=(4,), h=(4,), m=(4,), w2=(4, 4, 3, 3), w3=(4, 3), b3=(3,)
    )
    weights.append(numpy_helper.from_array(np.full(4, 0.5, np.float32), "v"))
    n = helper.make_node
    nodes = [
        n("Conv", ["x", "w1", "b1"], ["a"], "conv1", pads=[1, 1, 1, 1], kernel_shape=[3, 3]),
        n("BatchNormalization", ["a", "g", "h", "m", "v"], ["b"], "norm1", epsilon=1e-5),
        n("Relu", ["b"], ["c"], "relu1"),
        n("MaxPool", ["c"], ["d"], "pool1", kernel_shape=[2, 2], strides=[2, 2]),
        n("Conv", ["d", "w2"], ["e"], "conv2", pads=[1, 1, 1, 1], group=1),
        n("Relu", ["e"], ["f"], "relu2"),
        n("GlobalAveragePool", ["f"], ["k"], "average"),
        n("Flatten", ["k"], ["l"], "flatten", axis=1),
        n("Gemm", ["l", "w3", "b3"], ["y"], "head", alpha=1.0, beta=1.0),
    ]
    return _model(nodes, weights)


def recurrent() -> bytes:
    """A GRU along six elements of three numbers, and a read-out of its last state."""
    weights = _weights(5, w=(1, 12, 3), r=(1, 12, 4), b=(1, 24), w3=(4, 3))
    weights.append(_ints("axes", 0))
    n = helper.make_node
    nodes = [
        n("Transpose", ["x"], ["t"], "turned", perm=[1, 0, 2]),
        n("GRU", ["t", "w", "r", "b"], ["", "h"], "gru", hidden_size=4, linear_before_reset=1),
        n("Squeeze", ["h", "axes"], ["s"], "last"),
        n("MatMul", ["s", "w3"], ["y"], "head"),
    ]
    return _model(nodes, weights, shape=(6, 3))


def scanned() -> bytes:
    """A Scan of two states along six elements, and a read-out of where both end."""
    n, info = helper.make_node, helper.make_tensor_value_info
    state, kind = (2, 4), TensorProto.FLOAT
    body = helper.make_graph(
        [
            n("MatMul", ["x_t", "w"], ["of_x"], "of_x"),
            n("Gemm", ["h", "u", "b"], ["of_h"], "of_h"),
            n("Add", ["of_x", "of_h"], ["both"], "both"),
            n("Sub", ["both", "c"], ["sum"], "sum"),
            n("Tanh", ["sum"], ["h_next"], "bend"),
            n("Sigmoid", ["sum"], ["c_next"], "squash"),
            n("Identity", ["h_next"], ["y_t"], "shown"),
        ],
        "cell",
        [info("h", kind, state), info("c", kind, state), info("x_t", kind, (2, 3))],
        [info(name, kind, state) for name in ("h_next", "c_next", "y_t")],
        _weights(7, b=(4,)),
    )
    weights = _weights(6, w=(3, 4), u=(4, 4), w3=(8, 3))
    start = np.zeros(state, np.float32)
    weights += [numpy_helper.from_array(start, name) for name in ("h0", "c0")]
    told = {"num_scan_inputs": 1, "scan_input_axes": [1], "scan_output_axes": [1]}
    told |= {"scan_input_directions": [0], "scan_output_directions": [0]}
    nodes = [
        n("Scan", ["h0", "c0", "x"], ["h_end", "c_end", "all"], "cell", body=body, **told),
        n("Concat", ["h_end", "c_end"], ["f"], "both", axis=1),
        n("MatMul", ["f", "w3"], ["y"], "head"),
    ]
    return _model(nodes, weights, 2, (6, 3))


def joined() -> bytes:
    """A residual sum, a concatenation, pads, shapes that are computed, a softmax."""
    weights = _weights(1, w1=(2, 1, 1, 1), w2=(2, 2, 3, 3), w3=(16, 3), b3=(3,))
    weights += [_ints("shape", 0, -1), _ints("pads", 0, 0, 1, 1, 0, 0, 1, 1)]
    n = helper.make_node
    nodes = [
        n("Conv", ["x", "w1"], ["a"], "conv1"),
        n("LeakyRelu", ["a"], ["b"], "act1", alpha=0.125),
        n("Pad", ["b", "pads"], ["c"], "pad", mode="constant"),
        n("Conv", ["c", "w2"], ["d"], "conv2"),
        n("Add", ["b", "d"], ["e"], "sum"),
        n("Relu", ["e"], ["f"], "act2"),
        n("Concat", ["f", "b"], ["g"], "both", axis=1),
        n("AveragePool", ["g"], ["h"], "pool", kernel_shape=[2, 2], strides=[2, 2]),
        n("Reshape", ["h", "shape"], ["i"], "flat"),
        n("MatMul", ["i", "w3"], ["j"], "head"),
        n("Add", ["j", "b3"], ["k"], "bias"),
        n("Softmax", ["k"], ["y"], "softmax", axis=1),
    ]
    return _model(nodes, weights, batch=1)


def computed() -> bytes:
    """Constants that are made by nodes, and functions of the file's own."""
    n = helper.make_node
    twice = helper.make_function(
        "own", "Twice", ["a"], ["b"], [n("Add", ["a", "a"], ["t"]), n("Identity", ["t"], ["b"])],
        [helper.make_opsetid("", 17)],
    )  # fmt: skip
    often = helper.make_function(
        "own", "Often", ["a"], ["b"],
        [n("Twice", ["a"], ["t"], domain="own"), n("Twice", ["t"], ["b"], domain="own")],
        [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)],
    )  # fmt: skip
    weights = _weights(2, w=(16, 3)) + [_ints("two", 2), _ints("ends", 16, 3)]
    nodes = [
        n("ConstantOfShape", ["ends"], ["zeros"], "zeros"),
        n("Range", ["start", "stop", "step"], ["range"], "range"),
        n("Cast", ["range"], ["bias"], "cast", to=1),
        n("Expand", ["bias", "ends"], ["wide"], "wide"),
        n("Mul", ["wide", "zeros"], ["none"], "none"),
        n("Add", ["w", "none"], ["weight"], "weight"),
        n("Often", ["weight"], ["weight4"], "often", domain="own"),
        n("Shape", ["x"], ["size"], "size"),
        n("Gather", ["size", "zero"], ["first"], "first", axis=0),
        n("Concat", ["first", "rest"], ["target"], "target", axis=0),
        n("Reshape", ["x", "target"], ["flat"], "flat"),
        n("MatMul", ["flat", "weight4"], ["sum"], "head"),
        n("Clip", ["sum", "low", "high"], ["y"], "clip"),
    ]
    scalars = {"start": 0, "stop": 3, "step": 1}
    weights += [numpy_helper.from_array(np.array(v, np.int64), k) for k, v in scalars.items()]
    weights += [_ints("zero", 0), _ints("rest", -1)]
    weights += [
        numpy_helper.from_array(np.array(v, np.float32), k) for k, v in (("low", 0), ("high", 6))
    ]
    return _model(nodes, weights, functions=[twice, often])


def outside() -> dict[str, bytes]:
    """A model whose weights lie in a file beside it."""
    weights = _weights(3, w=(16, 4), v=(4, 3))
    content = b"".join(item.raw_data for item in weights)
    place = 0
    for item in weights:
        size = len(item.raw_data)
        facts = {"location": "weights.bin", "offset": str(place), "length": str(size)}
        item.external_data.extend(
            onnx.StringStringEntryProto(key=k, value=v) for k, v in facts.items()
        )
        item.data_location = TensorProto.EXTERNAL
        item.ClearField("raw_data")
        place += size
    n = helper.make_node
    nodes = [
        n("Flatten", ["x"], ["a"], "flat"),
        n("MatMul", ["a", "w"], ["b"], "first"),
        n("Relu", ["b"], ["c"], "relu"),
        n("MatMul", ["c", "v"], ["y"], "second"),
    ]
    return {"m.onnx": _model(nodes, weights), "weights.bin": content}
