"""Laws of allocations: exact counts, no more than asked for, nested masks; published densities."""

import math
from collections.abc import Mapping

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from spikemorph.graph import InputError
from spikemorph.prune import Allocation, ErdosRenyi, Given, Lamp, Ranked, Uniform
from spikemorph.prune.allocation import (
    best,
    erdos_renyi_counts,
    erdos_renyi_densities,
    kept_of,
    lamp_scores,
    whole_counts,
)

GLOBAL = [ErdosRenyi(), Ranked(), Lamp()]
NESTED = [Uniform(), Ranked(), Lamp()]


def kind(allocation: Allocation) -> str:
    return type(allocation).__name__


shapes = st.lists(
    st.one_of(
        st.tuples(st.integers(1, 12), st.integers(1, 12)),
        st.tuples(st.integers(1, 6), st.integers(1, 6), st.just(3), st.just(3)),
    ),
    min_size=1,
    max_size=5,
)
sparsities = st.one_of(
    st.floats(0, 1, exclude_max=True), st.sampled_from([0.0, 0.5, 0.9, 0.95, 0.99])
)


def magnitudes(sizes: list[tuple[int, ...]], seed: int, levels: int = 0) -> dict[str, Tensor]:
    """Half-normal scores, of a few values only where `levels` is given (ties)."""
    generator = torch.Generator().manual_seed(seed)
    drawn = [torch.randn(size, generator=generator).double().abs() for size in sizes]
    rounded = [(d * levels).round() / levels if levels else d for d in drawn]
    return {f"layer{i}": d for i, d in enumerate(rounded)}


def counts(masks: Mapping[str, Tensor]) -> dict[str, int]:
    return {name: int(mask.sum()) for name, mask in masks.items()}


@pytest.mark.parametrize("allocation", GLOBAL, ids=kind)
@settings(max_examples=60, deadline=None)
@given(sizes=shapes, sparsity=sparsities, seed=st.integers(0, 99), levels=st.sampled_from([0, 2]))
def test_a_budget_over_all_layers_is_met_exactly(
    allocation: Allocation, sizes: list[tuple[int, ...]], sparsity: float, seed: int, levels: int
) -> None:
    scores = magnitudes(sizes, seed, levels)
    masks = allocation.masks(scores, sparsity)
    total = sum(math.prod(size) for size in sizes)
    assert sum(counts(masks).values()) == kept_of(total, sparsity)
    assert abs(kept_of(total, sparsity) - (1 - sparsity) * total) < 1
    assert all(masks[name].shape == score.shape for name, score in scores.items())
    assert all(mask.dtype == torch.bool for mask in masks.values())


@settings(max_examples=60, deadline=None)
@given(sizes=shapes, sparsity=sparsities, seed=st.integers(0, 99))
def test_a_uniform_share_is_met_in_every_layer(
    sizes: list[tuple[int, ...]], sparsity: float, seed: int
) -> None:
    masks = Uniform().masks(magnitudes(sizes, seed), sparsity)
    wanted = [math.floor((1 - sparsity) * math.prod(size) + 1e-6) for size in sizes]
    assert list(counts(masks).values()) == wanted


@pytest.mark.parametrize("allocation", NESTED, ids=kind)
@settings(max_examples=60, deadline=None)
@given(sizes=shapes, pair=st.tuples(sparsities, sparsities), levels=st.sampled_from([0, 2]))
def test_what_is_kept_at_a_higher_sparsity_is_kept_at_a_lower_one(
    allocation: Allocation, sizes: list[tuple[int, ...]], pair: tuple[float, float], levels: int
) -> None:
    """Ties included: they are broken by position."""
    scores = magnitudes(sizes, 0, levels)
    loose, tight = (allocation.masks(scores, sparsity) for sparsity in sorted(pair))
    assert all(not bool((tight[name] & ~loose[name]).any()) for name in scores)


@pytest.mark.parametrize("allocation", [*GLOBAL, Uniform()], ids=kind)
def test_the_best_of_a_layer_are_kept(allocation: Allocation) -> None:
    scores = magnitudes([(8, 9), (4, 4, 3, 3)], 3)
    for name, mask in allocation.masks(scores, 0.7).items():
        assert scores[name][mask].min() >= scores[name][~mask].max()


def test_of_equal_scores_the_first_are_kept() -> None:
    scores = torch.tensor([[1.0, 2.0, 1.0], [2.0, 1.0, 1.0]])
    assert best(scores, 4).tolist() == [[True, True, True], [True, False, False]]
    assert best(scores, 0).any().item() is False


def test_rounding_of_one_minus_the_sparsity_costs_no_weight() -> None:
    """(1 - 0.9) 10 is 0.9999999999999998; a tenth of 15,302,848 is 1,530,284.8."""
    assert kept_of(10, 0.9) == 1
    assert kept_of(15_302_848, 0.9) == 1_530_284
    assert kept_of(15_302_848, 0.99) == 153_028
    assert kept_of(7, 0.0) == 7


VGG16: dict[str, tuple[int, ...]] = {
    f"conv{i}": (out, inputs, 3, 3)
    for i, (inputs, out) in enumerate(
        [(3, 64), (64, 64), (64, 128), (128, 128), (128, 256), (256, 256), (256, 256),
         (256, 512), (512, 512), (512, 512), (512, 512), (512, 512), (512, 512)]
    )
} | {"linear1": (256, 2048), "linear2": (256, 256), "linear3": (10, 256)}  # fmt: skip


def test_erdos_renyi_densities_are_the_published_ones() -> None:
    """VGG-16 for CIFAR-10 at a tenth, as the table of initial densities of HARP has them."""
    wanted = [1, 0.518, 0.383, 0.253, 0.188, 0.125, 0.125, 0.094, *[0.062] * 5, 0.626, 1, 1]
    found = erdos_renyi_densities(VGG16, 0.9)
    assert sum(math.prod(shape) for shape in VGG16.values()) == 15_302_848
    assert list(found.values()) == pytest.approx(wanted, abs=1e-3)


def test_erdos_renyi_by_hand() -> None:
    """(10, 10) and (100, 10) at a tenth: 110 of 1,100 are left.

    Summed shapes are 20 and 110, so c = 110 / 130; the layers keep 16.92 and 93.08: whole numbers
    that sum to 110 are 17 and 93.
    """
    sizes = {"a": (10, 10), "b": (100, 10)}
    found = erdos_renyi_densities(sizes, 0.9)
    assert found == pytest.approx({"a": 20 * 110 / 130 / 100, "b": 110 * 110 / 130 / 1000})
    assert erdos_renyi_counts(sizes, 0.9) == {"a": 17, "b": 93}


@settings(max_examples=100, deadline=None)
@given(
    shares=st.lists(st.floats(0, 1), min_size=1, max_size=6),
    sizes=st.lists(st.integers(1, 40), min_size=6, max_size=6),
)
def test_whole_counts_sum_and_stay_within_one_of_the_exact(
    shares: list[float], sizes: list[int]
) -> None:
    most = {f"n{i}": sizes[i] for i in range(len(shares))}
    exact = {name: share * most[name] for name, share in zip(most, shares, strict=True)}
    total = round(sum(exact.values()))
    found = whole_counts(exact, most, total)
    assert sum(found.values()) == total
    assert all(0 <= found[name] <= most[name] for name in most)
    assert all(abs(found[name] - exact[name]) < 1 + 1e-5 for name in most)


def test_whole_counts_take_away_where_rounding_gave_too_much() -> None:
    """Both are 3 but for rounding and 5 are to be kept: one of them gives one back, at most 3 stay."""
    exact = {"a": 3 - 1e-7, "b": 3 - 1e-7}
    assert sorted(whole_counts(exact, {"a": 3, "b": 9}, 5).values()) == [2, 3]
    assert whole_counts(exact, {"a": 3, "b": 9}, 8) == {"a": 3, "b": 5}


def test_lamp_scores_by_hand() -> None:
    """Sizes 1, 2, 3: squares 1, 4, 9; scores 1/14, 4/13, 9/9, at their places; zeros score 0."""
    found = lamp_scores(torch.tensor([[3.0, 1.0], [2.0, 0.0]]))
    assert found.flatten().tolist() == pytest.approx([1.0, 1 / 14, 4 / 13, 0.0])


def test_lamp_empties_no_layer_before_all_are_down_to_one() -> None:
    """The global ranking empties the small layer; LAMP leaves both their largest weight."""
    scores = {"small": torch.full((10,), 1e-6), "large": torch.ones(90)}
    assert counts(Ranked().masks(scores, 0.9)) == {"small": 0, "large": 10}
    assert min(counts(Lamp().masks(scores, 0.9)).values()) >= 1
    assert counts(Lamp().masks(scores, 0.98)) == {"small": 1, "large": 1}


def test_given_densities_are_used_as_they_are() -> None:
    scores = magnitudes([(10, 10), (5, 4)], 0)
    masks = Given({"layer0": 0.07, "layer1": 1.0}).masks(scores, 0.5)
    assert counts(masks) == {"layer0": 7, "layer1": 20}


@pytest.mark.parametrize(
    ("densities", "message"),
    [
        ({"layer0": 0.1}, r"layers \['layer1'\] have none or do not exist"),
        ({"layer0": 0.1, "layer1": 0.1, "head": 1}, r"layers \['head'\]"),
        ({"layer0": 0.1, "layer1": 1.5}, r"layer 'layer1': density 1.5; give 0 to 1"),
        ({"layer0": math.nan, "layer1": 0.5}, r"layer 'layer0': density nan"),
    ],
)
def test_densities_that_do_not_fit_are_refused(densities: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Given(densities).masks(magnitudes([(10, 10), (5, 4)], 0), 0.5)
