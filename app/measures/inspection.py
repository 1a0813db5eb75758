"""Say of every node of a model what becomes of it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from spikemorph.convert import canonical
from spikemorph.convert.canonical import drop_dead, drop_idle
from spikemorph.graph import Graph, Input, Node, Op, Problem, UnsupportedError
from spikemorph.graph.interpret import shapes
from spikemorph.graph.nested import bodies, nested_nodes
from spikemorph.graph.tables import opens
from spikemorph.graph.traits import Fires, Moves, Pools, Recurs, Weighted
from spikemorph.layers.activation import Activation, Relay
from spikemorph.layers.affine import ScaleShift, per_channel
from spikemorph.layers.multiply import Multiply
from spikemorph.quant.prepare import ready, require_neurons
from spikemorph.quant.scale_plan import plain_ratio

from .results import Inspection, NodeFate

DEAD = "dropped: no output depends on it"
IDLE = "dropped: it does nothing"
ANALOG = "kept in the analog read-out"
RELAY = "added: a neuron that turns sums into spikes"
FOLDED = "folded into its neighbours, exactly"
TAKEN = "taken over by what follows"
FACTORS = "kept: multiplies integers by rounded factors"
SUMMED = "summed; the division moves into what follows"
JOINED = "kept: joins integers"
KEPT = "kept: computes on integers"
MULTIPLIED = "kept: multiplies integers"
ELEMENT = "read, an element at a time"
STATE = "a state: it lasts from element to element"
LASTS = "; a neuron turns it into what lasts"
SEQUENCE = "kept: runs its body along the sequence"
_REASONS: tuple[tuple[type[Op], str], ...] = (
    (Input, "integers on the input grid"),
    (Weighted, "integer weights"),
    (Fires, "a neuron layer"),
    (Pools, "kept: pools integers"),
    (Moves, "kept: moves integers"),
)


@dataclass(frozen=True)
class _Fates:
    """What is known of a graph whose nodes are to be told apart.

    `busy` and `alive` are the nodes left once those that do nothing, and those that nothing depends
    on, are gone; `analog` those that end in the read-out; `scales` what became of a scale that could
    not be folded.
    """

    busy: frozenset[str]
    alive: frozenset[str]
    analog: frozenset[str]
    scales: Mapping[str, str]

    def of(self, node: Node) -> str:
        if node.name not in self.busy:
            return IDLE
        if node.name not in self.alive:
            return DEAD
        if node.name in self.analog:
            return ANALOG
        scale = self.scales.get(node.name)
        if isinstance(node.op, Pools) and _leaves_a_scale(node.op):
            return "summed; " + scale if scale == FACTORS else SUMMED
        if _leaves_a_scale(node.op):
            return scale or FOLDED
        return _reason(node)


def inspect_graph(name: str, graph: Graph) -> Inspection:
    """What becomes of every node of a float graph that a reader could read whole."""
    folded = canonical(graph)
    problems: Sequence[Problem] = ()
    try:
        body, _ = ready(folded)
        require_neurons(body)
    except UnsupportedError as error:
        body, problems = folded, error.problems
    busy = drop_idle(graph)
    fates = _Fates(
        _names(busy),
        _names(drop_dead(busy)),
        _names(folded) - _names(body),
        _scales_left(graph, body),
    )
    sizes, refused = shapes(graph), {problem.node: problem for problem in problems}
    nodes = [
        fate
        for node in graph.nodes
        for fate in (_fate(node, sizes[node.name], fates, refused), *_inside(node))
    ]
    nodes += [
        NodeFate(node.name, "Relay", None, True, RELAY)
        for node in body.nodes
        if isinstance(node.op, Relay)
    ]
    return Inspection(name, tuple(nodes), not refused, count_parameters(graph))


def inspect_failure(name: str, error: UnsupportedError) -> Inspection:
    """What is known of a model that could not be read whole: what was, then what cannot be taken."""
    taken = (NodeFate(node, op, None, True, "can be taken") for node, op in error.taken)
    refused = (
        NodeFate(p.node, p.op, None, False, f"{p.reason}; {p.repair}") for p in error.problems
    )
    unseen = (
        NodeFate(node, op, None, False, "not looked at: it is behind one that cannot be taken")
        for node, op in error.unseen
    )
    return Inspection(name, (*taken, *refused, *unseen), False, None, len(error.unseen))


def count_parameters(graph: Graph) -> int:
    """How many learnt numbers the graph's ops hold; shared tensors count once, constants not at all."""
    tensors = {
        id(value): value
        for _, node in nested_nodes(graph)
        for value in (getattr(node.op, name) for name in node.op.learns)
        if isinstance(value, Tensor)
    }
    return sum(tensor.numel() for tensor in tensors.values())


def _inside(node: Node, around: str = "") -> Iterator[NodeFate]:
    """The nodes of a recurrent layer's body, by qualified names."""
    for body in bodies(node.op).values():
        sizes = shapes(body)
        for inner in body.nodes:
            name = f"{around}{node.name}/{inner.name}"
            fate = _fate_inside(body, inner)
            yield NodeFate(name, type(inner.op).__name__, sizes[inner.name], True, fate)
            yield from _inside(inner, f"{around}{node.name}/")


def _fate_inside(body: Graph, node: Node) -> str:
    """What becomes of a node at one element."""
    if isinstance(node.op, Input):
        return ELEMENT if node.name in body.inputs else STATE
    lasts = {*body.outputs, *(register.after for register in body.registers)}
    relayed = node.name in lasts and not isinstance(node.op, Fires)
    return _reason(node) + (LASTS if relayed else "")


def _names(graph: Graph) -> frozenset[str]:
    return frozenset(node.name for node in graph.nodes)


def _scales_left(graph: Graph, body: Graph) -> dict[str, str]:
    """What became of the scales that canonical form left, by the node of the source they come from.

    A scale that moved past pools and joins has the name of what it passed last: it comes from the
    nearest nodes before that which have a scale and are gone.
    """
    found: dict[str, str] = {}
    for node in body.nodes:
        if isinstance(node.op, ScaleShift):
            for name in _origins(graph, body, node.name):
                found[name] = _left(body, node)
    return found


def _origins(graph: Graph, body: Graph, name: str) -> list[str]:
    if name not in graph:
        return []
    node = graph[name]
    if _leaves_a_scale(node.op):
        return [name]
    gone = [i for i in node.inputs if not isinstance(graph[i].op, (Input, Activation))]
    return [origin for i in gone for origin in _origins(graph, body, i) if origin not in body]


def _left(body: Graph, node: Node) -> str:
    """What quantisation does with a scale: hands it on, leaves it to ladders, or rounds it."""
    assert isinstance(node.op, ScaleShift)
    users = body.users(node.name)
    by_channel = per_channel(node.op.gain) is not None and per_channel(node.op.shift) is not None
    laddered = bool(users) and all(isinstance(user.op, Activation) for user in users)
    absorbed = by_channel and laddered and node.name not in body.outputs
    return TAKEN if plain_ratio(node.op) or absorbed else FACTORS


def _fate(
    node: Node, shape: tuple[int, ...], fates: _Fates, refused: Mapping[str, Problem]
) -> NodeFate:
    kind, problem = type(node.op).__name__, refused.get(node.name)
    if problem is not None:
        return NodeFate(node.name, kind, shape, False, f"{problem.reason}; {problem.repair}")
    return NodeFate(node.name, kind, shape, True, fates.of(node))


def _leaves_a_scale(op: Op) -> bool:
    """Whether it is a constant scale, or opens into one: that is folded, or is not."""
    return isinstance(op, ScaleShift) or (type(op) in opens and not isinstance(op, Weighted))


def _reason(node: Node) -> str:
    if isinstance(node.op, Recurs):
        return SEQUENCE
    if isinstance(node.op, Multiply):
        return MULTIPLIED
    if len(node.inputs) > 1:
        return JOINED
    return next((reason for kind, reason in _REASONS if isinstance(node.op, kind)), KEPT)
