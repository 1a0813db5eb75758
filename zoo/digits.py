"""The handwritten digits that come inside scikit-learn, split for good."""

import importlib.util
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from spikemorph.graph.errors import InputError

from .data_card import Arrays, DataSet, Split
from .reasons import reason

_SEED = 0  # of the split


def read_digits() -> tuple[Tensor, Tensor]:
    """All 1797 images (sample, 1, 8, 8) as bytes, and their labels.

    Stored are the levels 0..16; a byte is round(255 level / 16). The file is read without
    importing scikit-learn, which would take longer than everything else.
    """
    found = importlib.util.find_spec("sklearn")
    if found is None or found.origin is None:
        raise InputError("digits: scikit-learn is not installed; pip install scikit-learn")
    path = Path(found.origin).parent / "datasets" / "data" / "digits.csv.gz"
    try:
        table = np.loadtxt(path, delimiter=",")
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path}: cannot be read ({reason(error)}); reinstall scikit-learn"
        ) from error
    pixels = np.rint(table[:, :64] * 255 / 16).astype(np.uint8)
    labels = table[:, 64].astype(np.int64)
    return torch.from_numpy(pixels).reshape(-1, 1, 8, 8), torch.from_numpy(labels)


def _read_split(split: str, folder: Path) -> Arrays:
    """Every fifth sample of each class, in drawn order, is test; the others are train."""
    x, y = read_digits()
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(_SEED))
    by_class = order[torch.argsort(y[order], stable=True)]
    is_test = torch.zeros(len(y), dtype=torch.bool)
    is_test[by_class[::5]] = True
    chosen = order[is_test[order] if split == "test" else ~is_test[order]]
    return Arrays(x[chosen], y[chosen])


DIGITS = DataSet(
    name="digits",
    summary="handwritten digits, 8x8 grey, inside scikit-learn",
    shape=(1, 8, 8),
    classes=tuple("0123456789"),
    licence="BSD-3-Clause (part of scikit-learn)",
    citation="E. Alpaydin, C. Kaynak: Optical Recognition of Handwritten Digits, UCI, 1998",
    splits={
        "train": Split(1437, partial(_read_split, "train"), shipped=True),
        "test": Split(360, partial(_read_split, "test"), shipped=True, tests=True),
    },
)
