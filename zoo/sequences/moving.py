"""Moving digits: videos in which a digit of MNIST moves for a while over a still background."""

from functools import partial
from pathlib import Path

import numpy as np
import torch

from ..data_card import Arrays, DataSet, Split
from ..mnist import MNIST
from .draws import Draws, Whole

_FRAMES, _SIDE, _DIGIT = 20, 48, 28
_FASTEST = 2  # pixels a frame, along each axis
_BLOCK, _DARK = 8, 64  # the background: blocks of so many pixels a side, each darker than this
_SEEDS = {"train": 1, "validation": 2, "test": 3}


def _read(name: str, part: str, first: int, count: int, folder: Path) -> Arrays:
    """Videos (sample, 20, 1, 48, 48) of `count` digits of a part of MNIST, and which digits these are."""
    found = MNIST.splits[part].read(folder)
    chosen = slice(first, first + count)
    draw = Draws(2026, _SEEDS[name])
    places = _paths(draw, count)
    blocks = draw.below(_DARK, count, _SIDE // _BLOCK, _SIDE // _BLOCK).astype(np.uint8)
    backgrounds = blocks.repeat(_BLOCK, 1).repeat(_BLOCK, 2)
    x = np.repeat(backgrounds[:, None], _FRAMES, 1)
    for video, digit, path in zip(x, found.x[chosen, 0].numpy(), places, strict=True):
        for frame, (row, column) in zip(video, path, strict=True):
            under = frame[row : row + _DIGIT, column : column + _DIGIT]
            np.maximum(under, digit, out=under)
    return Arrays(torch.from_numpy(x[:, :, None]), found.y[chosen])


def _paths(draw: Draws, count: int) -> Whole:
    """Where each digit's corner is (sample, frame, 2): it stands, moves straight, and stands again.

    At the border it turns back.
    """
    room = _SIDE - _DIGIT
    start = draw.below(room + 1, count, 1, 2)
    speed = draw.between(-_FASTEST, _FASTEST, count, 1, 2)
    first = draw.below(_FRAMES // 2, count, 1, 1)
    moves = draw.between(1, _FRAMES // 2, count, 1, 1)
    moved = np.clip(np.arange(_FRAMES)[None, :, None] - first, 0, moves)
    return room - np.abs(room - (start + speed * moved) % (2 * room))


MOVING_DIGITS = DataSet(
    name="moving-digits",
    summary="videos: a digit moves for a while over a still background",
    shape=(_FRAMES, 1, _SIDE, _SIDE),
    classes=MNIST.classes,
    licence=MNIST.licence,
    citation=f"{MNIST.citation}; videos made here",
    splits={
        "train": Split(2000, partial(_read, "train", "train", 0, 2000)),
        "validation": Split(500, partial(_read, "validation", "train", 2000, 500)),
        "test": Split(500, partial(_read, "test", "test", 0, 500), tests=True),
    },
    download=MNIST.download,
)
