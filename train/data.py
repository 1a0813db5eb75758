"""What a network learns from: samples with their labels, and the samples held back from it."""

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from spikemorph.graph.errors import InputError


@dataclass(frozen=True, eq=False)
class DataTensors:
    """Samples in the network's own input range, and the class of each."""

    x: Tensor  # (sample, ...), floating
    y: Tensor  # (sample,), int64

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


def hold_out(
    data: DataTensors, count: int, generator: Generator
) -> tuple[DataTensors, DataTensors]:
    """Split off the last `count` samples of a drawn permutation: (to learn from, held out)."""
    if not 0 < count < len(data):
        raise InputError(
            f"cannot hold out {count} of {len(data)} samples; hold out 1 to {len(data) - 1}"
        )
    order = torch.randperm(len(data), generator=generator)
    return data.rows(order[:-count]), data.rows(order[-count:])
