"""What a network learns from: samples with their labels, and the samples held back from it."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from spikemorph.graph.brief import brief_repr
from spikemorph.graph.errors import InputError
from spikemorph.graph.saving import content_hash

_STRIDE = 997  # a prime: no row or column of images is always missed


@dataclass(frozen=True, eq=False)
class DataTensors:
    """Samples in the network's own input range, and the class of each."""

    x: Tensor  # (sample, ...), floating
    y: Tensor  # (sample,), int64

    __repr__ = brief_repr

    def __post_init__(self) -> None:
        if len(self.x) == 0:
            raise InputError("no samples to learn from; give at least one")
        if len(self.x) != len(self.y):
            raise InputError(
                f"{len(self.x)} samples but {len(self.y)} labels; give one label a sample"
            )

    def __len__(self) -> int:
        return len(self.x)

    def rows(self, index: Tensor) -> "DataTensors":
        """The samples at these positions, in this order."""
        return DataTensors(self.x[index], self.y[index])

    def only(self, index: Tensor) -> "DataTensors":
        """The same data with these samples alone."""
        return self.rows(index)

    def pieces(self, size: int) -> Iterator[tuple[Tensor, "DataTensors"]]:
        """All samples, at most `size` at a time, with their positions."""
        for index in torch.arange(len(self)).split(size):
            yield index, self.rows(index)

    def batches(self, size: int, generator: Generator) -> tuple[Tensor, ...]:
        """Positions for one pass in a fresh order, `size` a batch, for `rows`.

        An incomplete last batch is left out: its samples wait for the next order.
        """
        size = min(size, len(self))
        order = torch.randperm(len(self), generator=generator)
        return torch.split(order[: len(self) // size * size], size)

    def identity(self) -> dict[str, int | float | str]:
        """What must be equal for a stopped run to be continued on these samples."""
        return {"samples": len(self), "extra": 0, "extra share": 0.0, "data": _told(self)}


@dataclass(frozen=True, eq=False)
class SequenceData(DataTensors):
    """Sequences of different lengths: samples of one length meet in a batch, which ends where they do.

    Parameters
    ----------
    lengths : Tensor
        (sample,) int64, how many elements each sample has.
    """

    lengths: Tensor

    __repr__ = brief_repr

    def rows(self, index: Tensor) -> DataTensors:
        """The samples at these positions, up to their end; all of one length."""
        (length,) = self.lengths[index].unique().tolist()
        return DataTensors(self.x[index, :length], self.y[index])

    def only(self, index: Tensor) -> DataTensors:
        """The same data with these samples alone."""
        return SequenceData(self.x[index], self.y[index], self.lengths[index])

    def pieces(self, size: int) -> Iterator[tuple[Tensor, DataTensors]]:
        """All samples, at most `size` of one length at a time, with their positions."""
        for length in self.lengths.unique().tolist():
            for index in (self.lengths == length).nonzero().flatten().split(size):
                yield index, self.rows(index)

    def batches(self, size: int, generator: Generator) -> tuple[Tensor, ...]:
        """Positions for one pass in a fresh order, at most `size` of one length a batch.

        Batches that are not full are used, too: few samples may share a length.
        """
        order = torch.randperm(len(self), generator=generator)
        found = list[Tensor]()
        for length in self.lengths.unique().tolist():
            found += order[self.lengths[order] == length].split(size)
        return tuple(found[k] for k in torch.randperm(len(found), generator=generator).tolist())

    def identity(self) -> dict[str, int | float | str]:
        """As for plain samples, with their lengths."""
        told = content_hash({}, {"lengths": self.lengths})[:12]
        known = super().identity()
        return {**known, "data": f"{known['data']} {told}"}


@dataclass(frozen=True, eq=False)
class MixedData(DataTensors):
    """Samples, and others that every batch has a share of: pseudo-labelled ones, for example.

    A pass is over when all of its own samples were seen, `x` and `y`; the others come in an order
    of their own, drawn anew for every pass: within one, all of them before any comes again. The loop
    meets them by their positions, after the own ones (Carmon et al., NeurIPS 2019: share 1/2).

    Parameters
    ----------
    extra : DataTensors
        Of the same shape.
    share : float
        Of every batch, 0 < share < 1, rounded to whole samples with at least one of each kind.

    Raises
    ------
    InputError
        If the shapes differ or the share is outside its range.
    """

    extra: DataTensors
    share: float

    __repr__ = brief_repr

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.extra.x.shape[1:] != self.x.shape[1:]:
            raise InputError(
                f"extra samples have shape {tuple(self.extra.x.shape[1:])}, the others "
                f"{tuple(self.x.shape[1:])}: give samples for the same network"
            )
        if not 0 < self.share < 1:
            raise InputError(f"extra samples' share {self.share:g}: give 0 < share < 1 of a batch")

    def rows(self, index: Tensor) -> DataTensors:
        """The samples at these positions, the extra ones being counted after the own."""
        own, count = index < len(self), len(self)
        x = self.x.new_empty(len(index), *self.x.shape[1:])
        y = self.y.new_empty(len(index), *self.y.shape[1:])
        for here, source, shift in ((own, self, 0), (~own, self.extra, count)):
            x[here] = source.x[index[here] - shift].to(x)
            y[here] = source.y[index[here] - shift]
        return DataTensors(x, y)

    def only(self, index: Tensor) -> DataTensors:
        """The same data with these of its own samples alone, and all extra ones."""
        return MixedData(self.x[index], self.y[index], self.extra, self.share)

    def batches(self, size: int, generator: Generator) -> tuple[Tensor, ...]:
        """Positions for one pass over the own samples, every batch with its share of extra ones."""
        if size < 2:
            raise InputError(f"batch {size}: own and extra samples need 2 or more")
        size = min(size, max(2, int(len(self) / (1 - self.share))))  # few samples, small batches
        guests = min(max(round(self.share * size), 1), size - 1)
        own = DataTensors(self.x, self.y).batches(size - guests, generator)
        wanted = guests * len(own)
        orders = [
            torch.randperm(len(self.extra), generator=generator)
            for _ in range(-(-wanted // len(self.extra)))
        ]
        extra = torch.split(torch.cat(orders)[:wanted] + len(self), guests)
        return tuple(torch.cat(pair) for pair in zip(own, extra, strict=True))

    def identity(self) -> dict[str, int | float | str]:
        """As for plain samples, and how many extra ones in which share."""
        more = {"extra": len(self.extra), "extra share": self.share}
        return {"samples": len(self), **more, "data": f"{_told(self)} {_told(self.extra)}"}


def _told(data: DataTensors) -> str:
    """A hash by which other samples are told: of all labels, and of every 997th number."""
    x = data.x.reshape(-1)[::_STRIDE]
    return content_hash({}, {"x": x, "y": data.y})[:12]


def hold_out(
    data: DataTensors, count: int, generator: Generator
) -> tuple[DataTensors, DataTensors]:
    """Split off the last `count` samples of a drawn permutation: (to learn from, held out)."""
    if not 0 < count < len(data):
        raise InputError(
            f"cannot hold out {count} of {len(data)} samples; hold out 1 to {len(data) - 1}"
        )
    order = torch.randperm(len(data), generator=generator)
    return data.only(order[:-count]), data.only(order[-count:])
