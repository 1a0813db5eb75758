"""What calibration sees: quantiles do not drift with the number of samples; ends are never lost."""

import torch

from spikemorph.graph import Graph, Input, Node
from spikemorph.layers.activation import ReLU
from spikemorph.quant import RateCoding
from spikemorph.quant.observe import KEPT, observe
from spikemorph.quant.rates import rate_steps

CHANNELS, PLACES = 8, 40
GRAPH = Graph(
    (Node("x", Input((CHANNELS, PLACES))), Node("relu", ReLU(), ("x",))), ("x",), ("relu",)
)


def draw(count: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(count)
    return torch.randn(count, CHANNELS, PLACES, generator=generator).exp()


def test_the_greatest_value_is_known_however_much_is_thinned_out() -> None:
    x = draw(4000)
    assert x.numel() > 2 * KEPT
    x[1234, 5, 6] = 1e6
    seen = observe(GRAPH, x)["relu"]
    assert seen.values.numel() < x.numel()
    assert float(seen.ends[5, 1]) == 1e6
    assert seen.rows().amax(1).tolist() == seen.ends[:, 1].tolist()


def test_quantiles_per_channel_are_those_of_all_values() -> None:
    """99.9 % of exp(normal): its relative standard error is s / (f(q) q sqrt(n)).

    For z = 3.09 the density of the normal is 0.00337, so with n kept values per channel the
    quantile's logarithm has a standard error of sqrt(0.999 * 0.001 / n) / 0.00337; five of these,
    and 2 % of rounding to few bits, are allowed. More samples must not push it towards the maximum.
    """
    for count in (500, 4000):
        (steps,) = rate_steps(GRAPH, draw(count), RateCoding(0.999)).values()
        kept = observe(GRAPH, draw(count))["relu"].values.shape[1]
        allowed = 5 * (0.999 * 0.001 / kept) ** 0.5 / 0.00337 + 0.02
        for unit in steps.unit:
            assert abs(torch.tensor(float(unit)).log() - 3.0902) <= allowed


def test_a_quantile_of_one_is_the_greatest_value() -> None:
    x = draw(600)
    (steps,) = rate_steps(GRAPH, x, RateCoding(1.0)).values()
    for channel, unit in enumerate(steps.unit):
        assert abs(float(unit) / float(x[:, channel].max()) - 1) <= 1 / 64
