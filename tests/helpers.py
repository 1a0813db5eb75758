"""What several test files draw and check in the same way."""

import torch
from torch import Tensor


def draw(*shape: int, seed: int = 0) -> Tensor:
    """Standard normal float32 numbers."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def refused(found: tuple[int, str, str], *words: str, status: int = 2) -> None:
    """A command ended with that exit status and one line of error, with these words in it."""
    assert found[0] == status, found
    assert len(found[2].strip().splitlines()) == 1, found[2]
    for word in words:
        assert word in found[2], found[2]
