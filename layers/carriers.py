"""Carry whole numbers in the fastest number type that cannot round them, and take products in it.

A float whose mantissa has m bits holds every integer up to ``2**m``, and adds and multiplies them
without rounding as long as no sum of absolute values, in any order, passes ``2**m``. That bound is
proved from the weights (`Range.load`). What the proof cannot see, a library that computes float32
products in another way (Winograd transforms, TF32, bfloat16), is checked by a probe at extreme values;
float64 products have no such ways. Beyond 53 bits integers are carried in int64, and products are taken
of parts of one factor, whose sums float64 holds: int64 products are several times slower.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from spikemorph.graph import GraphError
from spikemorph.graph.traits import Weighted

SINGLE, DOUBLE = 2.0**24, 2.0**53
WIDEST = 2.0**62  # int64 holds a sum below it, and twice what it is put together from
Key = tuple[Any, ...]

_MANY = 16  # samples from which on libraries take other ways (NNPACK: Winograd)


def carrier(load: float, name: str) -> torch.dtype:
    """The number type for a node whose sums of absolute values stay at or below `load`.

    Raises
    ------
    GraphError
        If the sums may not fit 62 bits; the node is named.
    """
    if load >= WIDEST:
        raise GraphError(_too_wide(load, name, 62))
    return torch.int64 if load >= DOUBLE else float_carrier(load, name)


def float_carrier(load: float, name: str) -> torch.dtype:
    """As `carrier`, among the types that gradients pass.

    Raises
    ------
    GraphError
        If the sums may not fit 53 bits; the node is named.
    """
    if load >= DOUBLE:
        raise GraphError(_too_wide(load, name, 53))
    return torch.float32 if load < SINGLE else torch.float64


def _too_wide(load: float, name: str, bits: int) -> str:
    return (
        f"node {name!r}: its sums may reach {load:.3g}, beyond the {bits} bits that are kept exactly; "
        "use fewer weight bits or a coarser input grid"
    )


class Products:
    """Weighted layers on whole numbers; remembers for which shapes float32 was seen to be exact."""

    def __init__(self) -> None:
        self._kinds: dict[Key, torch.dtype] = {}

    def __call__(self, op: Weighted, x: Tensor, bounds: tuple[float, float]) -> Tensor:
        """The products of whole weights and whole inputs, without the bias; gradients pass.

        `bounds` are the largest absolute input and an upper bound of the sums of absolute products,
        below ``2**53``.
        """
        return op.products(x.to(self.kind(op, tuple(x.shape[1:]), bounds, x.device)))

    def kind(
        self,
        op: Weighted,
        shape: tuple[int, ...],
        bounds: tuple[float, float],
        device: torch.device,
    ) -> torch.dtype:
        """Float32 where the bounds allow it and the probe, for this shape and device, agrees."""
        peak, load = bounds
        if load >= SINGLE:
            return torch.float64
        held = (getattr(op, field.name) for field in fields(op))
        settings = tuple(value for value in held if not isinstance(value, Tensor))
        key = (device, shape, tuple(op.weight.shape), settings, peak, load)
        if key not in self._kinds:
            exact = _probed(op, shape, bounds, device)
            self._kinds[key] = torch.float32 if exact else torch.float64
        return self._kinds[key]

    def of(
        self,
        op: Weighted,
        shape: tuple[int, ...],
        bounds: tuple[float, float],
        device: torch.device,
    ) -> "Product":
        """The products of one layer, ready for inputs of one `shape` (of a sample) on a device.

        Its weights are whole; `bounds` are as in a call, the sums below ``2**62``.
        """
        bare = op.having(bias=None, mask=None)
        if bounds[1] < DOUBLE:
            kind = self.kind(op, shape, bounds, device)
            return Product((bare.having(weight=op.weight.to(device, kind)),), kind)
        return _split(bare, bounds, device)


@dataclass(frozen=True, eq=False)
class Product:
    """The exact products of one layer, without its bias.

    Parameters
    ----------
    ops : tuple of Weighted
        The layer; or, where its weights are split, the layers of their parts, the coarsest first.
    kind : torch.dtype
        Float32 or float64: what the products are computed in.
    shift : int
        Bits from one part to the next.
    inputs : int
        Into how many parts inputs are split; 1 for none.
    """

    ops: tuple[Weighted, ...]
    kind: torch.dtype
    shift: int = 0
    inputs: int = 1

    def __call__(self, x: Tensor) -> Tensor:
        """(sample, *output shape) sums of products: floats, or int64 where a factor is split."""
        if len(self.ops) == 1 and self.inputs == 1:
            return self.ops[0].products(x.to(self.kind))
        parts = [x] if self.inputs == 1 else parts_of(x.to(torch.int64), self.shift, self.inputs)
        pairs = [(op, part) for op in self.ops for part in parts]  # one of the two is alone
        sums = [op.products(part.to(self.kind)).to(torch.int64) for op, part in pairs]
        total = sums[0]
        for finer in sums[1:]:
            total = (total << self.shift) + finer
        return total


def parts_of(values: Tensor, shift: int, count: int) -> list[Tensor]:
    """Integers as ``sum(part << shift * place)``, the coarsest part first.

    All parts but the coarsest lie in ``[-2**(shift - 1), 2**(shift - 1))``.

    >>> parts_of(torch.tensor([1000, -7]), 4, 2)
    [tensor([63,  0]), tensor([-8, -7])]
    """
    found, half = list[Tensor](), 1 << (shift - 1)
    for _ in range(count - 1):
        fine = ((values + half) & ((1 << shift) - 1)) - half
        found.insert(0, fine)
        values = (values - fine) >> shift
    return [values, *found]


def _split(op: Weighted, bounds: tuple[float, float], device: torch.device) -> Product:
    """The products of sums from 53 to 62 bits: the wider factor in as many parts as it takes."""
    peak, weight = int(bounds[0]), op.weight.to(torch.int64)
    largest, span = int(weight.abs().max()), _most(weight)
    by_input = peak > largest
    bits, count = max(peak, largest).bit_length(), 2
    while True:
        shift = -(-(bits + 1) // count)
        if by_input:
            loads = [span * max((peak >> shift * (count - 1)) + 1, 1 << (shift - 1))]
        else:
            loads = [_most(part) * peak for part in parts_of(weight, shift, count)]
        if max(loads) < DOUBLE:
            break
        count += 1
    weights = [weight] if by_input else parts_of(weight, shift, count)
    ops = tuple(op.having(weight=part.to(device, torch.float64)) for part in weights)
    return Product(ops, torch.float64, shift, count if by_input else 1)


def _most(weight: Tensor) -> int:
    """The largest sum of absolute weights of an output."""
    return int(weight.abs().flatten(1).sum(1).max())


@torch.no_grad()
def _probed(
    op: Weighted, shape: Sequence[int], bounds: tuple[float, float], device: torch.device
) -> bool:
    """Whether products as large as allowed come out exactly in float32, for few samples and many.

    One sample and one half of the outputs are of one sign, so that their sums come near the bound; the
    others are of both. Libraries choose their way by shape and number of samples, not by values.
    """
    peak, load = max(1, int(bounds[0])), int(bounds[1])
    draw = torch.Generator().manual_seed(1)  # of its own: any numbers will do
    widest = max(1, load // (op.weight[0].numel() * peak))
    signal = torch.randint(-peak, peak + 1, (2, *shape), generator=draw)
    weight = torch.randint(-widest, widest + 1, op.weight.shape, generator=draw)
    weight.flatten(1)[:, load // (peak * widest) :] = 0  # more would pass the bound
    signal[1], weight[::2] = signal[1].abs(), weight[::2].abs()
    one = op.having(weight=weight.double(), bias=None, mask=None).products(signal.double())
    single = op.having(weight=weight.to(device, torch.float32), bias=None, mask=None)
    given = signal.to(device, torch.float32)
    copies = _MANY // 2
    wide = [1, *[1] * (one.dim() - 1)]
    few = single.products(given[:1]).cpu().double()
    many = single.products(given.repeat(copies, *wide[1:])).cpu().double()
    return torch.equal(few, one[:1]) and torch.equal(many, one.repeat(copies, *wide[1:]))
