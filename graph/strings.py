"""Strings that are said letter by letter at positions, and how far one is from another."""

import torch
from torch import Tensor

NOTHING = 0  # the class that says no letter; past a string's end, too


def read(said: Tensor) -> Tensor:
    """The strings in the classes said at positions, (..., position) int64, filled up with `NOTHING`.

    A class that is said again at the next position is one letter, and `NOTHING` is none (Graves and
    others, ICML 2006: the best path).

    >>> read(torch.tensor([0, 3, 3, 0, 3, 5]))
    tensor([3, 3, 5, 0, 0, 0])
    """
    before = torch.cat([torch.full_like(said[..., :1], NOTHING), said[..., :-1]], -1)
    kept = (said != before) & (said != NOTHING)
    order = torch.argsort((~kept).to(torch.int8), dim=-1, stable=True)
    return torch.gather(torch.where(kept, said, NOTHING), -1, order)


def filled_up(strings: Tensor, length: int) -> Tensor:
    """Strings (..., letter) at a length, `NOTHING` behind them; letters beyond it are left out."""
    more = length - strings.shape[-1]
    return strings[..., :length] if more <= 0 else torch.nn.functional.pad(strings, (0, more))


def edits(found: Tensor, wanted: Tensor) -> Tensor:
    """(string,) the fewest letters put in, left out or changed that make one string of another.

    Both are (string, letter), `NOTHING` past their ends.

    >>> edits(torch.tensor([[1, 2, 0], [4, 4, 4]]), torch.tensor([[1, 2, 3], [4, 0, 0]]))
    tensor([1, 2])
    """
    ends = [(strings != NOTHING).sum(-1) for strings in (found, wanted)]
    across, down = found.shape[1], wanted.shape[1]
    row = torch.arange(across + 1).expand(len(found), -1)
    rows = [row]
    for index in range(down):
        new = [torch.full((len(found),), index + 1)]
        for place in range(across):
            differs = (found[:, place] != wanted[:, index]).to(torch.int64)
            change = row[:, place] + differs
            new.append(torch.minimum(torch.minimum(row[:, place + 1], new[-1]) + 1, change))
        row = torch.stack(new, 1)
        rows.append(row)
    table = torch.stack(rows, 1)
    return table[torch.arange(len(found)), ends[1], ends[0]]
