"""Weights as matrices, as patterns see them: a row for every output, a column for every input."""

from torch import Tensor


def as_matrix(weight: Tensor) -> Tensor:
    """(out, inputs) of a linear layer; (out, kernel positions x inputs) of a convolution.

    Input channels are innermost, so that neighbouring columns are neighbouring channels.
    """
    return weight.movedim(1, -1).reshape(len(weight), -1)


def as_weight(matrix: Tensor, like: Tensor) -> Tensor:
    """The matrix of `as_matrix` in the shape of the weight it came from."""
    shape = like.movedim(1, -1).shape
    return matrix.reshape(shape).movedim(-1, 1).contiguous()
