"""Pictures of samples in a plot: pixels inside the page itself, never a file beside it."""

import base64
import io
from collections.abc import Mapping, Sequence

from markupsafe import Markup
from PIL import Image

from .plots import box

CHANNELS: Mapping[int, str] = {1: "L", 3: "RGB"}  # to what Pillow calls their pixels


def png(pixels: Sequence[int], shape: Sequence[int]) -> bytes:
    """The picture as PNG.

    Parameters
    ----------
    pixels : sequence of int
        0..255, channel by channel and row by row.
    shape : sequence of int
        Channels (1 or 3), height, width.
    """
    channels, height, width = shape
    area = height * width
    woven = bytes(pixels[c * area + k] for k in range(area) for c in range(channels))
    stored = io.BytesIO()
    Image.frombytes(CHANNELS[channels], (width, height), woven).save(stored, "PNG", optimize=True)
    return stored.getvalue()


def picture(
    place: tuple[float, float, float, float], pixels: Sequence[int], shape: Sequence[int]
) -> Markup:
    """A picture as large as fits into `place` (x, y, width, height), in its middle, with a frame."""
    x, y, width, height = place
    scale = min(width / shape[2], height / shape[1])
    wide, high = scale * shape[2], scale * shape[1]
    left, top = x + (width - wide) / 2, y + (height - high) / 2
    form = (
        '<image x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}" '
        'href="data:image/png;base64,{}"/>'
    )
    code = base64.b64encode(png(pixels, shape)).decode()
    return Markup(form).format(left, top, wide, high, code) + box(left, top, wide, high, "frame")
