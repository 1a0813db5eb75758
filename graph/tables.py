"""The tables that layer files fill: one row says what one kind of op means in one world."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Generic, TypeVar

Row = TypeVar("Row", bound=Callable[..., Any])


class Table(Generic[Row], Mapping[Any, Row]):
    """Rows entered by decorating a function with one or more keys; no key has two rows.

    A class without a row of its own has that of its nearest base class.

    >>> doubles: Table[Callable[[int], int]] = Table("doubles")
    >>> @doubles("two")
    ... def double(x: int) -> int:
    ...     return 2 * x
    >>> doubles["two"](4)
    8
    >>> @doubles(int)
    ... def double_number(x: int) -> int:
    ...     return 2 * x
    >>> doubles[bool] is doubles[int]
    True
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._rows: dict[Any, Row] = {}

    def __call__(self, *keys: Any) -> Callable[[Row], Row]:
        """Enter the decorated function under every key."""

        def enter(row: Row) -> Row:
            for key in keys:
                if key in self._rows:
                    known = self._rows[key].__qualname__
                    raise ValueError(f"{self.name} already has a row for {key}: {known}")
                self._rows[key] = row
            return row

        return enter

    def __getitem__(self, key: Any) -> Row:
        near = key.__mro__ if isinstance(key, type) else (key,)
        for own in near:
            if own in self._rows:
                return self._rows[own]
        raise KeyError(key)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)


# How a source spells the op. Key: ONNX operator name, or torch operator (OpOverload).
# Row: a call whose constants are known -> the op, or a chain of ops, that computes it.
reads_onnx: Table[Callable[..., Any]] = Table("reads_onnx")
reads_torch: Table[Callable[..., Any]] = Table("reads_torch")

# What the op computes on integers: (op, *int64 tensors) -> int64 tensor. Key: op class.
on_integers: Table[Callable[..., Any]] = Table("on_integers")

# How the op passes on increments in time. Key: op class. Row: (op, *increments) ->
# increments, without the constant part; or `accumulate`, where sums must be formed first.
on_increments: Table[Callable[..., Any]] = Table("on_increments")

# Bounds of the op's integer output: (op, *ranges) -> range. Key: op class.
on_ranges: Table[Callable[..., Any]] = Table("on_ranges")

# How the op passes a box (`layers.boxes`): (op, *boxes) -> box, on whole numbers as on reals, with
# gradients. Key: op class.
on_boxes: Table[Callable[..., Any]] = Table("on_boxes")

# How a lower bound that is linear in the op's output becomes one that is linear in its inputs
# (`layers.lines`): (op, *boxes of its inputs) -> passing. Key: op class; what is linear needs none.
on_lines: Table[Callable[..., Any]] = Table("on_lines")

# What one unit of the op's integer output is worth. Key: op class. Row: (op, scales of its inputs, per
# channel or one for all, shapes of one sample's inputs) -> its scale; None where its inputs must first be
# brought to one scale, which it then has.
on_scales: Table[Callable[..., Any]] = Table("on_scales")

# What an op is in canonical form, where it is not itself. Key: op class. Row: (op, *shapes of one
# sample's inputs) -> a chain of (ending of the node's name, op), the last without an ending; None
# where it stays.
opens: Table[Callable[..., Any]] = Table("opens")

# The op for sequences of one element: (op, `Places`) -> (op, axis of the elements of what it makes, None
# where it is of the last element alone); a `Refusal` where it looks at several. Key: op class.
one_at_a_time: Table[Callable[..., Any]] = Table("one_at_a_time")

# The op with a constant scale and shift folded in: behind it, (op, scale, shape between) -> op, and
# ahead of it, (op, scale, shape ahead) -> op; None where that cannot be. Key: op class.
takes_scale_behind: Table[Callable[..., Any]] = Table("takes_scale_behind")
takes_scale_ahead: Table[Callable[..., Any]] = Table("takes_scale_ahead")

# What to apply behind the op instead of a scale on one of its inputs: (op, scale, shapes of one
# sample's inputs, which input) -> scale; None where they do not commute. Key: op class.
hands_scale_on: Table[Callable[..., Any]] = Table("hands_scale_on")
