"""Block patterns: small rectangles of the weight matrix are kept or go as a whole."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from spikemorph.graph import Graph, InputError

from .allocation import Uniform
from .masked import one_shot
from .methods import methods
from .patterns import as_matrix, as_weight
from .task import PruneTask


@dataclass(frozen=True)
class Block:
    """The blocks of largest root mean square, then training under the mask.

    Blocks are counted, not weights: a share of ``1 - sparsity`` of the blocks is kept, by layer
    unless the task says otherwise. Where a layer is no multiple of the block, blocks at its far
    edges are smaller.

    Parameters
    ----------
    outputs, inputs : int
        Neighbouring outputs (rows) and inputs (columns, input channels innermost) of one block.
    """

    name: ClassVar[str] = "block"
    outputs: int = 4
    inputs: int = 1

    def __post_init__(self) -> None:
        if self.outputs < 1 or self.inputs < 1:
            raise InputError(f"blocks of {self.outputs}x{self.inputs}: give 1 or more each way")

    def __call__(self, task: PruneTask) -> Graph:
        weights = task.magnitudes()
        scores = {name: self.norms(weight) for name, weight in weights.items()}
        chosen = (task.allocation or Uniform()).masks(scores, task.sparsity)
        masks = {name: self.spread(mask, weights[name]) for name, mask in chosen.items()}
        return one_shot(self, task, task.checked(masks))

    def norms(self, weight: Tensor) -> Tensor:
        """(block row, block column) root mean square of every block, over the weights it has."""
        squares = self._sums(as_matrix(weight).square())
        return (squares / self._sums(torch.ones_like(as_matrix(weight)))).sqrt()

    def _sums(self, matrix: Tensor) -> Tensor:
        rows, columns = matrix.shape
        whole = F.pad(matrix, (0, -columns % self.inputs, 0, -rows % self.outputs))
        tall = whole.reshape(-(-rows // self.outputs), self.outputs, -1, self.inputs)
        return tall.sum((1, 3))

    def spread(self, chosen: Tensor, weight: Tensor) -> Tensor:
        """A bool for every block as one for every weight."""
        rows, columns = as_matrix(weight).shape
        each = chosen.repeat_interleave(self.outputs, 0).repeat_interleave(self.inputs, 1)
        return as_weight(each[:rows, :columns], weight)


methods(Block.name)(Block())
