"""Samples that were broken, as pictures: clean, adversarial, and what was changed, enlarged."""

from collections.abc import Sequence

from spikemorph.robust.result import Example

from ... import formats
from ...blocks import Block, Figure, Group, Prose
from ...plots import drawing, mark, words
from ...plots_pictures import CHANNELS, picture
from ...robust import eps_text
from ...shapes import WHOLE, ListOf, Plain, shape_of, within
from .words import EPS

_PIXELS = ListOf(within(WHOLE, 0, 255))
EXAMPLE = shape_of(Example, eps=EPS, clean=_PIXELS, adversarial=_PIXELS)
GREY, REACH = 128, 127  # of an unchanged pixel; how far from it the largest change is drawn
_SIDE, _GAP, _BELOW = 112, 10, 22
_MOST = 12  # samples that are drawn


def examples(found: Sequence[Plain]) -> list[Block]:
    """The first broken samples, each with the image of the smallest eps that was enough."""
    drawn = [example for example in found if _fits(example)]
    blocks: list[Block] = []
    if drawn:
        text = (
            "Samples that were broken, with the image of the smallest eps that was enough: clean, "
            "adversarial, and the change, enlarged as written below it around grey (no change). The "
            "pixels of the pictures are rounded to 8 bits, those that were attacked are not."
        )
        figures = tuple(_figure(example) for example in drawn[:_MOST])
        blocks += [Prose(text), Group(figures)]
    if len(drawn) < len(found):
        count = formats.plural(len(found) - len(drawn), "example")
        text = f"{count} not drawn: the number of pixels is not what the shape says."
        blocks.append(Prose(text, "note"))
    return blocks


def enlargement(clean: Sequence[int], adversarial: Sequence[int]) -> float:
    """By how much a change is multiplied so that its largest pixel is well seen; 0 if there is none.

    A whole number where the change is smaller than half of the range, so that it can be said.
    """
    most = max((abs(a - c) for c, a in zip(clean, adversarial, strict=True)), default=0)
    if not most:
        return 0.0
    return float(REACH // most) if most <= REACH else REACH / most


def enlarged(clean: Sequence[int], adversarial: Sequence[int]) -> list[int]:
    """Pixels of the change, 0..255 around `GREY`."""
    times = enlargement(clean, adversarial)
    return [GREY + round(times * (a - c)) for c, a in zip(clean, adversarial, strict=True)]


def _fits(example: Plain) -> bool:
    shape, pixels = example["shape"], len(example["clean"])
    if len(shape) != 3 or shape[0] not in CHANNELS or min(shape) < 1:
        return False
    return pixels == len(example["adversarial"]) == shape[0] * shape[1] * shape[2]


def _figure(example: Plain) -> Figure:
    clean, changed = example["clean"], example["adversarial"]
    times = enlargement(clean, changed)
    by = (
        f"change × {formats.significant(times, 2).removesuffix('.0')}"
        if times
        else "no change in 8 bits"
    )
    said = f"class {example['clean_class']}", f"class {example['adversarial_class']}"
    shown = (
        (f"clean: {said[0]}", clean),
        (f"adversarial: {said[1]}", changed),
        (by, enlarged(clean, changed)),
    )
    title = (
        f"Sample {example['index']}, label {example['label']}: {example['clean_class']} becomes "
    )
    title += str(example["adversarial_class"])
    label = f"{title}; clean image, adversarial image, change"
    parts = []
    for place, (below, pixels) in enumerate(shown):
        x = place * (_SIDE + _GAP)
        image = picture((x, 0, _SIDE, _SIDE), pixels, example["shape"])
        parts.append(mark(f"sample {example['index']}, {below}", image))
        parts.append(words(x + _SIDE / 2, _SIDE + 16, below, "tick middle"))
    width = 3 * _SIDE + 2 * _GAP
    made = f"By {example['attack']} at eps {eps_text(example['eps'])}."
    return Figure(title, lambda _: drawing(width, _SIDE + _BELOW, label, parts), made, half=True)
