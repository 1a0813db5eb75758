"""What ops say of themselves by their traits is so: rooms that ask for a trait rely on nothing else."""

import pytest
import torch
from torch import Tensor

from spikemorph.graph import InputError, Op
from spikemorph.graph.records import decode
from spikemorph.graph.tables import on_integers
from spikemorph.graph.traits import Moves, Pools, Weighted, carries_spikes
from spikemorph.layers.activation import Relay, ReLU
from spikemorph.layers.affine import ScaleShift
from spikemorph.layers.convolution import Convolution
from spikemorph.layers.joining import Add, Concat
from spikemorph.layers.linear import Linear
from spikemorph.layers.moving import channel_sources, moved
from spikemorph.layers.pooling import AveragePool, GlobalAverage, GlobalMax, MaxPool, SumPool
from spikemorph.layers.shape import Identity, Pad, Reshape, Transpose
from spikemorph.layers.slicing import Narrow

SHAPE, UNEVEN, ONE = (4, 5, 6), ((1, 0), (0, 2)), (1, 1)


def whole(*shape: int, seed: int = 0) -> Tensor:
    return torch.randint(-9, 10, shape, generator=torch.Generator().manual_seed(seed))


MOVES = (Concat(1), Concat(3), Reshape((20, 6)), Transpose((0, 3, 1, 2)), Pad(UNEVEN), Identity(),
         Narrow(1, 1, 2))  # fmt: skip
POOLS = (MaxPool((2, 3), (2, 1), UNEVEN, (1, 2)), SumPool((2, 3), (2, 1), UNEVEN), GlobalMax(),
         GlobalAverage(), AveragePool((2, 2), (2, 2), UNEVEN, ((0, 0),) * 2, True))  # fmt: skip
WEIGHTED = (Convolution(whole(6, 2, 3, 2), whole(6), (2, 1), UNEVEN, (1, 2), 2),
            Convolution(whole(2, 4, 5, 6), whole(2, 1, 1), ONE, ((0, 0),) * 2, ONE),
            Linear(whole(3, 6), whole(3)))  # fmt: skip
OTHERS = (ScaleShift(whole(4, 1, 1), whole(4, 1, 1)), ScaleShift(whole(4, 1, 1), torch.tensor(0)),
          Add((torch.tensor(1), torch.tensor(-1))), Linear(whole(3, 6), None))  # fmt: skip
each_op = pytest.mark.parametrize(
    "op", (*MOVES, *POOLS, *WEIGHTED, *OTHERS), ids=lambda op: type(op).__name__
)


def given(op: Op, seed: int = 1) -> list[Tensor]:
    return [
        whole(3, *SHAPE, seed=seed + k) for k in range(2 if isinstance(op, Add | Concat) else 1)
    ]


@each_op
def test_what_adds_nothing_makes_nothing_of_nothing(op: Op) -> None:
    made = op(*(torch.zeros_like(x, dtype=torch.float64) for x in given(op)))
    assert bool((made != 0).any()) == op.adds


@each_op
def test_what_is_idle_hands_on_what_it_gets(op: Op) -> None:
    first, *_ = given(op)
    made = op(*(x.double() for x in given(op)))
    assert op.idle == (made.shape == first.shape and torch.equal(made, first.double()))


@pytest.mark.parametrize("op", MOVES, ids=lambda op: type(op).__name__)
def test_what_moves_makes_only_what_it_reads_or_zero(op: Moves) -> None:
    read = [x * 1000 + torch.arange(x[0].numel()).reshape(x[0].shape) for x in given(op)]
    made = on_integers[type(op)](op, *read)
    assert set(made.unique().tolist()) <= {0, *torch.cat([x.flatten() for x in read]).tolist()}


@pytest.mark.parametrize("op", POOLS, ids=lambda op: type(op).__name__)
def test_what_pools_stays_in_its_channel_and_commutes_with_factors(op: Pools) -> None:
    (x,) = (x.double() for x in given(op))
    made = op(x)
    torch.testing.assert_close(op(3 * x), 3 * made)
    other = x.clone()
    other[:, 1:] = 7
    assert torch.equal(op(other)[:, 0], made[:, 0])
    bent = torch.tanh(x / 9)
    assert torch.allclose(op(bent), torch.tanh(made / 9)) == op.picks


@pytest.mark.parametrize("op", POOLS, ids=lambda op: type(op).__name__)
def test_channels_do_not_meet_in_a_pool_padded_or_not(op: Pools) -> None:
    """Windows at the border hold fewer cells, but those of one channel."""
    assert channel_sources(op, [SHAPE]).tolist() == [0, 1, 2, 3]
    assert moved(op, [(1, 2, 1, 3)], [SHAPE]) == (1, 2, 1, 3)


def test_channels_of_several_inputs_are_counted_through() -> None:
    """Side by side they stay apart; along positions those of one number meet, unless they are one."""
    shapes = [(2, 3), (1, 3)]
    assert channel_sources(Concat(1), shapes).tolist() == [0, 1, 2]
    assert moved(Concat(1), [(5,), (7,)], shapes) == (5, 5, 7)
    assert channel_sources(Concat(2), [(2, 3), (2, 4)]) is None
    assert moved(Concat(2), [(5,), (7,)], [(2, 3), (2, 4)]) is None
    assert moved(Concat(2), [(5,), (5, 5)], [(2, 3), (2, 4)]) == (5,)


@pytest.mark.parametrize("op", [POOLS[0], POOLS[1], POOLS[2]], ids=lambda op: type(op).__name__)
def test_windows_are_counted_cell_by_cell(op: Pools) -> None:
    """A cell that towers above all others, or is the only one, is seen once in each of its windows."""
    counted = torch.zeros(SHAPE, dtype=torch.int64)
    for place in torch.cartesian_prod(*(torch.arange(n) for n in SHAPE)).tolist():
        x = torch.zeros(1, *SHAPE, dtype=torch.int64)
        x[(0, *place)] = 1
        counted[tuple(place)] = on_integers[type(op)](op, x).sum()
    assert torch.equal(op.windows(SHAPE), counted)


def test_a_window_has_its_cells() -> None:
    assert [op.cells(SHAPE) for op in POOLS[:3]] == [6, 6, 30]


@pytest.mark.parametrize("op", WEIGHTED, ids=lambda op: type(op).__name__)
def test_weights_take_the_scales_of_what_they_read(op: Weighted) -> None:
    (x,) = (x.double() for x in given(op))
    axis = op.reads % 3 + 1
    values = 2.0 ** torch.arange(x.shape[axis], dtype=torch.float64)
    beside = op.having(weight=op.weight.double() * op.beside(values))
    along = values.reshape(-1, *[1] * (3 - axis))
    assert torch.equal(beside.products(x), op.products(x * along))
    assert torch.equal(op.weight * op.beside(torch.tensor([3])), 3 * op.weight)
    assert op.bias is not None
    assert torch.equal(op(x), op.products(x) + op.spread(op.bias))


def test_local_says_whether_an_output_sees_everything() -> None:
    """A linear layer's does; a convolution is split by positions."""
    assert [op.local for op in WEIGHTED] == [True, True, False]


@pytest.mark.parametrize(
    "name", ["Op", "Moves", "Pools", "Weighted", "Fires", "Ends", "Activation"]
)
def test_a_file_cannot_hold_a_trait_for_an_op(name: str) -> None:
    """It has no meaning of its own, and would be found out only when it runs."""
    assert isinstance(decode({"record": "Identity", "fields": {}}, {}, "file"), Identity)
    with pytest.raises(InputError, match="not part of a stored network"):
        decode({"record": name, "fields": {}}, {}, "file")


def test_spikes_pass_what_moves_and_pools_and_end_at_sums(chain: object) -> None:
    assert callable(chain)
    graph = chain(
        (2, 4, 4), Pad(UNEVEN), Convolution(whole(2, 2, 1, 1), None, ONE, ((0, 0),) * 2, ONE),
        Transpose((0, 1, 3, 2)), ReLU(), MaxPool((2, 2), (2, 2), ((0, 0),) * 2, ONE),
        (Concat(1), "n4", "n4"), (Add((torch.tensor(1), torch.tensor(1))), "n5", "n5"), Relay(),
    )  # fmt: skip
    found = carries_spikes(graph)
    assert [found[f"n{k}"] for k in range(8)] == [True, False, False, True, True, True, False, True]
