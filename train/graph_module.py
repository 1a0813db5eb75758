"""A float graph as a torch module that can be trained, and made a graph again."""

from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from spikemorph.graph import Graph, GraphError, Node, Op
from spikemorph.graph.interpret import Compute, walk
from spikemorph.graph.nested import bodies, nested_nodes
from spikemorph.graph.stages import FLOAT, require
from spikemorph.graph.traits import Recurs

from .temporal import Elements


class GraphModule(nn.Module):
    """What ops learn becomes parameters, what they remember becomes buffers.

    Tensors that nodes share stay one parameter. Nodes inside recurrent layers have qualified names.

    Parameters
    ----------
    graph : Graph
        A float graph with one input and one output.
    transforms : mapping of str to Module, optional
        By node: what computes the weight that is used from the weight that is learnt (a mask, a
        quantiser). Nodes that share a weight share its transform; name one of them.

    Raises
    ------
    GraphError
        If it is no float graph, has registers of its own, or more than one input or output; if a
        transform is for a node that learns no weight, or two are for one weight.
    """

    def __init__(self, graph: Graph, transforms: Mapping[str, nn.Module] | None = None) -> None:
        super().__init__()
        if (count := (len(graph.inputs), len(graph.outputs))) != (1, 1):
            raise GraphError(
                f"the graph has {count[0]} inputs and {count[1]} outputs: one each is expected"
            )
        if graph.registers:
            raise GraphError(
                f"the graph has registers of its own ({graph.registers[0].name!r}): run it inside a Scan"
            )
        self._graph = require(graph, FLOAT)
        self._keys: dict[tuple[str, str], str] = {}  # (node, field) -> name of parameter or buffer
        owners: dict[tuple[int, str], str] = {}  # a tensor is shared in one role only
        self._states: dict[str, Elements] = {}  # of recurrent layers, by qualified name
        for index, (name, node) in enumerate(nested_nodes(graph)):
            for field in (*node.op.learns, *node.op.remembers):
                value = getattr(node.op, field)
                if value is not None:
                    key = owners.setdefault((id(value), field), f"{index}_{field}")
                    self._keys[name, field] = key
                    self._keep(key, value, learnt=field in node.op.learns)
            if isinstance(node.op, Recurs):
                self._states[name] = Elements(node.op.axis)
                self.add_module(f"{index}_states", self._states[name])
        self.transforms = nn.ModuleDict()
        for name, transform in (transforms or {}).items():
            self._transform(name, transform)

    def _keep(self, key: str, value: Tensor, *, learnt: bool) -> None:
        if key in self._parameters or key in self._buffers:
            return
        own = value.detach().to(torch.float32, copy=True)
        if learnt:
            self.register_parameter(key, nn.Parameter(own))
        else:
            self.register_buffer(key, own)

    def _transform(self, name: str, transform: nn.Module) -> None:
        key = self._key(name)
        if key in self.transforms:
            raise GraphError(f"node {name!r}: its weight is shared and has a transform already")
        self.transforms[key] = transform

    def weight(self, name: str) -> nn.Parameter:
        """The weight that a node learns, before its transform."""
        value = getattr(self, self._key(name))
        assert isinstance(value, nn.Parameter)
        return value

    def transform(self, name: str) -> nn.Module | None:
        """The transform of a node's weight, if it has one."""
        key = self._key(name)
        return next((t for k, t in self.transforms.items() if k == key), None)

    def statistics(self, name: str) -> dict[str, Tensor]:
        """What a node remembers, by field (running statistics); writing to them sets them."""
        op = dict(nested_nodes(self._graph))[name].op
        keys = {field: self._keys.get((name, field)) for field in op.remembers}
        return {field: getattr(self, key) for field, key in keys.items() if key is not None}

    def _key(self, name: str) -> str:
        key = self._keys.get((name, "weight"))
        if key is None:
            raise GraphError(f"node {name!r} learns no weight; name a weighted node")
        return key

    @property
    def graph(self) -> Graph:
        """The graph that the module was made from, with what it held then."""
        return self._graph

    def forward(self, x: Tensor) -> Tensor:
        """The graph's output; while training, with the statistics of this batch."""
        (wanted,) = self._graph.outputs
        result = x
        for node, output in walk(self._graph, x, self.computing(training=self.training)):
            if node.name == wanted:
                result = output
        return result

    def computing(self, *, training: bool, remember: bool = True) -> Compute:
        """How nodes compute with what is learnt now (`learnt`).

        `training` takes the statistics of the batch; they move what is remembered if `remember`.
        """
        learnt = self.learnt()

        def inside(path: str) -> Compute:
            def compute(node: Node, *inputs: Tensor) -> Tensor:
                name = f"{path}{node.name}"
                if isinstance(node.op, Recurs):
                    return self._states[name](node.op.computed(inside(f"{name}/"), *inputs))
                op = learnt(name, node)
                if not training:
                    return op(*inputs)
                output, seen = op.in_training(*inputs)
                for field, value in seen.items() if remember else ():
                    getattr(self, self._keys[name, field]).copy_(value)
                return output

            return compute

        return inside("")

    def learnt(self) -> Callable[[str, Node], Op]:
        """``op(name, node)``: a node's op, by its qualified name, with what is learnt now.

        Every transform is applied once, here; gradients reach what is learnt.
        """
        used = {key: transform(getattr(self, key)) for key, transform in self.transforms.items()}
        ops: dict[str, Op] = {}  # a body's serve all its elements

        def op_of(name: str, node: Node) -> Op:
            if name not in ops:
                ops[name] = replace(node.op, **self._fields(used, name, node.op))
            return ops[name]

        return op_of

    def _fields(self, used: Mapping[str, Tensor], name: str, op: Op) -> dict[str, Tensor]:
        keys = {
            field: self._keys[name, field]
            for field in (*op.learns, *op.remembers)
            if (name, field) in self._keys
        }
        return {f: used[key] if key in used else getattr(self, key) for f, key in keys.items()}

    @torch.no_grad()
    def to_graph(self) -> Graph:
        """The graph with what was learnt, weights as they are used; shared tensors stay shared."""
        used = {key: transform(getattr(self, key)) for key, transform in self.transforms.items()}
        frozen: dict[str, Tensor] = {}

        def learnt(path: str, graph: Graph) -> Graph:
            return graph.map(lambda node: changed(f"{path}{node.name}", node))

        def changed(name: str, node: Node) -> Node:
            values: dict[str, Tensor | Graph] = {
                field: learnt(f"{name}/", body) for field, body in bodies(node.op).items()
            }
            for field, value in self._fields(used, name, node.op).items():
                key = self._keys[name, field]
                values[field] = frozen.setdefault(key, value.detach().clone().contiguous())
            return replace(node, op=replace(node.op, **values)) if values else node

        return learnt("", self._graph)
