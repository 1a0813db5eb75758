"""N:M patterns: N weights of every M neighbouring inputs are kept, as sparse tensor cores want it."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from spikemorph.graph import Graph, InputError

from .masked import one_shot
from .methods import methods
from .patterns import as_matrix, as_weight
from .task import PruneTask


@dataclass(frozen=True)
class Nm:
    """The N largest of every `group` weights in a row of inputs, then training under the mask.

    N follows from the task's sparsity: 2:4 is sparsity 0.5 in groups of 4 (Mishra et al.,
    arXiv 2104.08378). Groups run along the input channels of one output, from one position of a
    kernel to the next; the last of a row may be shorter and then keeps its share, rounded up.

    Parameters
    ----------
    group : int
        M.
    """

    name: ClassVar[str] = "nm"
    group: int = 4

    def __post_init__(self) -> None:
        if self.group < 2:
            raise InputError(f"nm in groups of {self.group}: give 2 or more")

    def __call__(self, task: PruneTask) -> Graph:
        kept = self.kept(task)
        masks = {n: largest_in_groups(s, kept, self.group) for n, s in task.magnitudes().items()}
        return one_shot(self, task, task.checked(masks))

    def kept(self, task: PruneTask) -> int:
        """N.

        Raises
        ------
        InputError
            If the sparsity is no whole N, or the task has an allocation, which a pattern is already.
        """
        if task.allocation is not None:
            raise InputError(
                f"method nm: every layer has the same pattern; leave {task.allocation} out"
            )
        kept = round((1 - task.sparsity) * self.group)
        if kept < 1 or abs((1 - task.sparsity) * self.group - kept) > 1e-6:
            known = ", ".join(f"{k / self.group:g}" for k in range(self.group))
            raise InputError(
                f"sparsity {task.sparsity:g} is no pattern in groups of {self.group}: choose {known}"
            )
        return kept


def largest_in_groups(sizes: Tensor, kept: int, group: int) -> Tensor:
    """The mask of the `kept` largest of every `group`; of equal ones, the first."""
    matrix = as_matrix(sizes)
    rows, columns = matrix.shape
    short = columns % group
    groups = F.pad(matrix, (0, -columns % group), value=-1.0).reshape(rows, -1, group)
    place = torch.argsort(groups, dim=-1, descending=True, stable=True).argsort(-1)
    most = torch.full((groups.shape[1], 1), kept, device=sizes.device)
    if short:
        most[-1] = -(-kept * short // group)
    return as_weight((place < most).reshape(rows, -1)[:, :columns], sizes)


methods(Nm.name)(Nm())
