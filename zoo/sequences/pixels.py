"""MNIST as sequences: pixel by pixel, in one permuted order, row by row."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from spikemorph.graph.errors import InputError

from ..data_card import Arrays, DataSet, Split
from ..mnist import MNIST
from .draws import Draws

_PIXELS, _ROWS = 784, 28
_SEED = 2026
_PERMUTATION = (
    "0430e50301944facc79d86746050ac6b4e8801dac9055be9f150f498165eb8d4"  # as int64, little-endian
)


def permutation() -> Tensor:
    """The order in which `mnist-permuted` shows pixels: element n is pixel ``permutation()[n]``.

    That is 0..783 sorted (stably) by the first 784 raw numbers of PCG64 with seed 2026.

    Raises
    ------
    InputError
        If it is not the one that is meant.
    """
    order = Draws(_SEED).order(_PIXELS)
    found = hashlib.sha256(order.astype("<i8").tobytes()).hexdigest()
    if found != _PERMUTATION:
        raise InputError(
            f"mnist-permuted: its permutation has sha256 {found}, not {_PERMUTATION}: this numpy "
            "draws other numbers; install another version"
        )
    return torch.from_numpy(order)


def _by_pixel(images: Tensor) -> Tensor:
    return images.reshape(-1, _PIXELS, 1)


def _by_permuted_pixel(images: Tensor) -> Tensor:
    return _by_pixel(images)[:, permutation()]


def _by_row(images: Tensor) -> Tensor:
    return images.reshape(-1, _ROWS, _ROWS)


def _read(split: Split, arrange: Callable[[Tensor], Tensor], folder: Path) -> Arrays:
    found = split.read(folder)
    return replace(found, x=arrange(found.x))


def _of_mnist(
    name: str, summary: str, shape: tuple[int, ...], arrange: Callable[[Tensor], Tensor]
) -> DataSet:
    """MNIST with its samples arranged as sequences: bytes, labels, splits and files are its own."""
    splits = {
        part: replace(split, read=partial(_read, split, arrange))
        for part, split in MNIST.splits.items()
    }
    return replace(MNIST, name=name, summary=summary, shape=shape, splits=splits)


MNIST_SEQUENCE = _of_mnist(
    "mnist-sequence", "MNIST pixel by pixel (S-MNIST)", (_PIXELS, 1), _by_pixel
)
MNIST_PERMUTED = _of_mnist(
    "mnist-permuted",
    "the same in one permuted order (PS-MNIST)",
    (_PIXELS, 1),
    _by_permuted_pixel,
)
MNIST_ROWS = _of_mnist("mnist-rows", "MNIST row by row", (_ROWS, _ROWS), _by_row)
