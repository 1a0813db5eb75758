"""Layers whose memory is linear in itself: at once in torch, element by element when exported.

All elements at once is how such a layer is trained in reasonable time. torch.export sees a scan, a small
graph that runs along the sequence: what can be streamed, and converted. Both compute the same.
"""

import math

import torch
from torch import Generator, Tensor, nn
from torch._higher_order_ops.scan import scan
from torch.compiler import is_exporting
from torch.nn import functional as F


class LegendreMemory(nn.Module):
    """m' = A m + B x: a window of one number's past, as coefficients of Legendre polynomials.

    Voelker, Kajic and Eliasmith, NeurIPS 2019. Nothing of it is learnt.

    Parameters
    ----------
    order : int
        How many polynomials.
    window : int
        How many elements are remembered.
    bits : int, optional
        Binary places that A and B are rounded to; all that follows is of the rounded ones, so that what
        is trained is what an integer network computes.
    """

    def __init__(self, order: int, window: int, bits: int | None = None) -> None:
        super().__init__()
        self.order, self.window, self.bits = order, window, bits
        self.kept = nn.Buffer(torch.empty(order, order))  # A
        self.taken = nn.Buffer(torch.empty(order, 1))  # B
        self._known: tuple[object, Tensor] | None = None
        self.begin()

    def begin(self, generator: Generator | None = None) -> None:
        """Set A and B by their definition; nothing is drawn."""
        if self.kept.is_meta:  # without storage, values are not asked for
            return
        for own, value in zip((self.kept, self.taken), self._defined(), strict=True):
            own.copy_(value)

    def _defined(self) -> tuple[Tensor, Tensor]:
        kept, taken = legendre_system(self.order, self.window)
        if self.bits is None:
            return kept, taken
        return tuple(torch.round(value * 2**self.bits) / 2**self.bits for value in (kept, taken))

    def forward(self, x: Tensor) -> Tensor:
        """What is remembered of (sample, element, 1) after the last element: (sample, order)."""
        if is_exporting():
            return scan(self._step, torch.zeros(len(x), self.order).to(x), x, dim=1)[1][:, -1]
        return x[:, :, 0] @ self.response(x.shape[1])

    def _step(self, memory: Tensor, element: Tensor) -> tuple[Tensor, Tensor]:
        after = F.linear(memory, self.kept) + F.linear(element, self.taken)
        return after, after.clone()

    def response(self, count: int) -> Tensor:
        """What is left of each of `count` elements after the last one, A^k B: (element, order)."""
        of = (count, id(self.kept), self.kept._version, id(self.taken), self.taken._version)
        if self._known is None or self._known[0] != of:
            self._known = of, _powers(self.kept.double(), self.taken.double(), count).float()
        return self._known[1]


def legendre_system(order: int, window: int) -> tuple[Tensor, Tensor]:
    """A (order, order) and B (order, 1) in 64 bits: equations 1 and 2 of the paper, held at zero order.

    ``[A B; 0 1] = exp([a b; 0 0] / window)`` with ``a[i, j] = (2i + 1) (-1 if i < j else (-1)^(i-j+1))``
    and ``b[i] = (2i + 1) (-1)^i``.
    """
    row = torch.arange(order, dtype=torch.float64)[:, None]
    sign = torch.where(row < row.T, -1.0, 1 - 2 * ((row - row.T + 1) % 2))
    whole = torch.zeros(order + 1, order + 1, dtype=torch.float64)
    whole[:order, :order] = (2 * row + 1) * sign
    whole[:order, order:] = (2 * row + 1) * (1 - 2 * (row % 2))
    held = torch.linalg.matrix_exp(whole / window)
    return held[:order, :order], held[:order, order:]


def _powers(kept: Tensor, taken: Tensor, count: int) -> Tensor:
    """A^(count - 1) B to A^0 B, one below the other, by repeated squaring."""
    found = taken
    while found.shape[1] < count:
        found = torch.cat([kept @ found, found], 1)
        kept = kept @ kept
    return found[:, -count:].T.contiguous()


class MinGru(nn.Module):
    """h' = h + z (n - h): a gate z and a proposal n that read the element and not the state.

    Feng and others, "Were RNNs all we needed?", 2024, without their logarithms.
    """

    def __init__(self, inputs: int, states: int) -> None:
        super().__init__()
        self.states = states
        self.gate = nn.Linear(inputs, states)
        self.new = nn.Linear(inputs, states)

    def forward(self, x: Tensor) -> Tensor:
        """The state after every element of (sample, element, feature): (sample, element, state)."""
        if is_exporting():
            return scan(self._step, torch.zeros(len(x), self.states).to(x), x, dim=1)[1]
        gate = torch.sigmoid(self.gate(x))
        return along_all(1 - gate, gate * self.new(x))

    def _step(self, state: Tensor, element: Tensor) -> tuple[Tensor, Tensor]:
        gate = torch.sigmoid(self.gate(element))
        after = state + gate * (self.new(element) - state)
        return after, after.clone()


def along_all(kept: Tensor, taken: Tensor) -> Tensor:
    """h of ``h' = kept h + taken``, from zero, after every element on axis 1, in log2(elements) rounds.

    Two elements are one, of which more is kept: ``(k, t)`` before ``(K, T)`` is ``(K k, K t + T)``.
    """
    for round_ in range(math.ceil(math.log2(kept.shape[1]))):
        far = 2**round_
        earlier_kept, earlier_taken = kept[:, :-far], taken[:, :-far]
        taken = torch.cat([taken[:, :far], taken[:, far:] + kept[:, far:] * earlier_taken], 1)
        kept = torch.cat([kept[:, :far], kept[:, far:] * earlier_kept], 1)
    return taken
