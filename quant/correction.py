"""Put mean errors of rounding into biases, where samples that were not measured agree that it helps."""

from dataclasses import replace

import torch
from torch import Tensor

from spikemorph.graph import Graph, Node, Op, run
from spikemorph.graph.grid import Grid
from spikemorph.graph.interpret import integer_compute, on_reals, run_integers, walk
from spikemorph.graph.traits import Weighted
from spikemorph.layers.ladder import along_channels
from spikemorph.layers.readout import Readout

from .scale_plan import Plan
from .scales import as_reals, naming, narrow

CORRECTION_SAMPLES = 256


def correct_biases(body: Graph, integer: Graph, plan: Plan, x: Tensor, grid: Grid) -> Graph:
    """Put weighted layers' mean errors on samples into their biases, where that helps on others.

    The first of the samples `x` are measured, up to `CORRECTION_SAMPLES`; some behind them judge:
    channel by channel, and in the end all corrections together, by the squared error of the outputs.
    Layers before it are already corrected when a layer is measured (as in light calibration, Li et
    al., ICML 2021).
    """
    count = min(CORRECTION_SAMPLES, len(x) - len(x) // 3)
    seen = x[: count + min(CORRECTION_SAMPLES, len(x)) // 3]
    if len(seen) == count:
        return integer  # nobody could judge
    wanted = {node.name for node in body.nodes if isinstance(node.op, Weighted)}
    compute = integer_compute(integer)
    corrected: dict[str, Op] = {}

    def measure(node: Node, *inputs: Tensor) -> Tensor:
        if node.name not in wanted:
            return compute(node, *inputs)
        _, real = next(reals)
        found = compute(node, *inputs)
        unit = along_channels(as_reals(plan.scale(node.name)), found)
        with naming(node.name):
            step = _correction(real.double() / unit - found, count)
        op = node.op
        assert isinstance(op, Weighted) and op.bias is not None
        shaped = step.reshape(-1, *[1] * (op.bias.dim() - 1))
        corrected[node.name] = op.having(bias=narrow(op.bias + shaped))
        return found + along_channels(step, found)

    with torch.no_grad():
        reals = ((node, value) for node, value in walk(body, seen, on_reals) if node.name in wanted)
        for _ in walk(integer, grid.to_integers(seen), measure):
            pass
        better = integer.map(lambda node: replace(node, op=corrected.get(node.name, node.op)))
        held = seen[count:]
        wishes = run(body, held).double()
        before, after = (
            _output_error(g, wishes, grid.to_integers(held)) for g in (integer, better)
        )
    return better if after < before else integer


def _correction(missing: Tensor, count: int) -> Tensor:
    """(channel,) the rounded mean of what is missing in the first `count` samples.

    Zero where it does not lessen the squared error of the others.
    """
    rows = missing[:count].transpose(0, 1).flatten(1)
    others = missing[count:].transpose(0, 1).flatten(1)
    step = torch.floor(rows.mean(1) + 0.5)
    helps = (others - step[:, None]).square().sum(1) < others.square().sum(1)
    return narrow(torch.where(helps, step, 0.0)).to(torch.int64)


def _output_error(integer: Graph, wishes: Tensor, points: Tensor) -> float:
    """The mean squared error of an integer graph's sums before its analog end."""
    readout = integer[integer.outputs[0]].op
    assert isinstance(readout, Readout)
    found = replace(readout, analog=()).real(run_integers(integer, points))
    return float((found - wishes).square().sum())
