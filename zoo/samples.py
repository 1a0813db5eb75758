"""What a network is shown: samples, their labels if known, and where they come from."""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from spikemorph.graph.errors import InputError


@dataclass(frozen=True, eq=False)
class Samples:
    """Samples as they were stored: pixels stay integers until a network's range is known."""

    name: str
    x: Tensor  # (sample, ...), uint8 or float32
    y: Tensor | None = None  # (sample,), int64
    classes: tuple[str, ...] = ()
    licence: str = "unknown"
    source: str = "unknown"

    def __post_init__(self) -> None:
        _check_inputs(self.name, self.x)
        if self.y is not None:
            _check_labels(self.name, self.y, len(self.x), len(self.classes))

    def __len__(self) -> int:
        return len(self.x)

    def take(self, count: int) -> "Samples":
        """The first `count` samples."""
        if not 0 < count <= len(self):
            raise InputError(
                f"{self.name}: cannot take {count} of {len(self)} samples; ask for 1 to {len(self)}"
            )
        y = None if self.y is None else self.y[:count]
        return replace(self, x=self.x[:count], y=y)

    def values(self, low: float = 0.0, high: float = 1.0) -> Tensor:
        """The samples as float32 in a network's input range.

        Integers 0..255 are mapped linearly, low + (high - low) x / 255. Floats are passed
        through once they are known to lie inside.
        """
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise InputError(f"input range {low},{high} is empty; give two numbers, low < high")
        if self.x.dtype == torch.uint8:
            return low + self.x.to(torch.float32) * (high - low) / 255
        outside = (self.x < low) | (self.x > high)
        if outside.any():
            place = _first(outside)
            raise InputError(
                f"{self.name}: x at index {place} is {self.x[place].item():g}, outside the input "
                f"range {low:g}..{high:g}; rescale the data or give their range"
            )
        return self.x


def _first(mask: Tensor) -> tuple[int, ...]:
    """The index of the first true element."""
    return tuple(mask.nonzero()[0].tolist())


def _check_inputs(name: str, x: Tensor) -> None:
    if x.dtype not in (torch.uint8, torch.float32):
        kind = str(x.dtype).removeprefix("torch.")
        raise InputError(f"{name}: x is {kind}; give uint8 (0..255) or float32")
    if x.ndim == 0 or x.numel() == 0:
        raise InputError(f"{name}: no samples; x has shape {tuple(x.shape)}")
    if x.is_floating_point() and not torch.isfinite(x).all():
        place = _first(~torch.isfinite(x))
        raise InputError(
            f"{name}: x at index {place} is {x[place].item()}; remove or repair that sample"
        )


def _check_labels(name: str, y: Tensor, samples: int, classes: int) -> None:
    if y.dtype != torch.int64 or y.ndim != 1:
        kind = str(y.dtype).removeprefix("torch.")
        raise InputError(
            f"{name}: y is {kind} of shape {tuple(y.shape)}; give one integer a sample"
        )
    if len(y) != samples:
        raise InputError(f"{name}: {samples} samples but {len(y)} labels; give one label a sample")
    wrong = y < 0 if classes == 0 else (y < 0) | (y >= classes)
    if wrong.any():
        place = int(wrong.nonzero()[0])
        allowed = f"0..{classes - 1}" if classes else "0 or more"
        raise InputError(f"{name}: y at index {place} is {int(y[place])}; labels must be {allowed}")
