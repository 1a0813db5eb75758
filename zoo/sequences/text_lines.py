"""Lines of text: six digits each, written in the font that comes inside Pillow."""

from functools import partial
from pathlib import Path

import numpy as np
import PIL
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont, features

from spikemorph.graph.errors import InputError

from ..data_card import Arrays, DataSet, Split
from .draws import Draws

ALPHABET = (
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789áàâãçéêíóôõúüÁÀÂÃÇÉÊÍÓÔÕÚÜ"
    " .,;:!?'\"()[]{}%$#@&*+-=/\\_<>|°ºª"
)  # of the network legere-crnn: its class 0 is the blank, its class n the n-th letter
_HEIGHT, _WIDTH = 32, 148  # which the widest line just fits
_LETTERS = 6
_SIZES = (14, 28)  # of the font, least and largest
_INK, _PAPER = 80, 176  # the ink's brightness at most, the paper's at least
_SIDE, _EDGE = (3, 8), (3, 5)  # empty pixels left and right, above and below, before it is scaled
_SEED = 2026
_STARTS = {"train": 0, "validation": 20_000, "test": 30_000}  # in one order of all strings


def _read(name: str, count: int, folder: Path) -> Arrays:
    """Lines (sample, 1, 32, 148) in bytes, and their letters (sample, 6) as classes.

    No string is in two splits. Size, brightness and margins are drawn for each line.
    """
    maker, start = _maker(), _STARTS[name]
    numbers = Draws(_SEED).order(10**_LETTERS)[start : start + count]
    texts = [f"{number:0{_LETTERS}d}" for number in numbers]
    draw = Draws(_SEED, start)
    sizes, inks = draw.between(*_SIZES, count), draw.below(_INK + 1, count)
    papers = draw.between(_PAPER, 255, count)
    sides, edges = draw.between(*_SIDE, count, 2), draw.between(*_EDGE, count, 2)
    fonts = {size: ImageFont.load_default(size) for size in range(_SIZES[0], _SIZES[1] + 1)}
    x = np.empty((count, 1, _HEIGHT, _WIDTH), np.uint8)
    for index, text in enumerate(texts):
        written = _written(
            *(text, fonts[int(sizes[index])], int(inks[index]), int(papers[index])),
            *(sides[index].tolist(), edges[index].tolist()),
        )
        x[index, 0] = _scaled(written)
    letters = torch.tensor([[ALPHABET.index(letter) + 1 for letter in text] for text in texts])
    lengths = torch.full((count,), _LETTERS)
    return Arrays(torch.from_numpy(x), letters, label_lengths=lengths, made_by=maker)


def _maker() -> str:
    """What writes, on whose versions the edges of letters may depend."""
    if not features.check("freetype2"):
        raise InputError(
            "text-lines: this Pillow was built without FreeType, which draws its font; reinstall pillow"
        )
    return f"Pillow {PIL.__version__} with FreeType {features.version('freetype2')}"


def _written(
    text: str,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    ink: int,
    paper: int,
    sides: list[int],
    edges: list[int],
) -> Image.Image:
    """The text with so many empty pixels left and right, above and below."""
    left, top, right, bottom = map(int, font.getbbox(text))
    size = (right - left + sum(sides), bottom - top + sum(edges))
    image = Image.new("L", size, paper)
    ImageDraw.Draw(image).text((sides[0] - left, edges[0] - top), text, fill=ink, font=font)
    return image


def _scaled(image: Image.Image) -> NDArray[np.uint8]:
    """An image scaled to 32 rows, with white on its right."""
    width = min(_WIDTH, round(image.width * _HEIGHT / image.height))
    line = np.full((_HEIGHT, _WIDTH), 255, np.uint8)
    line[:, :width] = np.asarray(image.resize((width, _HEIGHT), Image.Resampling.BILINEAR))
    return line


TEXT_LINES = DataSet(
    name="text-lines",
    summary="six digits each, in Pillow's font; labels are strings",
    shape=(1, _HEIGHT, _WIDTH),
    classes=("", *ALPHABET),
    licence="made here; the font is Aileron, CC0",
    citation="written by the rule in zoo/sequences/text_lines.py, in the font inside Pillow",
    splits={
        "train": Split(10_000, partial(_read, "train", 10_000), shipped=True),
        "validation": Split(1000, partial(_read, "validation", 1000), shipped=True),
        "test": Split(2000, partial(_read, "test", 2000), shipped=True, tests=True),
    },
)
