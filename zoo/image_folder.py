"""Read a folder of images as samples."""

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from PIL import Image, TiffImagePlugin, WebPImagePlugin  # noqa: F401  so that these are known
from torch import Tensor

from spikemorph.graph.errors import InputError

from . import npz
from .reasons import reason
from .samples import Samples

logging.getLogger("PIL").addHandler(logging.NullHandler())  # what it says is in our errors
_SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")  # no others: some start programs
_MOST_PIXELS = 2**24  # of an image
_ORIENTATION = 0x0112  # the EXIF tag
_OWN = (
    "raw",
    "packbits",
)  # of TIFFs: others are decoded by libtiff, which writes on the error stream
_GREY = frozenset({"1", "L"})
_COLOUR = frozenset({"P", "RGB"})


def read_image_folder(folder: Path) -> Samples:
    """Images of one size; each subfolder is a class, in the order of their names.

    A folder that holds images and no subfolders gives samples without labels. Pixels are taken as
    they are stored; what says that they are to be shown otherwise is refused.
    """
    inside = folder.resolve()
    classes = tuple(entry.name for entry in _entries(folder) if _is_class(entry))
    paths, y = _images(folder, inside), None
    if classes:
        if paths:
            raise InputError(
                f"{_named(paths[0])}: an image beside the folders of classes; move it into one"
            )
        found = [_images(folder / name, inside) for name in classes]
        paths = [path for group in found for path in group]
        y = torch.repeat_interleave(torch.tensor([len(group) for group in found]))
    return Samples(
        name=folder.name, x=_stack(folder, paths), y=y, classes=classes, source=str(folder)
    )


def _named(path: Path) -> str:
    """The path, in one line and in letters that can be written."""
    return str(path) if str(path).isprintable() else ascii(str(path))


def _is_class(entry: Path) -> bool:
    return entry.is_dir() and not entry.name.startswith(".")


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise InputError(f"{folder}: cannot be listed ({reason(error)}); allow it") from error


def _images(folder: Path, inside: Path) -> list[Path]:
    """The images of a folder, none of them, nor the folder, a way out of another one."""
    found = [path for path in _entries(folder) if _is_image(path)]
    for path in (folder, *found):
        try:
            real = path.resolve()
        except (OSError, RuntimeError) as error:
            raise InputError(f"{_named(path)}: cannot be followed; remove the link") from error
        if not real.is_relative_to(inside):
            raise InputError(f"{_named(path)}: leads out of the folder; copy what it links to")
        if path != folder and not path.is_file():
            raise InputError(f"{_named(path)}: is no plain file; remove it")
    return found


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in _SUFFIXES and not path.name.startswith(".")


def _stack(folder: Path, paths: list[Path]) -> Tensor:
    """All images as one tensor (sample, channel, row, column), grey if every one of them is."""
    if not paths:
        kinds = " ".join(sorted(_SUFFIXES))
        raise InputError(f"{folder}: no images in it or in its subfolders; known kinds: {kinds}")
    modes, sizes = zip(*(_look(path) for path in paths), strict=True)
    wide, high = sizes[0]
    for path, size in zip(paths, sizes, strict=True):
        if size != sizes[0]:
            raise InputError(
                f"{_named(path)}: {size[0]}x{size[1]} pixels, but {_named(Path(paths[0].name))} has "
                f"{wide}x{high}; bring all images to one size"
            )
    mode = "L" if _GREY.issuperset(modes) else "RGB"
    shape = (len(paths), len(mode), high, wide)
    try:
        return npz.gathered(shape, torch.uint8, (_pixels(path, mode) for path in paths))
    except MemoryError as error:
        raise InputError(
            f"{folder}: {len(paths)} images of {wide}x{high} pixels are more than memory holds; give "
            "fewer or smaller ones"
        ) from error


def _look(path: Path) -> tuple[str, tuple[int, int]]:
    """An image's mode and its size (columns, rows), without its pixels."""
    with _opened(path) as image:
        if image.mode not in _GREY | _COLOUR:
            raise InputError(
                f"{_named(path)}: its pixels are {image.mode}; save it as 8-bit grey or RGB"
            )
        packed = image.info.get("compression", "raw")
        if image.format == "TIFF" and packed not in _OWN:
            raise InputError(
                f"{_named(path)}: a TIFF with compression {packed}; save it without, or as PNG"
            )
        columns, rows = image.size
        if columns * rows > _MOST_PIXELS:
            raise InputError(
                f"{_named(path)}: {columns}x{rows} pixels, more than {_MOST_PIXELS}; scale it down"
            )
        if getattr(image, "n_frames", 1) != 1 and image.format != "MPO":  # cameras add previews
            raise InputError(f"{_named(path)}: has several frames; save one as an image")
        if "transparency" in image.info:
            raise InputError(f"{_named(path)}: has transparent pixels; put it on a background")
        turned = image.getexif().get(_ORIENTATION, 1)
        if turned != 1:
            raise InputError(
                f"{_named(path)}: is to be shown turned (EXIF orientation {turned}), but networks see "
                "pixels as they are stored; save it upright"
            )
        return image.mode, image.size


def _pixels(path: Path, mode: str) -> Tensor:
    """One image (1, channel, row, column)."""
    with _opened(path) as image:
        pixels = np.array(image.convert(mode))
    return torch.from_numpy(pixels).reshape(*pixels.shape[:2], len(mode)).movedim(-1, 0)[None]


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """An image of a known kind; what its decoder says of it is an error that names it.

    Raises
    ------
    InputError
        If it cannot be read.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd metadata, on the user's error stream
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            content = io.BytesIO(
                path.read_bytes()
            )  # gives no more than there is, whatever it claims
            with Image.open(content, formats=_FORMATS) as image:
                yield image
    except InputError:
        raise
    except Exception as error:  # decoders raise whatever the bytes make them raise
        raise InputError(
            f"{_named(path)}: not a readable image ({reason(error)}); remove or repair it"
        ) from error
