"""Read a user's own samples: an `.npz` file or a folder of images."""

import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from spikemorph.graph.errors import InputError

from .reasons import reason
from .samples import Samples

_SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
_MOST_CLASSES = 100_000
_GREY = frozenset({"1", "L"})
_COLOUR = frozenset({"P", "RGB"})
_UNREADABLE = (OSError, EOFError, ValueError, MemoryError, zipfile.BadZipFile, zlib.error)

Array = NDArray[np.generic]


def read_npz(path: Path) -> Samples:
    """Samples `x` and, if there, labels `y` of an `.npz` file; nothing pickled is opened."""
    arrays = _arrays(path)
    x = _inputs(path, arrays["x"])
    y = _labels(path, arrays["y"]) if "y" in arrays else None
    top = -1 if y is None or len(y) == 0 else int(y.max())
    if top >= _MOST_CLASSES and y is not None:
        raise InputError(
            f"{path}: label {top} of sample {int(y.argmax())} is no class: they count from 0, and "
            f"there are at most {_MOST_CLASSES}"
        )
    classes = tuple(str(label) for label in range(top + 1))
    return Samples(name=path.name, x=x, y=y, classes=classes, source=str(path))


def _arrays(path: Path) -> Mapping[str, Array]:
    if not path.is_file():
        raise InputError(f"{path}: no such file; check the path")
    try:
        with path.open("rb") as stream:
            return _members(path, np.load(stream, allow_pickle=False))
    except _UNREADABLE as error:
        raise InputError(
            f"{path}: cannot be read ({reason(error)}); "
            "save plain numbers with np.savez(..., x=..., y=...)"
        ) from error


def _members(path: Path, file: object) -> Mapping[str, Array]:
    if not isinstance(file, np.lib.npyio.NpzFile):
        raise InputError(f"{path}: one bare array; save it with np.savez(..., x=...)")
    if "x" not in file.files:
        found = ", ".join(file.files) or "nothing"
        raise InputError(f"{path}: no array 'x' in it, only {found}; name the samples x")
    return {name: file[name] for name in ("x", "y") if name in file.files}


def _inputs(path: Path, x: Array) -> Tensor:
    """Bytes stay bytes, floats of any width become float32."""
    if np.issubdtype(x.dtype, np.floating):
        with np.errstate(over="ignore"):  # too large a value becomes infinite, and is refused later
            return torch.from_numpy(x.astype(np.float32))
    if x.dtype != np.uint8:
        raise InputError(f"{path}: x is {x.dtype}; give uint8 (0..255) or floats")
    return torch.from_numpy(x)


def _labels(path: Path, y: Array) -> Tensor:
    if not np.issubdtype(y.dtype, np.integer):
        raise InputError(f"{path}: y is {y.dtype}; give integers, as y.astype('int64')")
    return torch.from_numpy(y.astype(np.int64))


def read_image_folder(folder: Path) -> Samples:
    """Images of one size; each subfolder is a class, in the order of their names.

    A folder that holds images and no subfolders gives samples without labels.
    """
    classes = tuple(entry.name for entry in _entries(folder) if _is_class(entry))
    if classes:
        found = [_images(folder / name) for name in classes]
        paths = [path for group in found for path in group]
        y = torch.repeat_interleave(torch.tensor([len(group) for group in found]))
    else:
        paths, y = _images(folder), None
    return Samples(
        name=folder.name, x=_stack(folder, paths), y=y, classes=classes, source=str(folder)
    )


def _is_class(entry: Path) -> bool:
    return entry.is_dir() and not entry.name.startswith(".")


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise InputError(f"{folder}: cannot be listed ({reason(error)}); allow it") from error


def _images(folder: Path) -> list[Path]:
    return [path for path in _entries(folder) if path.suffix.lower() in _SUFFIXES]


def _stack(folder: Path, paths: list[Path]) -> Tensor:
    """All images as one tensor (sample, channel, row, column), grey if every one of them is."""
    if not paths:
        kinds = " ".join(sorted(_SUFFIXES))
        raise InputError(f"{folder}: no images in it or in its subfolders; known kinds: {kinds}")
    images = [_pixels(path) for path in paths]
    for path, image in zip(paths, images, strict=True):
        if image.shape[:2] != images[0].shape[:2]:
            raise InputError(
                f"{path}: {image.shape[1]}x{image.shape[0]} pixels, but {paths[0].name} has "
                f"{images[0].shape[1]}x{images[0].shape[0]}; bring all images to one size"
            )
    channels = max(image.shape[2] for image in images)
    wide = [np.broadcast_to(image, (*image.shape[:2], channels)) for image in images]
    return torch.from_numpy(np.stack(wide)).movedim(-1, 1).contiguous()


def _pixels(path: Path) -> NDArray[np.uint8]:
    """One image (row, column, channel)."""
    try:
        with Image.open(path) as image:
            if image.mode in _GREY:
                return np.array(image.convert("L"))[:, :, None]
            if image.mode in _COLOUR:
                return np.array(image.convert("RGB"))
            mode = image.mode
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(
            f"{path}: not a readable image ({reason(error)}); remove or repair it"
        ) from error
    raise InputError(f"{path}: its pixels are {mode}; save it as 8-bit grey or RGB")
