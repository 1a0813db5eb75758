"""Quantised networks: aligned scales, folded norms, and the error that is left."""

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest
import torch
from helpers import draw
from torch import Tensor

from spikemorph.convert import canonical
from spikemorph.graph import Graph, Input, run
from spikemorph.graph.grid import Grid
from spikemorph.graph.interpret import integer_compute, run_integers, shapes, walk
from spikemorph.graph.saving import graph_hash
from spikemorph.graph.traits import Weighted
from spikemorph.layers.activation import (
    Activation,
    Clip,
    LeakyReLU,
    Relay,
    ReLU,
    Sigmoid,
    Tanh,
)
from spikemorph.layers.affine import ScaleShift
from spikemorph.layers.convolution import Convolution
from spikemorph.layers.joining import Add, Concat
from spikemorph.layers.linear import Linear
from spikemorph.layers.pooling import AveragePool, GlobalMax, MaxPool, SumPool
from spikemorph.layers.readout import Readout
from spikemorph.layers.shape import Pad, Reshape, Transpose
from spikemorph.layers.slicing import Narrow
from spikemorph.quant import Max, Quantisation, correction, quantise_graph
from spikemorph.quant.observe import choose_steps
from spikemorph.quant.prepare import ready
from spikemorph.quant.scale_plan import Plan
from spikemorph.quant.scales import as_reals

Build = Callable[..., Any]
ONE, NONE, SAME = (1, 1), ((0, 0), (0, 0)), ((1, 1), (1, 1))
DYADIC = Grid(Fraction(1, 64), 0, 64)
TIE = 1e-10  # far below one unit of any accumulator here, far above float64's rounding


def points(count: int, *shape: int, grid: Grid = DYADIC, seed: int = 9) -> Tensor:
    """Samples that lie on the grid."""
    x = torch.rand(count, *shape, generator=torch.Generator().manual_seed(seed))
    return grid.to_values(grid.to_integers(x))


def residual(chain: Build) -> Graph:
    """Two convolutions and their residual sum, concatenated with the input; then classes."""
    conv = Convolution(draw(4, 2, 3, 3) / 3, draw(4, seed=1) / 4, ONE, SAME, ONE)
    inner = Convolution(draw(4, 4, 3, 3, seed=2) / 4, draw(4, seed=3) / 4, ONE, SAME, ONE)
    graph: Graph = chain(
        (2, 4, 4),
        conv,
        ReLU(),
        inner,
        (Add((torch.tensor(1.0), torch.tensor(-1.0))), "n2", "n1"),
        Relay(),
        (Concat(1), "n4", "x", "n1"),
        MaxPool((2, 2), (2, 2), NONE, ONE),
        SumPool((2, 2), (1, 1), NONE),
        Reshape((10,)),
        Linear(draw(3, 10, seed=4), draw(3, seed=5)),
    )
    return graph


def planned(graph: Graph, x: Tensor, chosen: Quantisation) -> tuple[Graph, Plan]:
    """The prepared float graph and its plan, as `quantise_graph` makes them."""
    body, _ = ready(graph)
    steps = choose_steps(body, x, chosen)
    return body, Plan(body, shapes(body), DYADIC.step, steps, chosen.largest_weight)


def integers_of(graph: Graph, x: Tensor) -> dict[str, Tensor]:
    """What every node of an integer graph computes from reals on the grid."""
    steps = walk(graph, DYADIC.to_integers(x), integer_compute(graph))
    return {node.name: value for node, value in steps}


def wide(values: Tensor, like: Tensor) -> Tensor:
    return values.reshape(1, -1, *[1] * (like.dim() - 2))


@pytest.mark.parametrize("bits", [2, 4, 8, 16])
@pytest.mark.parametrize("levels", [3, 16, 300])
def test_the_integer_network_is_a_fake_quantised_one(bits: int, levels: int, chain: Build) -> None:
    """Node by node, up to float64: real value = scale * integer; ties go up.

    Joins and pools commute with the scales; ladders round the real activation; weighted layers use
    ``scale_out / scale_in`` times the integer weight.
    """
    graph, x = residual(chain), points(30, 2, 4, 4)
    chosen = Quantisation(levels, bits, bias_correction=False)
    body, plan = planned(graph, x, chosen)
    integer = quantise_graph(graph, x, DYADIC, chosen)
    whole = integers_of(integer, x)
    reals = {"x": x.double()}
    for node in body.nodes[1:]:
        inputs = [reals[name] for name in node.inputs]
        op, scale = node.op, as_reals(plan.scale(node.name))
        if isinstance(op, Weighted):
            own = integer[node.name].op
            assert isinstance(own, Weighted) and own.bias is not None
            source = inputs[0] / wide(as_reals(plan.scale(node.inputs[0])), inputs[0])
            wanted = own.products(source) * wide(scale, inputs[0])
            wanted = wanted + wide(own.bias * scale, wanted)
        elif isinstance(op, Activation):
            steps = plan.steps[node.name]
            unit = wide(as_reals(steps.unit), inputs[0])
            level = torch.floor(op(inputs[0]) / unit + 0.5 + TIE)
            wanted = level.clamp(steps.smin, steps.smax) * unit
        else:
            wanted = op(*inputs)
        found = whole[node.name] * wide(scale, whole[node.name])
        assert torch.allclose(found, wanted, rtol=TIE, atol=TIE), node.name
        reals[node.name] = found
    readout = integer[integer.outputs[0]].op
    assert isinstance(readout, Readout)
    ends = readout.real(whole[integer.outputs[0]]), reals[body.outputs[0]]
    assert torch.allclose(*ends, rtol=TIE, atol=TIE)


@pytest.mark.parametrize("bits", [2, 3, 4, 5, 6, 7, 8, 16])
def test_weights_fit_their_bits_and_are_rounded_to_nearest(bits: int, chain: Build) -> None:
    """Symmetric; more than 4 bits clip nothing, so every weight is within half a unit."""
    graph, x = residual(chain), points(30, 2, 4, 4)
    chosen = Quantisation(16, bits, bias_correction=False)
    body, plan = planned(graph, x, chosen)
    integer = quantise_graph(graph, x, DYADIC, chosen)
    for node in body.nodes:
        if not isinstance(node.op, Weighted):
            continue
        own = integer[node.name].op
        assert isinstance(own, Weighted) and own.bias is not None
        assert not own.weight.is_floating_point()
        assert int(own.weight.abs().max()) <= 2 ** (bits - 1) - 1
        unit = as_reals(plan.scale(node.name)).reshape(-1, *[1] * (own.weight.dim() - 1))
        errors = (own.weight * unit - plan.weights(node)).abs() / unit
        if bits > 4:
            assert float(errors.max()) <= 0.5 + 1e-9
        if bits == 16:
            assert int(own.weight.abs().max()) > 2**13  # the range is used


@pytest.mark.parametrize("seed", range(4))
def test_batch_norms_go_into_the_ladder(seed: int, chain: Build) -> None:
    """Gains of all signs: levels are those of ``relu(gain C + shift)``, but near a crossing.

    A shift is kept to 1/64 of an accumulator unit, a gain to 16 bits: nothing else moves.
    """
    gain, shift = draw(6, seed=seed), draw(6, seed=seed + 50) / 2
    gain[0], gain[1], shift[0] = 0.0, -gain[1].abs(), 0.7
    conv = Convolution(draw(6, 2, 3, 3, seed=seed) / 3, draw(6, seed=7) / 4, ONE, SAME, ONE)
    scale = ScaleShift(gain[:, None, None], shift[:, None, None])
    graph = chain((2, 4, 4), conv, scale, ReLU(), Reshape((96,)), Linear(draw(3, 96), None))
    x = points(20, 2, 4, 4)
    chosen = Quantisation(16, 8, Max(), bias_correction=False)
    body, plan = planned(graph, x, chosen)
    integer = quantise_graph(graph, x, DYADIC, chosen)
    values = integers_of(integer, x)
    unit = as_reals(plan.scale("n0"))
    before = wide(unit, values["n0"]) * values["n0"]
    real = before * wide(gain.double(), before) + wide(shift.double(), before)
    step = wide(as_reals(plan.steps["n2"].unit), real)
    wanted = torch.floor(real.clamp(min=0) / step + 0.5).clamp(0, 15)
    doubt = (wide(unit, real) / 128 + real.abs() * 2.0**-15) / step
    near = ((real / step + 0.5) - (real / step + 0.5).round()).abs() <= doubt
    assert torch.equal(values["n2"].double()[~near], wanted[~near])
    assert float(near.double().mean()) < 0.05
    assert values["n2"][:, 0].unique().numel() == 1 and int(values["n2"].max()) == 15


def graphs(chain: Build) -> dict[str, Graph]:
    """Networks that each need one thing aligned, absorbed or relayed."""
    conv = Convolution(draw(4, 2, 3, 3) / 3, draw(4, seed=1) / 4, ONE, SAME, ONE)
    other = Convolution(draw(4, 4, 3, 3, seed=2) / 4, draw(4, seed=3) / 4, ONE, SAME, ONE)
    half = Add((torch.tensor(1.0), torch.tensor(0.5)))
    plus = Add((torch.tensor(1.0), torch.tensor(1.0)))
    mean = AveragePool((2, 2), (2, 2), NONE, NONE, True)
    edge = AveragePool((3, 3), (2, 2), SAME, NONE, False)
    split = (Narrow(1, 0, 2), "n1"), (Narrow(1, 2, 2), "n1"), (plus, "n2", "n3")
    spread = torch.tensor([0.1, 1.0, 0.3, 4.0, 2.0])[:, None]

    def classes(size: int) -> tuple[Any, Any]:
        return Reshape((size,)), Linear(draw(3, size, seed=8) / 3, draw(3, seed=9))

    image = (2, 4, 4)
    return {
        "pooled sums": chain(image, conv, mean, *classes(16)),
        "pooled sums, activation after": chain(image, conv, mean, ReLU(), *classes(16)),
        "average of what counts": chain(image, conv, edge, LeakyReLU(0.1), *classes(16)),
        "padded sums": chain(image, conv, Pad(SAME), ReLU(), *classes(144)),
        "half of a branch": chain(image, conv, ReLU(), other, (half, "n1", "n2"), ReLU(), *classes(64)),
        "parts of channels": chain(image, conv, ReLU(), *split, ReLU(), *classes(32)),
        "turned": chain(image, conv, Transpose((0, 2, 1, 3)), Sigmoid(), *classes(64)),
        "linear per position": chain(
            (12,), Linear(draw(12, 12), None), ReLU(), Reshape((3, 4)),
            Linear(draw(5, 4) * spread, draw(5)), Tanh(), *classes(15),
        ),
        "input beside spikes": chain(
            (8,), Linear(draw(8, 8), draw(8)), ReLU(), (Concat(1), "x", "n1"), *classes(16)
        ),
        "sums twice": chain(image, conv, ReLU(), other, (plus, "n2", "n2"), Tanh(), *classes(64)),
        "two readers": chain(
            image, conv, ReLU(), other, ReLU(), (Tanh(), "n2"), (plus, "n3", "n4"), *classes(64)
        ),
        "never zero": chain((8,), Linear(draw(8, 8), None), Clip(0.5, 2.0), *classes(8)),
        "never positive": chain((8,), Linear(draw(8, 8), None), Clip(-2.0, -0.5), *classes(8)),
        "tiny gain": chain(
            (8,), Linear(draw(8, 8), None), ReLU(),
            ScaleShift(torch.tensor(2.0**-20), torch.tensor(0.0)),
        ),
        "overlapping maximum": chain(
            image, conv, MaxPool((3, 3), (1, 1), SAME, ONE), Tanh(), GlobalMax(), *classes(4)
        ),
        "no activation": chain((8,), Linear(draw(3, 8), draw(3))),
    }  # fmt: skip


NAMES = (
    "pooled sums", "pooled sums, activation after", "average of what counts", "padded sums",
    "half of a branch", "parts of channels", "turned", "linear per position",
    "input beside spikes", "sums twice", "two readers", "never zero", "never positive",
    "tiny gain", "overlapping maximum", "no activation",
)  # fmt: skip


def gap(graph: Graph, x: Tensor, chosen: Quantisation, grid: Grid = DYADIC) -> float:
    """The largest error of the integer network's real outputs, relative to the largest output."""
    integer = quantise_graph(graph, x, grid, chosen)
    readout = integer[integer.outputs[0]].op
    assert isinstance(readout, Readout)
    found = readout.real(run_integers(integer, grid.to_integers(x)))
    wanted = run(graph, x).double()
    return float((found - wanted).abs().max() / wanted.abs().max())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("grid", [DYADIC, Grid.of(0.0, 1.0)], ids=["dyadic", "1/255"])
def test_more_levels_leave_less_error(name: str, grid: Grid, chain: Build) -> None:
    """16-bit weights: with 4096 levels within 0.5 %, and far better than with 8 levels."""
    graph = canonical(graphs(chain)[name])
    entry = graph[graph.inputs[0]].op
    assert isinstance(entry, Input)
    x = points(40, *entry.shape, grid=grid)
    coarse, fine = (gap(graph, x, Quantisation(n, 16, Max()), grid) for n in (8, 4096))
    assert fine <= 0.005
    assert fine <= coarse / 8 or coarse <= 1e-4


def test_all_networks_are_named(chain: Build) -> None:
    assert set(graphs(chain)) == set(NAMES)


def mean_errors(graph: Graph, x: Tensor, chosen: Quantisation, samples: Tensor) -> list[float]:
    """Of every weighted layer, the largest of its channels' mean errors, in units of its sums."""
    body, plan = planned(graph, x, chosen)
    integer = quantise_graph(graph, x, DYADIC, chosen)
    reals = {n.name: v.double() for n, v in walk(body, samples, lambda n, *i: n.op(*i))}
    found = integers_of(integer, samples)
    return [
        float(
            ((reals[n.name] / wide(as_reals(plan.scale(n.name)), reals[n.name])) - found[n.name])
            .transpose(0, 1).flatten(1).mean(1).abs().max()
        )
        for n in body.nodes
        if isinstance(n.op, Weighted)
    ]  # fmt: skip


def test_biases_take_up_the_mean_error_of_the_first_samples(chain: Build) -> None:
    """Of 600 samples 256 are measured: their mean errors go below half a unit where all agree.

    The first layer's samples are all alike in kind, so what is measured helps the others too.
    """
    graph, x = residual(chain), points(600, 2, 4, 4)
    chosen = Quantisation(8, 3)
    after = mean_errors(graph, x, chosen, x[:256])
    before = mean_errors(graph, x, replace(chosen, bias_correction=False), x[:256])
    assert after[0] <= 0.5 + 1e-9 < before[0]
    assert sum(after) < sum(before) / 2


def test_a_correction_that_harms_other_samples_is_left_out(chain: Build) -> None:
    """The samples that judge differ from those measured: what the mean of these asks for is wrong.

    Weights of two bits read bright inputs first, then dark ones.
    """
    graph, bright = residual(chain), points(100, 2, 4, 4)
    dark = DYADIC.to_values(DYADIC.to_integers(points(50, 2, 4, 4, seed=1) / 16))
    chosen = Quantisation(8, 2)
    plain = replace(chosen, bias_correction=False)

    def networks(x: Tensor) -> list[Graph]:
        return [quantise_graph(graph, x, DYADIC, one) for one in (chosen, plain)]

    def error(integer: Graph, x: Tensor) -> float:
        readout = integer[integer.outputs[0]].op
        assert isinstance(readout, Readout)
        found = readout.real(run_integers(integer, DYADIC.to_integers(x)))
        return float((found - run(graph, x)).square().mean())

    for others in (bright[:50], dark):
        x = torch.cat([bright, others])
        with_it, without = (error(network, others) for network in networks(x))
        assert with_it <= without
    corrected, bare = networks(bright)
    assert error(corrected, bright[67:]) < error(bare, bright[67:])


def test_a_channel_is_corrected_where_the_others_agree() -> None:
    """Two samples miss 3 and 3, 4 and 2, -1 and 7 on average; two others miss 0, 3 and, at worst, 1."""
    missing = torch.tensor([[3.0, 4, -1], [3, 2, 7], [0, 3, 1], [0, 3, 1]])
    assert correction._correction(missing, 2).tolist() == [0, 3, 0]


def test_all_corrections_together_must_help_the_outputs(
    chain: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever was measured: where outputs of the samples that judge get worse, none is kept."""
    graph, x = residual(chain), points(90, 2, 4, 4)
    bare = quantise_graph(graph, x, DYADIC, Quantisation(8, 3, bias_correction=False))
    much = torch.tensor(50)
    monkeypatch.setattr(correction, "_correction", lambda missing, _: much.expand(missing.shape[1]))
    assert graph_hash(quantise_graph(graph, x, DYADIC, Quantisation(8, 3))) == graph_hash(bare)


def test_without_samples_to_judge_nothing_is_corrected(chain: Build) -> None:
    graph, x = residual(chain), points(2, 2, 4, 4)
    chosen = Quantisation(8, 3)
    bare = quantise_graph(graph, x, DYADIC, replace(chosen, bias_correction=False))
    assert graph_hash(quantise_graph(graph, x, DYADIC, chosen)) == graph_hash(bare)


def test_quantising_twice_gives_one_network(chain: Build) -> None:
    """No randomness, no state: the same integers in every tensor."""
    graph, x = residual(chain), points(30, 2, 4, 4)
    one, two = (quantise_graph(graph, x, DYADIC, Quantisation()) for _ in range(2))
    assert graph_hash(one) == graph_hash(two)
