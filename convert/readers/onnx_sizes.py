"""What an ONNX operator on constants costs, told from its inputs before it is computed."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx

Inputs = Sequence[Any]  # numpy arrays; None for what is left out

_ELEMENTWISE = """
    Abs Add And Ceil Clip Cos Div Equal Exp Floor Greater GreaterOrEqual HardSigmoid IsInf IsNaN
    LeakyRelu Less LessOrEqual Log Max Mean Min Mod Mul Neg Not Or Pow Reciprocal Relu Round Sigmoid
    Sign Sin Softplus Sqrt Sub Sum Tanh Where Xor DequantizeLinear
"""
_NO_LARGER = """
    ArgMax ArgMin Cast CastLike Concat Constant CumSum Dropout Flatten Identity LogSoftmax
    ReduceL1 ReduceL2 ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare Reshape
    Shape Size Slice Softmax Split Squeeze Transpose Trilu Unsqueeze
"""
_SLOW = 16  # the reference implementation of these goes through elements one by one


def cost(node: onnx.NodeProto, inputs: Inputs) -> int | None:
    """Elements that the node makes or products that it takes, at most; None if it is not computed.

    The list is of what may be computed, not of what may not: other operators are slow, or make
    more than their inputs tell.
    """
    row = _ROWS.get(node.op_type)
    return None if row is None else int(row(node, inputs))


def _count(shape: Sequence[int]) -> int:
    return math.prod(max(0, int(n)) for n in shape)


def _broadcast(node: onnx.NodeProto, inputs: Inputs) -> int:
    return _count(_together([item.shape for item in inputs if item is not None]))


def _together(shapes: Sequence[Sequence[int]]) -> list[int]:
    """The greatest sizes, from the last axis on; that of what broadcasts, and no less."""
    rank = max(map(len, shapes), default=0)
    wide = [[1] * (rank - len(shape)) + [int(n) for n in shape] for shape in shapes]
    return [max(sizes) for sizes in zip(*wide, strict=True)]


def _all_together(node: onnx.NodeProto, inputs: Inputs) -> int:
    stored = sum(item.ByteSize() for item in node.attribute)  # a Constant's value
    return stored + sum(int(item.size) for item in inputs if item is not None)


def _slow(row: Callable[[onnx.NodeProto, Inputs], int]) -> Callable[[onnx.NodeProto, Inputs], int]:
    return lambda node, inputs: _SLOW * row(node, inputs)


def _expand(node: onnx.NodeProto, inputs: Inputs) -> int:
    return 2 * _count(_together([inputs[0].shape, inputs[1].reshape(-1).tolist()]))  # ones beside


def _of_shape(node: onnx.NodeProto, inputs: Inputs) -> int:
    return _count(inputs[0].reshape(-1).tolist())


def _range(node: onnx.NodeProto, inputs: Inputs) -> int:
    start, limit, delta = (item.reshape(-1)[0].item() for item in inputs)
    return max(0, math.ceil((limit - start) / delta))


def _tile(node: onnx.NodeProto, inputs: Inputs) -> int:
    return int(inputs[0].size) * _count(inputs[1].reshape(-1).tolist())


def _gather(node: onnx.NodeProto, inputs: Inputs) -> int:
    axis = next((item.i for item in node.attribute if item.name == "axis"), 0)
    size = inputs[0].shape[axis]
    return int(inputs[0].size) // max(1, size) * int(inputs[1].size)


def _product(node: onnx.NodeProto, inputs: Inputs) -> int:
    left, right = (np.atleast_2d(item) for item in inputs[:2])
    rows = _count(_together([left.shape[:-2], right.shape[:-2]]))
    return rows * _count(left.shape[-2:]) * max(right.shape[-2:])


_ROWS: Mapping[str, Callable[[onnx.NodeProto, Inputs], int]] = {
    **dict.fromkeys(_ELEMENTWISE.split(), _broadcast),
    **dict.fromkeys(_NO_LARGER.split(), _all_together),
    "ConstantOfShape": _of_shape,
    "Erf": _slow(_broadcast),
    "Expand": _expand,
    "Gather": _gather,
    "GatherND": _slow(lambda node, inputs: inputs[0].size * max(1, inputs[1].size)),
    "Gemm": _product,
    "MatMul": _product,
    "NonZero": lambda node, inputs: inputs[0].size * max(1, inputs[0].ndim),
    "Range": _range,
    "ScatterND": _slow(_all_together),
    "Tile": _tile,
}
