"""Sequences of several lengths in one array."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Values = NDArray[np.generic]


def single(values: NDArray[np.float64]) -> NDArray[np.float32]:
    """The numbers in single precision.

    Raises
    ------
    ValueError
        If one is too large for it.
    """
    with np.errstate(over="ignore"):
        found = values.astype(np.float32)
    if bool((np.isinf(found) & np.isfinite(values)).any()):
        raise ValueError("a number is too large")
    return found


def padded(sequences: Sequence[Values], most: int) -> tuple[Tensor, Tensor]:
    """Sequences (element, *features) as one tensor (sample, `most`, *features), zero past their ends.

    Also their lengths, which are `most` at most.
    """
    found = np.zeros((len(sequences), most, *sequences[0].shape[1:]), sequences[0].dtype)
    for place, sequence in zip(found, sequences, strict=True):
        place[: len(sequence)] = sequence
    return torch.from_numpy(found), torch.tensor([len(sequence) for sequence in sequences])
