"""Bounds of what reading a model may compute: its constants, and one sample at every node."""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_map

from spikemorph.graph.watching import Watcher

SAMPLE = 2**26  # elements of one sample at one node: 256 MiB in single precision
WORK = 2**36  # multiplications or comparisons of one sample in one node
_FREE = 2**26  # elements of constants that any file may compute: half a GiB at most
_PER_BYTE = 16  # and more for each byte of the file

aten: Any = torch.ops.aten


class TooLargeError(Exception):
    """What would be computed is out of proportion; says what."""


class Budget:
    """What constants, and copies of a scan's body, may still cost, in elements made or products taken."""

    def __init__(self, stored: int) -> None:
        self.left = _FREE + _PER_BYTE * stored

    def spend(self, amount: int, what: str = "its constant value") -> None:
        """Take an amount, or raise `TooLargeError`, which says for what."""
        if amount > self.left:
            raise TooLargeError(
                f"{what} takes {amount} elements or products, more than a file of this size may "
                f"compute ({self.left} are left); store what is constant, or remove outputs"
            )
        self.left -= amount


def require_sample(shape: tuple[int, ...], what: str) -> None:
    """Raise `TooLargeError` where one sample of this shape is too large to compute with."""
    count = math.prod(shape)
    if count > SAMPLE:
        raise TooLargeError(f"{what} of {count} elements {shape} for one sample, {SAMPLE} are read")


@contextmanager
def bounded_sample(samples: int) -> Iterator[None]:
    """Bound everything that is computed inside for so many samples; see `TooLargeError`."""

    def check(elements: int, work: int) -> None:
        if elements > SAMPLE * samples:
            raise TooLargeError(
                f"it makes {elements // samples} elements of one sample, {SAMPLE} are read"
            )
        if work > WORK * samples:
            raise TooLargeError(
                f"it takes {work // samples} operations for one sample, {WORK} are read"
            )

    with _Measured(check):
        yield


@contextmanager
def bounded_constants(budget: Budget) -> Iterator[None]:
    """Charge everything that is computed inside to a budget, before it is computed."""
    with _Measured(lambda elements, work: budget.spend(max(elements, work))):
        yield


class _Measured(Watcher):
    """Tells how much every operator makes: of what holds memory, before it is made."""

    def __init__(self, check: Callable[[int, int], None]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.check = check

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        given = kwargs or {}
        tensors = [item for item in tree_flatten((args, given))[0] if isinstance(item, Tensor)]
        if any(item.is_meta for item in tensors):
            made = func(*args, **given)
            self._tell(func, args, tensors, made)
            return made
        if not func.is_view and func.overloadpacket not in _NO_LARGER:
            self._tell(func, args, tensors, _on_nothing(func, args, given))
        return func(*args, **given)

    def _tell(self, func: Any, args: tuple[Any, ...], read: list[Tensor], made: Any) -> None:
        if func.is_view:
            return
        looked_at = sum(item.numel() for item in read)  # of a view, more than memory holds
        sizes = [item.numel() for item in tree_flatten(made)[0] if isinstance(item, Tensor)]
        steps: Callable[..., int] = _STEPS.get(func.overloadpacket, _one)
        self.check(sum(sizes), max(looked_at, max(sizes, default=0) * steps(*args)))


def _on_nothing(func: Any, args: tuple[Any, ...], given: Mapping[str, Any]) -> Any:
    """What an operator makes, without its memory."""

    def empty(item: Any) -> Any:
        if not isinstance(item, Tensor):
            return torch.device("meta") if isinstance(item, torch.device) else item
        return torch.empty_strided(item.shape, item.stride(), dtype=item.dtype, device="meta")

    known = dict(tree_map(empty, dict(given)))
    if any(argument.name == "device" for argument in func._schema.arguments):
        known["device"] = torch.device("meta")
    return func(*tree_map(empty, args), **known)


def _one(*args: Any) -> int:
    return 1


def _weights(x: Any, weight: Any, *rest: Any) -> int:
    """Products that a convolution takes for an output."""
    return int(weight[0].numel())


def _window(x: Any, kernel: Any, *rest: Any) -> int:
    """Cells that a pool reads for an output."""
    return math.prod(kernel)


def _reduced(x: Any, *rest: Any) -> int:
    """Products that a matrix product takes for an output."""
    return int(x.shape[-1]) if x.dim() else 1


# Operators of more work than one step for an element that they make, with how many steps.
_STEPS: Mapping[Any, Callable[..., int]] = {
    aten.convolution: _weights,
    aten.max_pool2d_with_indices: _window,
    aten.max_pool3d_with_indices: _window,
    aten.avg_pool2d: _window,
    aten.avg_pool3d: _window,
    aten.mm: _reduced,
    aten.bmm: _reduced,
    aten.mv: _reduced,
    aten.dot: _reduced,
    aten.addmm: lambda bias, *factors: _reduced(*factors),
    aten.linalg_inv_ex: _reduced,
}
# Operators whose output's size depends on values, and is never above that of what they read.
_NO_LARGER = {aten._local_scalar_dense, aten.nonzero, aten.masked_select, aten.is_nonzero}

# The operators that are computed on constants: they make tensors of tensors, and nothing else. A file
# decides what is called, so that the list is of what may be, not of what may not: among torch's
# operators are some that open files, and some that write into their arguments without saying so.
_CREATED = """
    arange empty eye full full_like linspace new_full new_ones new_zeros ones ones_like scalar_tensor
    zeros zeros_like tril triu
"""
_MOVED = """
    _reshape_alias _to_copy _unsafe_view alias broadcast_tensors cat chunk clone contiguous detach
    detach_ diagonal expand expand_as flatten flip gather index index_select lift_fresh_copy movedim
    narrow permute repeat repeat_interleave reshape roll select slice split split_with_sizes squeeze
    stack t to transpose type_as unbind unflatten unsqueeze view view_as pad constant_pad_nd
"""
_COMPUTED = """
    abs add addmm amax amin bitwise_and bitwise_not bitwise_or bmm ceil clamp clamp_max clamp_min cos
    cumsum div dot einsum eq exp expm1 floor floor_divide fmod ge gt inverse le log log1p logical_and
    logical_not logical_or lt matmul maximum mean minimum mm mul mv ne neg outer pow prod reciprocal
    relu remainder round rsqrt rsub sigmoid sign sin softmax softplus sqrt square std sub sum tanh
    true_divide trunc var where linalg_norm linalg_vector_norm norm _weight_norm linear max min argmax
    argmin
"""
FOLDABLE = frozenset(f"{_CREATED} {_MOVED} {_COMPUTED}".split())
