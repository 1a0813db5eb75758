"""Train a network as it will run on integers: weights, biases and the steps of all roundings."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from spikemorph.graph import Graph, InputError, Node
from spikemorph.graph.grid import Grid
from spikemorph.graph.interpret import shapes, walk
from spikemorph.graph.nested import nested_bodies, nested_map, nested_nodes
from spikemorph.graph.traits import Recurs, Weighted
from spikemorph.layers.activation import Activation
from spikemorph.layers.boxes import Box, edge_boxes, rising
from spikemorph.layers.carriers import Products
from spikemorph.layers.ladder import along_channels
from spikemorph.layers.margins import margins
from spikemorph.train import DataTensors, Objective, TrainSettings, fit
from spikemorph.train.fabric import Fabric
from spikemorph.train.loop import Augment, EpochRecord
from spikemorph.train.temporal import Elements

from .correction import CORRECTION_SAMPLES, correct_biases
from .exact_floats import through
from .integers import Builder, prepared
from .lasting import memories
from .learning_pass import LearningPass
from .learning_scales import Planned, soft_scales
from .learning_steps import LearntStep, fitted, limit_of, loudness, refuse_unlearnable
from .observe import choose_steps
from .scale_plan import Plan
from .scales import Scale, as_factors, as_reals, collapsed, common, snapped
from .settings import Quantisation


class QuantisedModule(nn.Module):
    """A float graph computed as its integer graph computes, with gradients past the roundings.

    All edges carry whole numbers in floats that hold them exactly; so `forward` equals the exported
    graph bit for bit: ``module(x) == readout.real(run_integers(graph, grid.to_integers(x)))``. What is
    learnt: weights (gradients are masked where the graph has masks), biases, one step for each
    activation (its channels' steps keep their ratios), one for each output channel of weights.
    Roundings let gradients straight through, clipping stops them (learned step size quantisation, Esser
    et al., ICLR 2020); gradients reach the input too. Layers that share tensors in `graph` each learn
    their own. Recurrent layers run element by element.

    Parameters
    ----------
    graph : Graph
        Canonical, one input, one output.
    calibration : Tensor
        (sample, *shape) real inputs, from training data; steps and biases start from them as in
        `quantise_graph`.
    grid : Grid
        The integers that inputs lie on.
    settings : Quantisation
        Levels, bits, calibrator.

    Raises
    ------
    InputError
        If calibration data is empty, outside the grid, or leaves an activation silent.
    UnsupportedError
        Naming every node that cannot be trained so.
    """

    def __init__(
        self, graph: Graph, calibration: Tensor, grid: Grid, settings: Quantisation
    ) -> None:
        super().__init__()
        body, self._analog, x = prepared(graph, calibration, grid)
        refuse_unlearnable(body, self._analog)
        steps = choose_steps(body, x, settings)
        plan = Plan(body, shapes(body), grid.step, steps, settings.largest_weight)
        if settings.bias_correction:
            body = _corrected(body, plan, x, grid)
        self._body, self._grid = body, grid
        self._sizes, self._largest = plan.sizes, plan.largest
        fine = {f"{path}{name}" for path, own in nested_bodies(body) for name in memories(own)}
        counts = {n: settings.state_levels if n in fine else settings.levels for n in steps}
        self._ends = {n: replace(s, smax=s.smin + counts[n] - 1) for n, s in steps.items()}
        self._index = {name: str(index) for index, (name, _) in enumerate(nested_nodes(body))}
        self._held = {n: o.op for n, o in nested_nodes(body) if isinstance(o.op, Weighted)}
        self._loudness = loudness(body, x[:CORRECTION_SAMPLES])
        self.steps, self.states = nn.ModuleDict(), nn.ModuleDict()
        for path, own in plan.nested():
            for node in own.graph.nodes:
                self._learn(path, node, own)
        self._products = Products()
        self._known: tuple[Tensor, Planned] | None = None

    def _learn(self, path: str, node: Node, plan: Plan) -> None:
        name = f"{path}{node.name}"
        op, index = self._held.get(name, node.op), self._index[name]
        if isinstance(op, Activation):
            steps = plan.steps[node.name]
            first = as_reals(steps.unit)
            self.steps[index] = LearntStep(first, limit_of(op, steps), together=True)
        elif isinstance(op, Weighted):
            coarsest = float(max(plan.scale(node.inputs[0])))
            first = as_reals(plan.ideal(node)).expand(len(op.weight)) / coarsest
            loud = self._loudness[name]
            self.steps[index] = LearntStep(first)
            weight = op.weight.detach().float() * loud
            self.register_parameter(f"weight_{index}", nn.Parameter(weight))
            bias = torch.zeros(len(op.weight)) if op.bias is None else op.bias.detach().float()
            self.register_parameter(f"bias_{index}", nn.Parameter(bias.clone()))
            self.register_buffer(f"mask_{index}", op.mask)
        elif isinstance(op, Recurs):
            self.states[index] = Elements(op.axis)

    def _current(self, name: str) -> Weighted:
        """A weighted node's op with the weights and biases as learnt; masked."""
        op, index = self._held[name], self._index[name]
        weight, bias = getattr(self, f"weight_{index}"), getattr(self, f"bias_{index}")
        weight, mask = weight / self._loudness[name], getattr(self, f"mask_{index}")
        return op.having(weight=weight if mask is None else weight * mask, bias=bias, mask=mask)

    def _bias(self, name: str) -> Tensor:
        bias: Tensor = getattr(self, f"bias_{self._index[name]}")
        return bias.detach()

    def forward(self, x: Tensor) -> Tensor:
        """The real outputs (sample, *shape) in float64, for real inputs (sample, *shape).

        Automatic mixed precision is switched off inside.

        Raises
        ------
        InputError
            If `x` lies outside the grid, or parameters were turned into a shorter number type.
        """
        if any(p.dtype not in (torch.float32, torch.float64) for p in self.parameters()):
            raise InputError(
                "quantisation-aware training needs parameters in float32: 16 bits would round them "
                "a second time; choose mixed precision (bf16-mixed), which leaves them whole"
            )
        with torch.autocast(x.device.type, enabled=False):
            return self._run(x)

    def margins(self, lower: Tensor, upper: Tensor, labels: Tensor) -> Tensor:
        """Lower bounds of the real ``logit[label] - logit[j]`` for every class j: (sample, class).

        They hold, but for the rounding of 32-bit sums, for every input between `lower` and `upper`,
        both (sample, *shape); gradients reach all that is learnt. What ends the network behind its
        logits is left out.

        Raises
        ------
        GraphError
            If the outputs are no row of classes, or a node is recurrent.
        """
        with torch.autocast(lower.device.type, enabled=False):
            learning = self._learning(lower.device)
            box = rising(self._points, Box(lower, upper))
            boxes = {n.name: b for n, b in edge_boxes(self._body, box, learning.boxed)}
            (wanted,) = self._body.outputs

            def compute(node: Node, *inputs: Tensor) -> Tensor:
                made = learning(node, *inputs)
                if node.name != wanted:
                    return made
                return made.double() * along_channels(learning.scales[wanted], made)

            found = {name: box.to(torch.float64) for name, box in boxes.items()}
            return margins(self._body, found, labels, compute)

    def _points(self, x: Tensor) -> Tensor:
        return through(self._grid.to_integers(x).to(torch.float32), x / float(self._grid.step))

    def _learning(self, device: torch.device) -> LearningPass:
        learnt = self._learnt()
        planned = self._planned(learnt, device)
        scales = soft_scales(planned, learnt)
        return LearningPass(planned, scales, self._current, self._products)

    def _run(self, x: Tensor) -> Tensor:
        learning = self._learning(x.device)

        def compute(node: Node, *inputs: Tensor) -> Tensor:
            made = learning(node, *inputs)
            index = self._index[node.name]
            return self.states[index](made) if index in self.states else made

        (wanted,) = self._body.outputs
        nodes = walk(self._body, self._points(x), compute)
        (sums,) = [value for node, value in nodes if node.name == wanted]
        return self._read(sums, learning.planned.plan.scale(wanted), learning.scales[wanted])

    def _read(self, sums: Tensor, exact: Scale, scale: Tensor) -> Tensor:
        """The outputs as `Readout.real` computes them, with the gradient of ``scale C``."""
        unit, wide = common(exact), sums.double()
        factors = as_factors(exact, (unit,), 1).to(sums.device)
        real = wide.detach() * along_channels(factors, wide) * float(unit)
        out = through(real, wide * along_channels(scale, wide))
        for op in self._analog:
            out = op(out)
        return out

    def _learnt(self) -> dict[str, Tensor]:
        """Every step as it stands, by node: (channel,) or (1,) of activations, (out,) of weights."""
        return {name: self.steps[i]() for name, i in self._index.items() if i in self.steps}

    def _planned(self, learnt: dict[str, Tensor], device: torch.device) -> Planned:
        """The plan of the steps as they stand; the last one while nothing has changed."""
        parts = [*learnt.values(), *map(self._bias, self._held)]
        now = torch.cat([part.detach().double().flatten() for part in parts]).cpu()
        if self._known is None or self._known[1].device != device:
            before = None
        else:
            seen, before = self._known
            if torch.equal(seen, now):
                return before
        ends = {name: float(self._bias(name).abs().max()) for name in self._held}
        ends[self._body.inputs[0]] = float(max(-self._grid.low, self._grid.high))
        found = Planned.of(self._plan(learnt, self._body), ends, device, before)
        self._known = (now, found)
        return found

    def _plan(self, learnt: dict[str, Tensor], body: Graph) -> Plan:
        known = {name: step.detach().tolist() for name, step in learnt.items()}
        steps = {}
        for name, node in nested_nodes(body):
            if isinstance(node.op, Activation):
                unit = collapsed([snapped(step) for step in known[name]])
                steps[name] = fitted(node.op, self._ends[name], unit)
        weights = {name: step for name, step in known.items() if name not in steps}
        return Plan(body, self._sizes, self._grid.step, steps, self._largest, weights)

    @torch.no_grad()
    def to_integers(self) -> Graph:
        """The integer graph that `forward` computes."""

        def exported(name: str, node: Node) -> Node:
            if name not in self._held:
                return node
            op = self._current(name)
            learnt = op.having(weight=op.weight.cpu(), bias=self._bias(name).cpu())
            return replace(node, op=learnt)

        body = nested_map(self._body, exported)
        return Builder(body, self._plan(self._learnt(), body), self._grid).build(self._analog)


def _corrected(body: Graph, plan: Plan, x: Tensor, grid: Grid) -> Graph:
    """The graph with the biases that bias correction gives its integer graph, as reals."""
    integer = correct_biases(body, Builder(body, plan, grid).build(()), plan, x, grid)

    def corrected(node: Node) -> Node:
        if not isinstance(node.op, Weighted):
            return node
        whole = integer[node.name].op
        assert isinstance(whole, Weighted) and whole.bias is not None
        unit = as_reals(plan.scale(node.name)).reshape(-1, *[1] * (whole.bias.dim() - 1))
        return replace(node, op=node.op.having(bias=whole.bias * unit))

    return body.map(corrected)


def learn_quantised(
    graph: Graph,
    calibration: Tensor,
    grid: Grid,
    quantisation: Quantisation,
    train: DataTensors,
    settings: TrainSettings,
    *,
    objective: Objective | None = None,
    augment: Augment | None = None,
    checkpoint: Path | None = None,
    on_epoch: Callable[[EpochRecord], None] | None = None,
    fabric: Fabric | None = None,
) -> Graph:
    """Train a canonical graph under quantisation; the integer graph.

    `graph` to `quantisation` and the errors are those of `QuantisedModule`, all others those of
    `spikemorph.train.fit`. The objective may be clean or adversarial.
    """
    module = QuantisedModule(graph, calibration, grid, quantisation)
    fit(
        module,
        train,
        settings,
        objective=objective,
        augment=augment,
        checkpoint=checkpoint,
        on_epoch=on_epoch,
        fabric=fabric,
    )
    return module.to_integers()
