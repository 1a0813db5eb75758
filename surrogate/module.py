"""A float graph as a spiking network that is trained through time."""

from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import replace
from types import MappingProxyType
from typing import Any, Self

import torch
from torch import Tensor, nn

from spikemorph.graph import Graph, GraphError, Node, Problem, UnsupportedError
from spikemorph.graph.interpret import Compute, walk
from spikemorph.graph.nested import require_flat
from spikemorph.graph.traits import Pools
from spikemorph.layers.activation import Activation, ReLU
from spikemorph.train import GraphModule

from .gradients import Backward, PiecewiseLinear
from .layerwise import by_membrane
from .membranes import ordered
from .neuron import Dynamics, Train
from .replacement import Replacement

LEAST_THRESHOLD = 0.03  # no lower one is used (code of Schmolli et al., CPAL 2025)

# Inputs (sample, ...) to logits (sample, class), differentiable by some rule.
Network = Callable[[Tensor], Tensor]


class SpikingModule(GraphModule):
    """Every ReLU is a layer of spiking neurons with one trainable threshold; all else is kept.

    The input is shown as it is at every step (direct coding), so what precedes the first spiking
    layer runs once. Behind it steps and samples share the batch axis, (step * sample, ...), also
    for batch norms. The output is the mean of the last node over the steps. Nothing is left
    behind by a run but, while training, the batch norms' statistics.

    Parameters
    ----------
    graph : Graph
        A float graph with one input and one output, batch norms not folded.
    dynamics : Dynamics
        Of all neurons.
    transforms : mapping of str to Module, optional
        As of `GraphModule`: by node, what computes the weight that is used.
    surrogate : Backward
        How gradients pass spiking layers in training.

    Raises
    ------
    GraphError
        As `GraphModule`, or if there is no ReLU.
    UnsupportedError
        Naming every activation that is no ReLU, or every recurrent layer.
    """

    def __init__(
        self,
        graph: Graph,
        dynamics: Dynamics,
        *,
        transforms: Mapping[str, nn.Module] | None = None,
        surrogate: Backward = PiecewiseLinear(1.0),  # noqa: B008  a frozen value
    ) -> None:
        require_flat(graph, "training through time")
        super().__init__(graph, transforms)
        _require_relus(graph)
        self.dynamics, self.surrogate = dynamics, surrogate
        self._thresholds: dict[str, str] = {}  # node -> name of parameter
        self._timed: set[str] = set()  # nodes whose output differs from step to step
        for index, node in enumerate(graph.nodes):
            if isinstance(node.op, ReLU):
                self._thresholds[node.name] = f"{index}_threshold"
                self.register_parameter(f"{index}_threshold", nn.Parameter(torch.tensor(1.0)))
            if isinstance(node.op, ReLU) or self._timed.intersection(node.inputs):
                self._timed.add(node.name)

    @property
    def spiking(self) -> tuple[str, ...]:
        """The names of the spiking nodes, in running order."""
        return tuple(self._thresholds)

    @property
    def thresholds(self) -> dict[str, nn.Parameter]:
        """V_th by spiking node, as learnt: scalars, used from `LEAST_THRESHOLD` upwards."""
        return {name: getattr(self, key) for name, key in self._thresholds.items()}

    def threshold(self, name: str) -> Tensor:
        """V_th as it is used; below the least one, its gradient passes as if it were not bounded.

        Raises
        ------
        GraphError
            If the node does not spike.
        """
        if name not in self._thresholds:
            raise GraphError(f"node {name!r} does not spike; choose of {list(self.spiking)}")
        learnt: Tensor = getattr(self, self._thresholds[name])
        bounded = LEAST_THRESHOLD + (learnt - learnt.detach())
        return torch.where(learnt < LEAST_THRESHOLD, bounded, learnt)

    def forward(self, x: Tensor) -> Tensor:
        """(sample, class): the mean output over the steps; gradients go by the surrogate."""
        return self._mean_output(x, self.surrogate, self.computing(training=self.training))

    def logits_by(self, rule: Backward | Replacement) -> Network:
        """The network in evaluation, whatever its mode, with another rule for its gradients.

        With a `Backward` its outputs are those of this module bit for bit; a `Replacement` runs
        another, analogue network once. Later changes of weights are seen; no state is kept.
        """
        return lambda x: self._mean_output(x, rule, self.computing(training=False))

    def lasting(self, steps: int) -> Self:
        """The same network, weights and statistics shared, run for another number of steps.

        Raises
        ------
        InputError
            If it is less than one.
        """
        other = copy(self)
        other.dynamics = replace(self.dynamics, steps=steps)
        return other

    def observe(
        self, x: Tensor, name: str, steps: int | None = None, *, batch_statistics: bool = False
    ) -> Tensor:
        """The currents of one spiking node: (step, sample, ...), without a gradient.

        All layers before it spike with their thresholds of now. Before the first spiking layer the
        result is the same at every step and takes the memory of one.

        Parameters
        ----------
        x : Tensor
            (sample, *input shape).
        name : str
            A spiking node.
        steps : int, optional
            How long to look; as long as the network runs if not given.
        batch_statistics : bool
            Whether batch norms use the statistics of this batch over all steps, not those that
            they remember, which stay as they are either way.
        """
        self.threshold(name)  # refuses other nodes
        (source,) = self.graph[name].inputs
        return self.output_of(x, source, steps, batch_statistics=batch_statistics)

    def output_of(
        self,
        x: Tensor,
        name: str,
        steps: int | None = None,
        *,
        batch_statistics: bool = False,
        known: Mapping[str, Tensor] = MappingProxyType({}),  # noqa: B008  immutable
    ) -> Tensor:
        """What any node gives, (step, sample, ...), without a gradient; otherwise as `observe`.

        What spiking nodes gave already may be `known`, by name, (step, sample, ...), so that only
        what lies between is computed.

        Raises
        ------
        GraphError
            If there is no such node.
        """
        steps = self.dynamics.steps if steps is None else steps
        compute = self.computing(training=batch_statistics, remember=False)
        run = self._in_time(self.surrogate, compute, steps)
        needed = {name}
        for node in reversed(self.graph.nodes):
            if node.name in needed and node.name not in known:
                needed.update(node.inputs)

        def between(node: Node, *inputs: Tensor) -> Tensor:
            if node.name in known:
                return known[node.name].flatten(0, 1).to(x)
            return run(node, *inputs) if node.name in needed else x[:0]  # nothing reads the latter

        with torch.no_grad():
            for node, output in walk(self.graph, x, between):
                if node.name == name:
                    return self._by_step(name, output, steps)
        raise GraphError(f"node {name!r}: there is none of this name")

    def _mean_output(self, x: Tensor, rule: Backward | Replacement, compute: Compute) -> Tensor:
        (wanted,) = self.graph.outputs
        steps = 1 if isinstance(rule, Replacement) else self.dynamics.steps
        result = x
        for node, output in walk(self.graph, x, self._in_time(rule, compute, steps)):
            if node.name == wanted:
                result = output
        return self._by_step(wanted, result, steps).mean(0)

    def _in_time(self, rule: Backward | Replacement, compute: Compute, steps: int) -> Compute:
        """How nodes compute over `steps` steps, which the batch axis holds, step first."""
        chosen = by_membrane(rule)
        looked_through = chosen if isinstance(chosen, bool) else bool(chosen.any())
        order: dict[str, Tensor] = {}  # of the cells of a spiking layer, if pools ask for it

        def run(node: Node, *inputs: Tensor) -> Tensor:
            if node.name not in self._timed:
                return compute(node, *inputs)
            trains = [
                self._by_step(name, value, steps)
                for name, value in zip(node.inputs, inputs, strict=True)
            ]
            if isinstance(node.op, Pools) and node.op.picks and node.inputs[0] in order:
                return node.op.picked(trains[0].flatten(0, 1), order[node.inputs[0]])
            if node.name not in self._thresholds:
                return compute(node, *(train.flatten(0, 1) for train in trains))
            (currents,), threshold = trains, self.threshold(node.name)
            if isinstance(rule, Replacement):
                return rule(currents.flatten(0, 1), threshold.to(currents))
            spikes, membranes = _run(currents, threshold, self.dynamics, rule)
            if looked_through:
                order[node.name] = ordered(spikes, membranes, chosen).flatten(0, 1)
            return spikes.flatten(0, 1)

        return run

    def _by_step(self, name: str, output: Tensor, steps: int) -> Tensor:
        """A node's output as (step, sample, ...)."""
        if name in self._timed:
            return output.unflatten(0, (steps, len(output) // steps))
        return output.expand(steps, *output.shape)


class _SpikeTrains(torch.autograd.Function):
    """The neuron forwards, a rule backwards."""

    @staticmethod
    def forward(
        ctx: Any, currents: Tensor, threshold: Tensor, dynamics: Dynamics, rule: Backward
    ) -> tuple[Tensor, Tensor]:
        membranes = dynamics.membranes(currents, threshold)
        ctx.save_for_backward(currents, membranes, threshold)
        ctx.dynamics, ctx.rule = dynamics, rule
        ctx.mark_non_differentiable(membranes)
        ctx.set_materialize_grads(False)
        return (membranes >= threshold).to(currents.dtype), membranes

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, output: Tensor, _: None) -> tuple[Tensor | None, ...]:
        currents, membranes, threshold = ctx.saved_tensors
        train = Train(currents, membranes, threshold, ctx.dynamics)
        return (*ctx.rule.gradients(train, output), None, None)


def spike_trains(currents: Tensor, threshold: Tensor, dynamics: Dynamics, rule: Backward) -> Tensor:
    """Spikes, 0 or 1, for currents (step, sample, ...): of the same shape, differentiable by `rule`.

    Membranes are summed in single precision at least.
    """
    return _run(currents, threshold, dynamics, rule)[0]


def _run(
    currents: Tensor, threshold: Tensor, dynamics: Dynamics, rule: Backward
) -> tuple[Tensor, Tensor]:
    """Spikes, and the membranes that they came from, which have no gradient."""
    wide = currents.to(torch.promote_types(currents.dtype, torch.float32))
    result: tuple[Tensor, Tensor] = _SpikeTrains.apply(  # type: ignore[no-untyped-call]
        wide, threshold.to(wide), dynamics, rule
    )
    return result


def _require_relus(graph: Graph) -> None:
    """Refuse what has no spiking neuron here."""
    problems = [
        Problem(
            node.name,
            type(node.op).__name__,
            "only ReLU becomes a neuron that is trained through time",
            "train with ReLU, or convert exactly instead",
        )
        for node in graph.nodes
        if isinstance(node.op, Activation) and not isinstance(node.op, ReLU)
    ]
    if problems:
        raise UnsupportedError(problems)
    if not any(isinstance(node.op, ReLU) for node in graph.nodes):
        raise GraphError("the graph has no ReLU, so nothing would spike; give one that has")
