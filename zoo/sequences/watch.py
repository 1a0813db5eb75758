"""Smartwatch: which of seven shoulder exercises is done, from the motion of a wrist, split by person."""

import pickletools
import warnings
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from spikemorph.graph.errors import InputError

from ..data_card import Arrays, DataSet, Split
from ..downloads import pypi
from ..fetch import Download
from ..reasons import reason
from .padding import padded, single

_FILE = "watch_dataset.npy"
_RECORDINGS, _AXES, _MOST = 140, 6, 2618  # 2618 elements has the longest
_WINDOW, _HOP = 100, 50  # elements, at 50 Hz: two seconds, one second apart
_SUBJECTS = {"train": (1, 2, 3, 4, 5, 6), "validation": (7, 8), "test": (9, 10)}
_LEAST = 100  # letters of a text that holds numbers: names are shorter

Recordings = list[NDArray[np.float32]]  # (element, axis) each
Wholes = NDArray[np.int64]


def _read_recordings(path: Path) -> tuple[Recordings, Wholes, Wholes]:
    """All recordings, their exercises and their subjects.

    The file is a pickle behind a header. Its tokens are read, and nothing of it is carried out: the
    numbers of every array stand in one text, in its order. First come the recordings, each axis by
    itself, then exercises, subjects and sides.
    """
    try:
        content = path.read_bytes()
        start = 10 + int.from_bytes(content[8:10], "little")
        arrays = [text.encode("latin-1") for text in _texts(content[start:]) if len(text) > _LEAST]
        recordings = [_recording(array) for array in arrays[:_RECORDINGS]]
        exercises, subjects = (np.frombuffer(a, "<i8") for a in arrays[_RECORDINGS:][:2])
        if not len(recordings) == len(exercises) == len(subjects) == _RECORDINGS:
            raise ValueError(f"{len(recordings)} recordings")
        if set(subjects.tolist()) != set(chain(*_SUBJECTS.values())):
            raise ValueError("other people")
    except (OSError, ValueError, IndexError) as error:  # genops names what is damaged by these
        raise InputError(f"{path}: cannot be read ({reason(error)}); fetch it again") from error
    return recordings, exercises, subjects


def _texts(content: bytes) -> list[str]:
    """All texts among the tokens of a pickle."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of odd tokens, on the user's error stream
        return [value for _, value, _ in pickletools.genops(content) if isinstance(value, str)]


def _recording(content: bytes) -> NDArray[np.float32]:
    found = single(np.frombuffer(content, "<f8").reshape(_AXES, -1).T)
    if len(found) > _MOST:
        raise ValueError(f"a recording of {len(found)} elements")
    return found


def _of_subjects(split: str, folder: Path) -> tuple[Recordings, Wholes]:
    """The recordings of a split's subjects, and their exercises."""
    recordings, exercises, subjects = _read_recordings(folder / _FILE)
    chosen = np.flatnonzero(np.isin(subjects, _SUBJECTS[split]))
    return [recordings[index] for index in chosen], exercises[chosen]


def _read_whole(split: str, folder: Path) -> Arrays:
    """Recordings (sample, 2618, 6) with their lengths, and their exercises."""
    recordings, exercises = _of_subjects(split, folder)
    x, lengths = padded(recordings, _MOST)
    return Arrays(x, torch.from_numpy(exercises), lengths)


def _read_windows(split: str, folder: Path) -> Arrays:
    """Windows (sample, 100, 6) of the recordings, in their order, and their exercises."""
    recordings, exercises = _of_subjects(split, folder)
    cuts = [sliding_window_view(found, _WINDOW, 0)[::_HOP] for found in recordings]
    x = np.ascontiguousarray(np.concatenate(cuts).transpose(0, 2, 1))
    y = np.repeat(exercises, [len(cut) for cut in cuts])
    return Arrays(torch.from_numpy(x), torch.from_numpy(y))


_EXERCISES = ("PEN", "ABD", "FEL", "IR", "ER", "TRAP", "ROW")
_LICENCE = "BSD-3-Clause (part of seglearn): fetched, never shipped"
_CITATION = (
    "D. Burns et al.: Shoulder Physiotherapy Exercise Recognition, arXiv:1802.01489, 2018; "
    "people 1 to 6 train, 7 and 8 validation, 9 and 10 test"
)
_DOWNLOAD = Download(
    name="smartwatch",
    files={_FILE: "eb122f23cdf06ef6bd6c6c5312958ec5cf9d038e2e6d457b8081662c75a42537"},
    routes=(
        pypi(
            "seglearn",
            "1.2.5",
            "ec6b952c85c9627050102854b372d85951563d3b990df677d7c55547e87413dd",
            {_FILE: f"seglearn/data/{_FILE}"},
            python="py3",
        ),
    ),
)

SMARTWATCH = DataSet(
    name="smartwatch",
    summary="exercises by the motion of a wrist, windows of 2 s at 50 Hz",
    shape=(_WINDOW, _AXES),
    classes=_EXERCISES,
    licence=_LICENCE,
    citation=_CITATION,
    splits={
        "train": Split(2669, partial(_read_windows, "train")),
        "validation": Split(1006, partial(_read_windows, "validation")),
        "test": Split(1002, partial(_read_windows, "test"), tests=True),
    },
    download=_DOWNLOAD,
)
SMARTWATCH_WHOLE = DataSet(
    name="smartwatch-whole",
    summary="the same in whole recordings: 947 to 2618 elements",
    shape=(_MOST, _AXES),
    classes=_EXERCISES,
    licence=_LICENCE,
    citation=_CITATION,
    splits={
        "train": Split(84, partial(_read_whole, "train")),
        "validation": Split(28, partial(_read_whole, "validation")),
        "test": Split(28, partial(_read_whole, "test"), tests=True),
    },
    download=_DOWNLOAD,
)
