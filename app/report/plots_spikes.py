"""Pictures of spikes: how many each layer sends at each step, which neuron fires when."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from . import formats
from .plots import LETTER, SPIKES, box, drawing, mark, shortened, tick_words, words

RASTER_WIDTH, ROW_HEIGHT, MOST_COLUMNS = 166, 2.6, 64
LEVELS = 8  # shades of a heat map


@dataclass(frozen=True)
class HeatRow:
    """A row of a heat map: its name, its values, and what a reader sees of each."""

    name: str
    values: tuple[float, ...]
    titles: tuple[str, ...]


@dataclass(frozen=True)
class RasterRow:
    """A neuron's spikes, (step, signed size), and what a reader sees of them."""

    title: str
    spikes: tuple[tuple[int, int], ...]


def heat(label: str, rows: Sequence[HeatRow], width: int, x_name: str) -> Markup:
    """A cell for every row and step, darker where the value is larger; values written if all fit."""
    columns = max((len(row.values) for row in rows), default=1)
    room = min(max((len(row.name) for row in rows), default=0) * LETTER + 14, width * 0.3)
    cell, height = (width - room - 2) / columns, 26
    values = [value for row in rows for value in row.values]
    most = max(values, default=0) or 1
    written = all(len(formats.brief(value)) * LETTER < cell - 4 for value in values)
    parts = []
    for index, row in enumerate(rows):
        y = 2 + index * height
        parts.append(words(room - 8, y + 16, shortened(row.name, room - 12), "row end"))
        for step, (value, title) in enumerate(zip(row.values, row.titles, strict=True)):
            shade = 0 if value <= 0 else 1 + int((LEVELS - 1) * min(value / most, 1))
            x = room + step * cell
            inside = [box(x, y, cell - 2, height - 2, f"heat h{shade}")]
            if written:
                middle = x + cell / 2 - 1
                inside.append(words(middle, y + 16, formats.brief(value), f"cell middle t{shade}"))
            parts.append(mark(title, *inside))
    bottom = 2 + height * len(rows)
    parts += _step_names(columns, room, cell, bottom + 14, width)
    parts.append(words(room + columns * cell / 2, bottom + 32, x_name, "name middle"))
    return drawing(width, bottom + 40, label, parts)


def raster(label: str, rows: Sequence[RasterRow], steps: int) -> Markup:
    """A row for every neuron, a column for every step, a bar for every spike."""
    left, top = 4.0, 4.0
    cell = (RASTER_WIDTH - 2 * left) / max(steps, 1)
    height = ROW_HEIGHT * len(rows)
    parts = [box(left, top, RASTER_WIDTH - 2 * left, height, "field")]
    for index, row in enumerate(rows):
        y = top + index * ROW_HEIGHT
        inside = [box(left, y, RASTER_WIDTH - 2 * left, ROW_HEIGHT, "area")]
        for step, size in row.spikes:
            wide = max(cell - 2, 1) if steps <= MOST_COLUMNS else max(cell, 0.6)
            style = f"spike {SPIKES[0 if size > 0 else 1]}"
            inside.append(box(left + (step - 1) * cell + 1, y + 0.3, wide, ROW_HEIGHT - 0.6, style))
        parts.append(mark(row.title, *inside))
    parts += _step_names(steps, left, cell, top + height + 15, RASTER_WIDTH)
    return drawing(RASTER_WIDTH, top + height + 22, label, parts)


def share_bar(share: float, style: str = "c0") -> Markup:
    """A small bar for a table: `share` of 0 to 1 of its width."""
    body = box(0, 2, 64, 8, "track") + box(0, 2, 64 * min(max(share, 0), 1), 8, f"bar {style}")
    form = (
        '<svg class="small" aria-hidden="true" viewBox="0 0 64 12" width="64" height="12">{}</svg>'
    )
    return Markup(form).format(body)


def _step_names(steps: int, left: float, cell: float, y: float, width: float) -> list[Markup]:
    """Step numbers below their columns, as many as fit."""
    every = max(1, -(-22 // max(int(cell), 1)))
    named = [(left + (s + 0.5) * cell - 1, str(s + 1)) for s in range(0, steps, every)]
    return tick_words(named, y, width)
