"""Spoken digits: synthetic speech of many voices, by the word and in streams, split by speaker."""

import io
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import MappingProxyType

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spikemorph.graph.errors import InputError

from ..data_card import Arrays, DataSet, Split
from ..made import Made
from ..npz_samples import read_npz
from .draws import Draws
from .padding import padded
from .spectra import BANDS, heard, spectra
from .synthesiser import Voice, require_speakers, spoken, synthesiser

_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_ACCENTS = ("en-us", "en-gb", "en-gb-scotland")
_RATES = (130, 160, 200)  # words a minute
_PITCHES = (35, 50, 65)
_SPEAKERS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "train": (
            *(
                "m1",
                "m2",
                "m3",
                "m4",
                "m5",
                "m6",
                "f1",
                "f2",
                "f3",
                "Alex",
                "Alicia",
                "Andrea",
                "Denis",
            ),
            *(
                "Diogo",
                "Gene",
                "Henrique",
                "Jacky",
                "Lee",
                "adam",
                "anika",
                "antonio",
                "belinda",
                "boris",
            ),
            "david",
        ),
        "validation": ("m7", "f4", "Annie", "Hugo", "caleb", "linda"),
        "test": (
            *("m8", "f5", "Andy", "Mike", "steph", "benjamin", "grandma", "max", "paul", "zac"),
        ),
    }
)
_MOST = 48  # frames of a word
_STREAM = 1500  # frames of a stream: 30 s
_PAUSE = (15, 100)  # frames between words: 0.3 to 2 s
_STREAMS = {"train": 120, "validation": 24, "test": 40}
_BREAK = len(_WORDS)  # the class of frames in which nobody speaks
_AT_ONCE = 4  # words that are synthesised together


def _voices(split: str) -> Iterator[Voice]:
    """All voices of a split's speakers: each in every accent at every rate."""
    for speaker in _SPEAKERS[split]:
        for a, accent in enumerate(_ACCENTS):
            for r, rate in enumerate(_RATES):
                yield Voice(accent, speaker, rate, _PITCHES[(a + r) % len(_PITCHES)])


def _make() -> dict[str, bytes]:
    """The words of each split as an `.npz` file: every voice says all ten, in order."""
    require_speakers(frozenset(speaker for split in _SPEAKERS.values() for speaker in split))
    return {f"{split}.npz": _made(split) for split in _SPEAKERS}


def _made(split: str) -> bytes:
    said = [(word, voice) for voice in _voices(split) for word in _WORDS]
    pool = ThreadPoolExecutor(_AT_ONCE)
    try:
        words = list(pool.map(_heard, *zip(*said, strict=True)))
    finally:
        pool.shutdown(cancel_futures=True)  # else one who stops it waits for all that is left
    x, lengths = padded(words, _MOST)
    y = np.tile(np.arange(len(_WORDS)), len(said) // len(_WORDS))
    content = io.BytesIO()
    np.savez_compressed(content, x=x.numpy(), y=y, lengths=lengths.numpy())
    return content.getvalue()


def _heard(word: str, voice: Voice) -> NDArray[np.uint8]:
    frames = heard(spectra(spoken(word, voice)))
    if not 0 < len(frames) <= _MOST:
        raise InputError(
            f"{word!r} by {voice.speaker} takes {len(frames)} frames, should be 1 to {_MOST}"
        )
    return frames


def _read_words(split: str, folder: Path) -> Arrays:
    """Words (sample, 48, 24) with their lengths, and which digits they are."""
    x, y, lengths = _words(folder / f"{split}.npz")
    return Arrays(x, y, lengths, made_by=folder.name)


def _words(path: Path) -> tuple[Tensor, Tensor, Tensor]:
    """Words, digits and lengths, as `_made` wrote them."""
    again = f"{path}: not the words that were made; delete it, and they are made again"
    try:
        found = read_npz(path)
    except InputError as error:
        raise InputError(again) from error
    if found.y is None or found.lengths is None or found.x.shape[1:] != (_MOST, BANDS):
        raise InputError(again)
    return found.x, found.y, found.lengths


def _read_streams(split: str, folder: Path) -> Arrays:
    """Streams (sample, 1500, 24), each of one voice, and at every frame (sample, 1500) what is said.

    Words stand at drawn distances; between them there is silence.
    """
    words, _, lengths = _words(folder / f"{split}.npz")
    count, groups = _STREAMS[split], len(words) // len(_WORDS)
    draw = Draws(2026, count)
    x = torch.zeros(count, _STREAM, BANDS, dtype=torch.uint8)
    y = torch.full((count, _STREAM), _BREAK)
    for stream, labels, voice in zip(x, y, draw.order(groups)[:count].tolist(), strict=True):
        end = 0
        while True:
            digit, start = int(draw.below(10)), end + int(draw.between(*_PAUSE))
            word = voice * len(_WORDS) + digit
            end = start + int(lengths[word])
            if end > _STREAM:
                break
            stream[start:end] = words[word, : end - start]
            labels[start:end] = digit
    return Arrays(x, y, made_by=folder.name)


_LICENCE = "made here, by eSpeak NG"
_CITATION = "synthetic speech by eSpeak NG, not human; each split has speakers of its own"
_MADE = Made("spoken-digits", tuple(f"{split}.npz" for split in _SPEAKERS), synthesiser, _make)
_EACH = len(_ACCENTS) * len(_RATES) * len(_WORDS)

SPOKEN_DIGITS = DataSet(
    name="spoken-digits",
    summary="synthetic speech, ten words in bands, 40 speakers",
    shape=(_MOST, BANDS),
    classes=_WORDS,
    licence=_LICENCE,
    citation=_CITATION,
    splits={
        name: Split(_EACH * len(speakers), partial(_read_words, name), tests=name == "test")
        for name, speakers in _SPEAKERS.items()
    },
    made=_MADE,
)
SPOKEN_DIGITS_STREAM = DataSet(
    name="spoken-digits-stream",
    summary="the same words in streams of 30 s, with pauses",
    shape=(_STREAM, BANDS),
    classes=(*_WORDS, "pause"),
    licence=_LICENCE,
    citation=_CITATION,
    splits={
        name: Split(count, partial(_read_streams, name), tests=name == "test")
        for name, count in _STREAMS.items()
    },
    made=_MADE,
)
