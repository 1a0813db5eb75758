"""Read the samples of an `.npz` file, with all that it says of each."""

import math
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any
from zipfile import ZipFile

import numpy as np
import torch
from torch import Tensor

from spikemorph.graph.errors import InputError

from . import npz
from .samples import Samples, within

_KINDS = {torch.uint8: np.uint8, torch.float32: np.float32, torch.int64: np.int64}
_LARGEST = 2**62  # of whole numbers that are kept as int64


@dataclass(frozen=True)
class _Beside:
    """What an array beside the samples may hold."""

    one: str  # what each sample has of it
    kinds: str  # numpy's letters
    repair: str
    below: int  # which its whole numbers are
    why: str


_CLASS = "is no class: they count from 0, and there are at most 100000"
_BESIDE: Mapping[str, _Beside] = MappingProxyType(
    {
        "y": _Beside("label", "iuf", "integers, as y.astype('int64')", 100_000, _CLASS),
        "lengths": _Beside("length", "iu", "whole numbers", _LARGEST, "is none"),
        "label_lengths": _Beside("label length", "iu", "whole numbers", _LARGEST, "is none"),
    }
)


def read_npz(path: Path, count: int | None = None, most: int | None = None) -> Samples:
    """The first `count` samples `x` of an `.npz` file, or all; with labels `y` and lengths if there.

    Arrays are named as fields of `Samples`. No more than `most` samples are looked at. What is not is
    not unfolded, and little more than what is asked for is held: the file may be larger than memory.
    """
    with npz.opened(path) as archive:
        names = [name.removesuffix(".npy") for name in archive.namelist()]
        if "x" not in names:
            found = ", ".join(names) or "nothing"
            raise InputError(f"{path}: no array 'x' in it, only {found}; name the samples x")
        header = _header_of_inputs(path, archive)
        whole = header.shape[0]
        if count is not None and count > whole:
            raise InputError(
                f"{path}: cannot take {count} of {whole} samples; ask for 1 to {whole}"
            )
        few = min(n for n in (whole, count, most) if n is not None)
        kind = torch.uint8 if header.kind == np.uint8 else torch.float32
        x = _gathered(path, archive, "x", header, kind, few)
        beside = {n: _beside(path, archive, n, whole, few) for n in _BESIDE if n in names}
    given: dict[str, Any] = beside
    classes = _classes(beside.get("y"), beside.get("label_lengths"))
    return Samples(path.name, x, classes=classes, source=str(path), **given)


def _header_of_inputs(path: Path, archive: ZipFile) -> npz.Header:
    """Bytes, which stay bytes, or floats of any width, which become float32."""
    header = npz.header_of(path, archive, "x")
    if header.kind != np.uint8 and header.kind.kind != "f":
        raise InputError(f"{path}: x is {header.kind}; give uint8 (0..255) or floats")
    if math.prod(header.shape) == 0 or not header.shape:
        raise InputError(f"{path}: no samples; x has shape {header.shape}")
    return header


def _beside(path: Path, archive: ZipFile, name: str, samples: int, few: int) -> Tensor:
    """What the first few samples have of an array: whole numbers, and as labels also real ones."""
    header, rule = npz.header_of(path, archive, name), _BESIDE[name]
    if header.kind.kind not in rule.kinds:
        raise InputError(f"{path}: {name} is {header.kind}; give {rule.repair}")
    if not header.shape or math.prod(header.shape) == 0:
        raise InputError(f"{path}: {name} is of shape {header.shape}; give one {rule.one} a sample")
    if header.shape[0] != samples:
        raise InputError(
            f"{path}: {samples} samples but {header.shape[0]} {rule.one}s; give one {rule.one} a sample"
        )
    kind = torch.float32 if header.kind.kind == "f" else torch.int64
    return _gathered(path, archive, name, header, kind, few)


def _gathered(
    path: Path, archive: ZipFile, name: str, header: npz.Header, kind: torch.dtype, few: int
) -> Tensor:
    """The first few samples of an array in one number type."""
    shape = (few, *header.shape[1:])
    with closing(npz.pieces(path, archive, name, header, few)) as parts:
        return npz.gathered(shape, kind, (_tensor(path, name, part, kind) for part in parts))


def _tensor(path: Path, name: str, values: npz.Array, kind: torch.dtype) -> Tensor:
    if kind == torch.int64 and int(values.max()) >= _BESIDE[name].below:
        rule = _BESIDE[name]
        raise InputError(f"{path}: {rule.one} {values.max()} {rule.why}")
    with np.errstate(over="ignore"):  # too large a value becomes infinite, and is refused later
        return torch.from_numpy(values.astype(_KINDS[kind]))


def _classes(y: Tensor | None, lengths: Tensor | None) -> tuple[str, ...]:
    """Names for as many classes as there are labels up to the largest that says something."""
    if y is None or y.is_floating_point():
        return ()
    if lengths is not None and y.ndim > 1 and len(lengths) == len(y):
        y = y * within(y, lengths)
    return tuple(str(label) for label in range(int(y.max()) + 1))
