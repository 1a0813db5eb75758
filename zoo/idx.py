"""Read the IDX files of the MNIST family."""

import gzip
import math
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from spikemorph.graph.errors import InputError

from .reasons import reason


def read_idx(path: Path) -> Tensor:
    """An array of bytes, from a file that may be compressed.

    The file is two zero bytes, 8 (for bytes), the number of sizes, each size as a big-endian
    32-bit integer, then the elements.
    """
    try:
        content = path.read_bytes()
        if content[:2] == b"\x1f\x8b":
            content = gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(
            f"{path}: cannot be read ({reason(error)}); delete it and fetch again"
        ) from error
    if content[:3] != b"\x00\x00\x08" or len(content) < 4 + 4 * content[3]:
        raise InputError(f"{path}: not an IDX file of bytes; delete it and fetch again")
    start = 4 + 4 * content[3]
    sizes = tuple(int(size) for size in np.frombuffer(content[4:start], dtype=">u4"))
    if len(content) - start != math.prod(sizes):
        raise InputError(
            f"{path}: {len(content) - start} elements where its header promises "
            f"{math.prod(sizes)}; delete it and fetch again"
        )
    return torch.from_numpy(np.frombuffer(content, np.uint8, offset=start).copy()).reshape(sizes)


def read_idx_pair(images: str, labels: str, folder: Path) -> tuple[Tensor, Tensor]:
    """Grey images (sample, 1, row, column) and their labels."""
    return read_idx(folder / images)[:, None], read_idx(folder / labels).to(torch.int64)
