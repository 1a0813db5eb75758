"""What a network is shown: samples, their labels if known, and where they come from."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from spikemorph.graph.brief import brief_repr
from spikemorph.graph.errors import InputError
from spikemorph.graph.grid import UNIT, Interval

_PIECE = 2**22  # values that are looked at together


@dataclass(frozen=True, eq=False)
class Samples:
    """Samples as they were stored: pixels stay integers until a network's range is known."""

    name: str
    x: Tensor  # (sample, ...), uint8 or float32
    y: Tensor | None = None  # (sample, *positions) int64 labels, or float32 targets
    classes: tuple[str, ...] = ()
    licence: str = "unknown"
    source: str = "unknown"
    task: str | None = None  # what labels are said to mean (graph.tasks.Kind); else it is inferred

    __repr__ = brief_repr

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

    def values(self, interval: Interval = UNIT, slack: float = 0.0) -> Tensor:
        """The samples as float32, in the units of a network whose inputs take these values.

        Bytes 0..255 are mapped linearly, from the interval's low to its high. Floats are in the
        network's own units already and stay as they are; those no more than `slack` outside are
        brought to the ends.

        Raises
        ------
        InputError
            Naming the first float that is further outside.
        """
        if self.x.dtype == torch.uint8:
            return interval.from_bytes(self.x)
        try:
            return interval.clamped(self.x, slack)
        except InputError as error:
            raise error.under(self.name) from error


def _first(mask: Tensor) -> tuple[int, ...]:
    """The index of the first true element."""
    return tuple(mask.nonzero()[0].tolist())


def _check_inputs(name: str, x: Tensor) -> None:
    if x.dtype not in (torch.uint8, torch.float32):
        kind = str(x.dtype).removeprefix("torch.")
        raise InputError(f"{name}: x is {kind}; give uint8 (0..255) or float32")
    if x.ndim == 0 or x.numel() == 0:
        raise InputError(f"{name}: no samples; x has shape {tuple(x.shape)}")
    if not x.is_floating_point():
        return
    at_once = max(1, _PIECE // max(1, x[0].numel()))
    for start in range(0, len(x), at_once):
        odd = ~torch.isfinite(x[start : start + at_once])
        if odd.any():
            first, *rest = _first(odd)
            place = (start + first, *rest)
            raise InputError(
                f"{name}: x at index {place} is {x[place].item()}; remove or repair that sample"
            )


def _check_labels(name: str, y: Tensor, samples: int, classes: int) -> None:
    if y.dtype not in (torch.int64, torch.float32) or y.ndim < 1:
        kind = str(y.dtype).removeprefix("torch.")
        raise InputError(
            f"{name}: y is {kind} of shape {tuple(y.shape)}; give integers, or float32 targets"
        )
    if len(y) != samples:
        raise InputError(f"{name}: {samples} samples but {len(y)} labels; give one label a sample")
    if y.is_floating_point():
        if not bool(torch.isfinite(y).all()):
            place = _first(~torch.isfinite(y))
            raise InputError(f"{name}: y at index {place} is {y[place].item()}; repair that target")
        return
    wrong = y < 0 if classes == 0 else (y < 0) | (y >= classes)
    if wrong.any():
        place = _first(wrong)
        allowed = f"0..{classes - 1}" if classes else "0 or more"
        index = place[0] if len(place) == 1 else place
        raise InputError(f"{name}: y at index {index} is {int(y[place])}; labels must be {allowed}")
