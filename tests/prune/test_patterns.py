"""Laws of patterns: exactly N of every M, blocks whole, the strongest kept."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from spikemorph.graph import InputError
from spikemorph.prune.block import Block
from spikemorph.prune.nm import Nm, largest_in_groups
from spikemorph.prune.patterns import as_matrix, as_weight

shapes = st.one_of(
    st.tuples(st.integers(1, 12), st.integers(1, 30)),
    st.tuples(st.integers(1, 5), st.integers(1, 9), st.integers(1, 3), st.integers(1, 3)),
)


def sizes_of(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).double().abs()


@given(shape=shapes)
def test_a_matrix_goes_back_to_its_weight(shape: tuple[int, ...]) -> None:
    weight = sizes_of(shape)
    assert torch.equal(as_weight(as_matrix(weight), weight), weight)
    assert as_matrix(weight).shape == (shape[0], weight[0].numel())


def test_neighbouring_columns_are_neighbouring_channels() -> None:
    """Of a (1, 3, 1, 2) weight: position 0's three channels, then position 1's."""
    weight = torch.tensor([[[[10.0, 11.0]], [[20.0, 21.0]], [[30.0, 31.0]]]])
    assert as_matrix(weight).tolist() == [[10, 20, 30, 11, 21, 31]]


@settings(max_examples=100, deadline=None)
@given(shape=shapes, group=st.integers(2, 8), data=st.data())
def test_exactly_n_of_every_m_are_kept(
    shape: tuple[int, ...], group: int, data: st.DataObject
) -> None:
    """A shorter last group keeps its share, rounded up; nothing kept is below what goes."""
    kept = data.draw(st.integers(1, group))
    sizes = sizes_of(shape)
    mask, matrix = as_matrix(largest_in_groups(sizes, kept, group)), as_matrix(sizes)
    for start in range(0, matrix.shape[1], group):
        part, values = mask[:, start : start + group], matrix[:, start : start + group]
        width = part.shape[1]
        assert (part.sum(1) == -(-kept * width // group)).all()
        for row, value in zip(part, values, strict=True):
            assert row.all() or value[row].min() >= value[~row].max()


def test_two_of_four_by_hand() -> None:
    """Ties keep the first; the last two columns keep one of two."""
    sizes = torch.tensor([[4.0, 1.0, 3.0, 2.0, 5.0, 6.0], [1.0, 1.0, 1.0, 1.0, 0.0, 0.0]])
    found = largest_in_groups(sizes, 2, 4).int().tolist()
    assert found == [[1, 0, 1, 0, 0, 1], [1, 1, 0, 0, 1, 0]]


def test_groups_run_along_input_channels() -> None:
    """Each position of a kernel keeps 2 of its 4 input channels."""
    mask = largest_in_groups(sizes_of((3, 4, 3, 3)), 2, 4)
    assert (mask.sum(1) == 2).all()


@settings(max_examples=100, deadline=None)
@given(shape=shapes, block=st.tuples(st.integers(1, 4), st.integers(1, 4)), data=st.data())
def test_blocks_are_whole(
    shape: tuple[int, ...], block: tuple[int, int], data: st.DataObject
) -> None:
    """A block's weights share one fate, and as many blocks are kept as were chosen."""
    method, sizes = Block(*block), sizes_of(shape)
    norms = method.norms(sizes)
    bits = st.lists(st.booleans(), min_size=norms.numel(), max_size=norms.numel())
    chosen = torch.tensor(data.draw(bits)).reshape(norms.shape)
    mask = as_matrix(method.spread(chosen, sizes))
    rows, columns = mask.shape
    for i, j in ((i, j) for i in range(norms.shape[0]) for j in range(norms.shape[1])):
        part = mask[i * block[0] : (i + 1) * block[0], j * block[1] : (j + 1) * block[1]]
        assert part.numel() > 0
        assert (part == chosen[i, j]).all()
    assert norms.shape == (-(-rows // block[0]), -(-columns // block[1]))


def test_block_norms_by_hand() -> None:
    """Root mean squares: (3, 4) -> sqrt(12.5); the block at the edge has one weight, not two."""
    found = Block(2, 1).norms(torch.tensor([[3.0, 1.0], [4.0, 1.0], [2.0, 0.0]]).double())
    assert found.tolist() == [[12.5**0.5, 1.0], [2.0, 0.0]]
    wide = Block(1, 2).norms(torch.tensor([[3.0, 4.0, 5.0]]).double())
    assert wide.tolist() == [[12.5**0.5, 5.0]]


@pytest.mark.parametrize("wrong", [(0, 1), (4, 0)])
def test_blocks_of_nothing_are_refused(wrong: tuple[int, int]) -> None:
    with pytest.raises(InputError, match="give 1 or more each way"):
        Block(*wrong)


def test_groups_of_one_are_refused() -> None:
    with pytest.raises(InputError, match="nm in groups of 1: give 2 or more"):
        Nm(1)
