"""Scores of channel groups by hand, and choices by them: how many, which, and never all."""

from collections.abc import Callable
from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from spikemorph.graph import Graph, InputError
from spikemorph.layers.activation import ReLU
from spikemorph.layers.convolution import Convolution
from spikemorph.layers.joining import Add
from spikemorph.layers.linear import Linear
from spikemorph.layers.masks import weight_of, weighted_nodes
from spikemorph.layers.normalisation import BatchNorm
from spikemorph.layers.shape import Reshape
from spikemorph.layers.slicing import Narrow
from spikemorph.prune.channel_choice import (
    ChannelScores,
    FilterNorm,
    NormGain,
    Scope,
    channel_scores,
    choose_channels,
)
from spikemorph.prune.channel_groups import Coupling, couple_channels
from spikemorph.prune.channels import remove_channels
from spikemorph.sources.models import load_graph

Chain = Callable[..., Graph]
ONE, NONE = (1, 1), ((0, 0), (0, 0))


def conv(*rows: list[float]) -> Convolution:
    """A 1x1 convolution with these rows, without a bias."""
    return Convolution(torch.tensor(rows)[:, :, None, None], None, ONE, NONE, ONE)


def norm(*gains: float) -> BatchNorm:
    zero, one = torch.zeros(len(gains)), torch.ones(len(gains))
    return BatchNorm(zero, one, torch.tensor(gains), zero, 1e-5)


def linear(outputs: int, inputs: int) -> Linear:
    return Linear(torch.ones(outputs, inputs), None)


def by_channel(coupling: Coupling, values: Tensor, name: str) -> list[float]:
    """A layer's groups' values, in the order of its channels."""
    found: list[float] = values[coupling.outputs[name].channels].tolist()
    return found


@pytest.fixture
def block(chain: Chain) -> Coupling:
    """n0, then a sum of n2 and n0's output: both have three channels, coupled; n5 stands alone."""
    return couple_channels(
        chain(
            (2, 1, 1),
            conv([1, -2], [3, 4], [0, 0.5]),
            norm(0.5, -2.0, 1.0),
            (conv([1, 1, -1], [0, 0, 5], [2, 0, 0]), "n1"),
            (Add((torch.tensor(1.0), torch.tensor(1.0))), "n1", "n2"),
            ReLU(),
            conv([1, 0, 0], [-10, 0, 0], [0.1, 0, 0], [2, 2, 2]),
            norm(1.0, 1.0, 3.0, 2.0),
            Reshape((4,)),
            linear(2, 4),
        )
    )


def test_scores_are_sums_over_coupled_channels(block: Coupling) -> None:
    """L1: |1| + |-2| of n0 plus 1 + 1 + 1 of n2 is 6, then 7 + 5 and 0.5 + 2; L2: sqrt 5 + sqrt 3."""
    scores = channel_scores(block, FilterNorm(1))
    assert by_channel(block, scores.total, "n0") == [6.0, 12.0, 2.5]
    assert by_channel(block, scores.mean, "n2") == [3.0, 6.0, 1.25]
    assert by_channel(block, scores.total, "n5") == pytest.approx([1, 10, 0.1, 6])
    lengths = by_channel(block, channel_scores(block, FilterNorm(2)).total, "n2")
    assert lengths == pytest.approx([5**0.5 + 3**0.5, 5 + 5, 0.5 + 2])


def test_scores_of_gains(block: Coupling) -> None:
    """Absolute gains; n2 has no norm of its own, so the group's mean is that of n1 alone."""
    scores = channel_scores(block, NormGain())
    assert by_channel(block, scores.mean, "n2") == [0.5, 2.0, 1.0]
    assert by_channel(block, scores.count, "n2") == [1.0, 1.0, 1.0]


def test_a_layer_without_a_norm_has_no_gain_score() -> None:
    coupling = couple_channels(load_graph("zoo:digits_mlp").graph)
    with pytest.raises(InputError, match="layer 'linear1': its channels have no NormGain score"):
        channel_scores(coupling, NormGain())


@pytest.mark.parametrize(
    ("share", "scope", "want"),
    [
        (0.0, Scope.LAYER, {}),
        (0.32, Scope.LAYER, {"n5": (2,)}),  # 1.92 of 6 is not a pair; 1 of 4
        (1 / 3, Scope.LAYER, {"n0": (2,), "n2": (2,), "n5": (2,)}),
        (0.5, Scope.LAYER, {"n0": (2,), "n2": (2,), "n5": (0, 2)}),
        (0.99, Scope.LAYER, {"n0": (0, 2), "n2": (0, 2), "n5": (0, 2, 3)}),
        (1 - 0.9, Scope.NETWORK, {"n5": (2,)}),  # 0.9999999999999998 of 10 channels is one
        (0.2, Scope.NETWORK, {"n5": (0, 2)}),
        (0.3, Scope.NETWORK, {"n5": (0, 2, 3)}),  # no room for the pair of 1.25: the next that fits
        (0.4, Scope.NETWORK, {"n0": (2,), "n2": (2,), "n5": (0, 2)}),
        (0.6, Scope.NETWORK, {"n0": (0, 2), "n2": (0, 2), "n5": (0, 2)}),
        (0.7, Scope.NETWORK, {"n0": (0, 2), "n2": (0, 2), "n5": (0, 2, 3)}),
    ],
)
def test_choices(
    block: Coupling, share: float, scope: Scope, want: dict[str, tuple[int, ...]]
) -> None:
    """Mean L1 scores: pairs 3, 6, 1.25 in n0 and n2; 1, 10, 0.1, 6 in n5."""
    assert choose_channels(block, channel_scores(block, FilterNorm()), share, scope) == want


def test_the_last_channel_of_a_layer_is_spared_if_others_can_go(chain: Chain) -> None:
    """Half of 6 over the network: all of n0 scores lowest, so its better channel stays."""
    graph = chain(
        (1, 1, 1), conv([0.1], [0.2]), conv([1, 1], [2, 2], [3, 3], [4, 4]), Reshape((4,)),
        linear(2, 4),
    )  # fmt: skip
    coupling = couple_channels(graph)
    scores = channel_scores(coupling, FilterNorm())
    assert choose_channels(coupling, scores, 0.5, Scope.NETWORK) == {"n0": (0,), "n1": (0, 1)}


def test_refusals(block: Coupling, chain: Chain) -> None:
    scores = channel_scores(block, FilterNorm())
    for share in (-0.1, 1.0, float("nan")):
        with pytest.raises(InputError, match=r"a share of .* of the channels: give 0 to below 1"):
            choose_channels(block, scores, share)
    with pytest.raises(InputError, match="a share of 0.9 of the channels would empty layer 'n0'"):
        choose_channels(block, scores, 0.9, Scope.NETWORK)
    parts = chain(
        (1, 1, 1), conv([1], [2], [3]), Narrow(1, 0, 1), (Narrow(1, 1, 2), "n0"), Reshape((2,)),
        linear(2, 2), (Reshape((1,)), "n1"), linear(2, 1),
        (Add((torch.tensor(1.0), torch.tensor(1.0))), "n4", "n6"),
    )  # fmt: skip
    coupling = couple_channels(parts)
    scores = channel_scores(coupling, FilterNorm())
    assert choose_channels(coupling, scores, 0.34) == {"n0": (1,)}  # 0 would empty the first part
    with pytest.raises(InputError, match="would empty layer 'n1'"):
        choose_channels(coupling, scores, 0.67)


@cache
def digits_resnet() -> Graph:
    return load_graph("zoo:digits_resnet").graph


@settings(deadline=None, max_examples=40)
@given(share=st.floats(0, 0.99), scope=st.sampled_from(Scope), seed=st.integers(0, 3))
def test_any_share_leaves_a_network(share: float, scope: Scope, seed: int) -> None:
    """Whatever the scores: no more than the share goes, every layer keeps a channel, all can go."""
    graph = digits_resnet()
    coupling = couple_channels(graph)
    count = len(coupling.groups)
    drawn = torch.rand(count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    scores = ChannelScores(drawn, torch.ones(count))
    removable = sum(group.size for group in coupling.groups if group.pinned is None)
    try:
        removed = choose_channels(coupling, scores, share, scope)
    except InputError as error:
        assert "would empty" in str(error) and share > 0.8
        return
    gone = sum(len(channels) for channels in removed.values())
    assert gone <= share * removable + 1e-6
    assert gone >= share * removable - 3 * (4 if scope is Scope.LAYER else 1)  # 3 in a group
    small = remove_channels(graph, removed)
    for node in weighted_nodes(small):
        before, after = (len(weight_of(g[node.name])) for g in (graph, small))
        assert 1 <= after == before - len(removed.get(node.name, ()))
