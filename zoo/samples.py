"""What a network is shown: samples, their labels if known, and where they come from."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from spikemorph.graph.brief import brief_repr
from spikemorph.graph.errors import InputError
from spikemorph.graph.grid import UNIT, Interval
from spikemorph.graph.sequences import lengths_of

_PIECE = 2**22  # values that are looked at together


@dataclass(frozen=True, eq=False)
class Samples:
    """Samples as they were stored: pixels stay integers until a network's range is known.

    What lies past the end of a sequence, or of its labels, says nothing, whatever it is.
    """

    name: str
    x: Tensor  # (sample, ...), uint8 or float32; of sequences (sample, element, ...)
    y: Tensor | None = None  # (sample, *positions) int64 labels, or float32 targets
    classes: tuple[str, ...] = ()
    licence: str = "unknown"
    source: str = "unknown"
    task: str | None = None  # what labels are said to mean (graph.tasks.Kind); else it is inferred
    lengths: Tensor | None = None  # (sample,) int64, elements of each; None where all are full
    label_lengths: Tensor | None = None  # (sample,) int64, labels of each; None where all are full

    __repr__ = brief_repr

    def __post_init__(self) -> None:
        _require_kind(self.name, self.x)
        _require_lengths(self.name, "x", self.x, self.lengths, 1)
        _require_numbers(self.name, self.x, self.lengths)
        if self.y is not None:
            _require_kind_of_labels(self.name, self.y, len(self.x))
        _require_lengths(self.name, "y", self.y, self.label_lengths, 0)
        if self.y is not None:
            _require_labels(self.name, self.y, self.label_lengths, len(self.classes))

    def __len__(self) -> int:
        return len(self.x)

    def tensors(self) -> dict[str, Tensor]:
        """What there is of each sample, by the name of the field: samples first in all of them."""
        found = {name: getattr(self, name) for name in ("x", "y", "lengths", "label_lengths")}
        return {name: tensor for name, tensor in found.items() if tensor is not None}

    def picked(self, chosen: Tensor | slice) -> "Samples":
        """The samples of these indices, with all that is known of each."""
        found: dict[str, Any] = {name: tensor[chosen] for name, tensor in self.tensors().items()}
        return replace(self, **found)

    @property
    def labels(self) -> Tensor | None:
        """The labels, with zeros past the ends of those that have lengths."""
        if self.y is None or self.label_lengths is None:
            return self.y
        return torch.where(within(self.y, self.label_lengths), self.y, 0)

    def unlabelled(self) -> "Samples":
        """The same samples without their labels."""
        return replace(self, y=None, label_lengths=None)

    def take(self, count: int) -> "Samples":
        """The first `count` samples."""
        if not 0 < count <= len(self):
            raise InputError(
                f"{self.name}: cannot take {count} of {len(self)} samples; ask for 1 to {len(self)}"
            )
        return self.picked(slice(count))

    def values(self, interval: Interval = UNIT, slack: float = 0.0) -> Tensor:
        """The samples as float32, in the units of a network whose inputs take these values.

        Bytes 0..255 are mapped linearly, from the interval's low to its high. Floats are in the
        network's own units already and stay as they are; those no more than `slack` outside are
        brought to the ends. Past the end of a sequence stands what is nearest to zero.

        Raises
        ------
        InputError
            Naming the first float that is further outside.
        """
        if self.x.dtype == torch.uint8:
            return interval.from_bytes(self.x)
        try:
            return interval.clamped(self._ended(interval), slack)
        except InputError as error:
            raise error.under(self.name) from error

    def _ended(self, interval: Interval) -> Tensor:
        """The inputs, nothing of interest past the ends."""
        if self.lengths is None:
            return self.x
        low, high = interval.ends
        return torch.where(within(self.x, self.lengths), self.x, min(max(0.0, low), high))


def _first(mask: Tensor) -> tuple[int, ...]:
    """The index of the first true element."""
    return tuple(mask.nonzero()[0].tolist())


def within(tensor: Tensor, lengths: Tensor) -> Tensor:
    """Which elements (sample, element, 1, ...) of a tensor lie within their sample's length."""
    there = torch.arange(tensor.shape[1]) < lengths[:, None]
    return there.reshape(*there.shape, *[1] * (tensor.ndim - 2))


def _require_kind(name: str, x: Tensor) -> None:
    if x.dtype not in (torch.uint8, torch.float32):
        kind = str(x.dtype).removeprefix("torch.")
        raise InputError(f"{name}: x is {kind}; give uint8 (0..255) or float32")
    if x.ndim == 0 or x.numel() == 0:
        raise InputError(f"{name}: no samples; x has shape {tuple(x.shape)}")


def _require_lengths(
    name: str, what: str, of: Tensor | None, lengths: Tensor | None, least: int
) -> None:
    """Refuse lengths that do not fit the field `what`, which holds `of`."""
    if lengths is None:
        return
    field = "lengths" if what == "x" else "label_lengths"
    if of is None or of.ndim < 2:
        raise InputError(
            f"{name}: {field} without an axis of elements to hold for; give {what} as (sample, "
            "element, ...)"
        )
    if lengths.dtype != torch.int64:
        kind = str(lengths.dtype).removeprefix("torch.")
        raise InputError(f"{name}: {field} is {kind}; give int64")
    try:
        lengths_of(lengths, len(of), of.shape[1], least)
    except InputError as error:
        raise error.under(f"{name}: {field}") from error


def _require_numbers(name: str, x: Tensor, lengths: Tensor | None) -> None:
    if not x.is_floating_point():
        return
    at_once = max(1, _PIECE // max(1, x[0].numel()))
    for start in range(0, len(x), at_once):
        piece = x[start : start + at_once]
        odd = ~torch.isfinite(piece)
        if lengths is not None:
            odd &= within(piece, lengths[start : start + at_once])
        if odd.any():
            first, *rest = _first(odd)
            place = (start + first, *rest)
            raise InputError(
                f"{name}: x at index {place} is {x[place].item()}; remove or repair that sample "
                "(sequences that end before it need lengths)"
            )


def _require_kind_of_labels(name: str, y: Tensor, samples: int) -> None:
    if y.dtype not in (torch.int64, torch.float32) or y.ndim < 1:
        kind = str(y.dtype).removeprefix("torch.")
        raise InputError(
            f"{name}: y is {kind} of shape {tuple(y.shape)}; give integers, or float32 targets"
        )
    if len(y) != samples:
        raise InputError(f"{name}: {samples} samples but {len(y)} labels; give one label a sample")


def _require_labels(name: str, y: Tensor, lengths: Tensor | None, classes: int) -> None:
    if y.is_floating_point():
        wrong = ~torch.isfinite(y)
    else:
        wrong = y < 0 if classes == 0 else (y < 0) | (y >= classes)
    if lengths is not None:
        wrong &= within(y, lengths)
    if not wrong.any():
        return
    place = _first(wrong)
    if y.is_floating_point():
        raise InputError(f"{name}: y at index {place} is {y[place].item()}; repair that target")
    allowed = f"0..{classes - 1}" if classes else "0 or more"
    index = place[0] if len(place) == 1 else place
    raise InputError(f"{name}: y at index {index} is {int(y[place])}; labels must be {allowed}")
