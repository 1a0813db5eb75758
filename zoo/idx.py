"""Read the IDX files of the MNIST family."""

import gzip
import math
import zlib
from pathlib import Path
from typing import IO, cast

import numpy as np
import torch
from torch import Tensor

from spikemorph.graph.errors import InputError

from .data_card import Arrays
from .npz import UNFOLDS
from .reasons import reason

_AXES = 8  # at most: images have three


def read_idx(path: Path) -> Tensor:
    """An array of bytes, from a file that may be compressed.

    The file is two zero bytes, 8 (for bytes), the number of sizes, each size as a big-endian
    32-bit integer, then the elements.
    """
    try:
        with path.open("rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
        with gzip.open(path) if packed else path.open("rb") as stream:
            return _read(
                path, cast(IO[bytes], stream), path.stat().st_size * (UNFOLDS if packed else 1)
            )
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(
            f"{path}: cannot be read ({reason(error)}); delete it and fetch again"
        ) from error


def _read(path: Path, stream: IO[bytes], most: int) -> Tensor:
    """The array, of no more than `most` bytes: only what the header promises is unfolded."""
    magic = stream.read(4)
    sizes_read = stream.read(4 * magic[3]) if magic[:3] == b"\x00\x00\x08" and magic[3:] else b""
    if not sizes_read or len(sizes_read) != 4 * magic[3] or magic[3] > _AXES:
        raise InputError(f"{path}: not an IDX file of bytes; delete it and fetch again")
    sizes = tuple(int(size) for size in np.frombuffer(sizes_read, dtype=">u4"))
    promised = math.prod(sizes)
    if not promised:  # what else it says cannot be checked against what is there
        raise InputError(f"{path}: its header promises no element; delete it and fetch again")
    content = stream.read(min(promised, most) + 1)
    if len(content) != promised:
        more = "or more " if len(content) > promised else ""
        raise InputError(
            f"{path}: {len(content)} {more}elements where its header promises {promised}; delete it "
            "and fetch again"
        )
    return torch.from_numpy(np.frombuffer(content, np.uint8).copy()).reshape(sizes)


def read_idx_pair(images: str, labels: str, folder: Path) -> Arrays:
    """Grey images (sample, 1, row, column) and their labels."""
    return Arrays(read_idx(folder / images)[:, None], read_idx(folder / labels).to(torch.int64))
