"""What a network is: named nodes, each with an op, in the order they run."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from typing import Annotated, Any, ClassVar

from torch import Tensor

from .brief import brief_repr
from .errors import GraphError, InputError, Repair
from .fields import NUMBERS, Between
from .grid import Grid, Interval
from .records import Record

MOST_NODES = 2**14  # of one network: several times those of the largest that are published


@dataclass(frozen=True, eq=False)
class Op(Record, abstract=True):
    """What a node computes. A subclass is a frozen dataclass that holds its own tensors.

    Called with batched tensors (first dimension: sample) it returns a batched tensor; it works on
    real values, differentiably, and takes its tensors to the dtype and device of its input.
    `learns` names the fields that training changes by gradients, `remembers` those that it changes
    by what it sees (running statistics).
    """

    learns: ClassVar[tuple[str, ...]] = ()
    remembers: ClassVar[tuple[str, ...]] = ()

    @property
    def idle(self) -> bool:
        """Whether it hands on its one input as it is."""
        return False

    @property
    def adds(self) -> bool:
        """Whether it adds something of its own, so that it makes something of nothing."""
        return False

    def __call__(self, *inputs: Any, **options: Any) -> Tensor:
        raise NotImplementedError(f"{type(self).__name__} has no meaning on real values")

    def in_training(self, *inputs: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The output while training, and the new values of the fields in `remembers`."""
        return self(*inputs), {}


def require_few(count: int, where: str) -> None:
    """Refuse a network of more nodes than are read or kept, from whatever file.

    Raises
    ------
    InputError
        With both numbers.
    """
    if count > MOST_NODES:
        raise InputError(
            f"{where}: has {count} nodes, {MOST_NODES} are read at most; "
            "simplify it, or export a part of it"
        )


@dataclass(frozen=True, eq=False)
class Input(Op):
    """Where samples enter: the one place that says which they may be.

    Parameters
    ----------
    shape : tuple of int
        One sample's.
    domain : Interval or Grid, optional
        The real values that inputs may take; a grid on integer graphs, and on these only. None for a
        float graph of which it was not declared.
    """

    shape: tuple[Annotated[int, Between(1)], ...]
    domain: Interval | Grid | None = None

    @property
    def grid(self) -> Grid | None:
        """The integers that inputs lie on; None on float graphs."""
        return self.domain if isinstance(self.domain, Grid) else None

    @property
    def told(self) -> str:
        """Shape and range in words."""
        inside = "no declared range" if self.domain is None else str(self.interval)
        return f"{self.shape} in {inside}"

    @property
    def interval(self) -> Interval:
        """The real values that inputs may take.

        Raises
        ------
        InputError
            If they were not declared.
        """
        if self.domain is None:
            raise InputError(
                "the range of the network's inputs is not declared",
                Repair("input_range", words="declare it: {} low and high"),
            )
        return self.domain if isinstance(self.domain, Interval) else self.domain.interval

    @property
    def slack(self) -> float:
        """How far outside a value is still brought to the nearest end: a step, of 8 bits in floats."""
        return float(self.interval.width / 255 if self.grid is None else self.grid.step)

    @property
    def step(self) -> Fraction:
        """The real value of one integer step of the grid."""
        if self.grid is None:
            raise GraphError("this graph's input has no grid: quantise the graph first")
        return self.grid.step


@dataclass(frozen=True)
class Node(Record):
    """One op at one place of the network; `inputs` are names of earlier nodes."""

    name: str
    op: Op
    inputs: tuple[str, ...] = ()

    __repr__ = brief_repr


@dataclass(frozen=True, eq=False)
class Register(Record):
    """A value that lasts from one element of a sequence to the next.

    Nodes read it like an input, at the Input node of its `name`: `start` (one sample's shape) at the
    first element, then what the node `after` gave at the element before.
    """

    name: str
    start: Annotated[Tensor, NUMBERS]
    after: str


@dataclass(frozen=True)
class Graph(Record):
    """An immutable network; edits return a new one.

    Parameters
    ----------
    nodes : tuple of Node
        In running order: a node reads only nodes before it.
    inputs, outputs : tuple of str
        The names of the nodes that samples enter by and results leave by.
    registers : tuple of Register, optional
        What lasts between elements; then the nodes say what happens at one element (`sequences`).

    Raises
    ------
    GraphError
        If a name is used twice, a node reads one that is not before it (so there are no cycles),
        an output is not there, the inputs and registers are not the Input nodes, or a register does
        not fit its node.
    """

    nodes: tuple[Node, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    registers: tuple[Register, ...] = ()

    def __post_init__(self) -> None:
        seen: set[str] = set()
        for node in self.nodes:
            if node.name in seen:
                raise GraphError(f"two nodes are named {node.name!r}: give one another name")
            if missing := set(node.inputs) - seen:
                raise GraphError(f"node {node.name!r} reads {sorted(missing)} before it exists")
            if bool(node.inputs) == isinstance(node.op, Input):
                raise GraphError(f"node {node.name!r}: an Input, and only an Input, reads no node")
            seen.add(node.name)
        if missing := (set(self.inputs) | set(self.outputs)) - seen:
            raise GraphError(f"the graph names {sorted(missing)} as input or output: no such node")
        entries = sorted(node.name for node in self.nodes if isinstance(node.op, Input))
        declared = sorted([*self.inputs, *(register.name for register in self.registers)])
        if entries != declared:
            odd = sorted({*entries} ^ {*declared}) or declared
            raise GraphError(
                f"{odd}: the graph's inputs and registers must be its Input nodes, once"
            )
        for register in self.registers:
            self._require(register)

    def _require(self, register: Register) -> None:
        """Refuse a register that does not fit its node, or lasts from nowhere."""
        entry, start = self[register.name].op, tuple(register.start.shape)
        assert isinstance(entry, Input)
        if start != entry.shape:
            raise GraphError(
                f"register {register.name!r} starts in shape {start}, its node has {entry.shape}"
            )
        if register.after not in self:
            raise GraphError(
                f"register {register.name!r} is to take {register.after!r}: no such node"
            )

    def __repr__(self) -> str:
        kinds = Counter(type(node.op).__name__ for node in self.nodes)
        held = ", ".join(f"{count} {kind}" for kind, count in kinds.items() if kind != "Input")
        ops = (self[name].op for name in self.inputs)
        entries = ", ".join(op.told for op in ops if isinstance(op, Input))
        return f"Graph of {len(self.nodes)} nodes, inputs {entries}: {held or 'no others'}"

    @cached_property
    def _by_name(self) -> dict[str, Node]:
        return {node.name: node for node in self.nodes}

    @cached_property
    def _users(self) -> dict[str, tuple[Node, ...]]:
        readers: dict[str, list[Node]] = {node.name: [] for node in self.nodes}
        for node in self.nodes:
            for name in dict.fromkeys(node.inputs):
                readers[name].append(node)
        return {name: tuple(nodes) for name, nodes in readers.items()}

    @property
    def entry(self) -> Input:
        """The op that samples enter by.

        Raises
        ------
        GraphError
            If the graph has not one input.
        """
        if len(self.inputs) != 1:
            raise GraphError(f"the graph has inputs {list(self.inputs)}: one is expected")
        op = self[self.inputs[0]].op
        assert isinstance(op, Input)
        return op

    def declared(self, where: object) -> "Graph":
        """The graph itself, if the range of its inputs is declared: files of networks hold it.

        Raises
        ------
        InputError
            If it is not; `where` names the file.
        """
        try:
            _ = self.entry.interval
        except InputError as error:
            raise error.under(str(where)) from error
        return self

    def declare(self, interval: Interval) -> "Graph":
        """The graph whose inputs are declared to take these real values.

        Raises
        ------
        InputError
            If they were declared to take others; names both.
        """
        if self.entry.domain is None:
            node = self[self.inputs[0]]
            return self.substitute(
                node.name, replace(node, op=replace(self.entry, domain=interval))
            )
        if self.entry.interval != interval:
            raise InputError(
                f"input range {interval}: the network's inputs are declared to be "
                f"{self.entry.interval}; leave the range out"
            )
        return self

    def __getitem__(self, name: str) -> Node:
        return self._by_name[name]

    def __contains__(self, name: object) -> bool:
        return name in self._by_name

    def users(self, name: str) -> tuple[Node, ...]:
        """The nodes that read `name`, in running order."""
        return self._users[name]

    def only_user(self, name: str) -> Node | None:
        """The one node that reads `name`, or None where there are more, or the world reads it."""
        users = self.users(name)
        alone = len(users) == 1 and users[0].inputs.count(name) == 1 and name not in self.outputs
        return users[0] if alone else None

    def with_nodes(self, nodes: Iterable[Node]) -> "Graph":
        """The same inputs and outputs over other nodes."""
        return replace(self, nodes=tuple(nodes))

    def map(self, change: Callable[[Node], Node]) -> "Graph":
        """The graph with `change` applied to every node."""
        return self.with_nodes(change(node) for node in self.nodes)

    def substitute(self, name: str, *nodes: Node) -> "Graph":
        """The graph with `nodes` in place of the node `name`; one of them must bear its name."""
        return self.with_nodes(
            new for old in self.nodes for new in (nodes if old.name == name else (old,))
        )

    def rename(self, old: str, new: str) -> "Graph":
        """The graph with every reference to `old` turned into one to `new`, and `old` dropped."""
        nodes = tuple(
            replace(node, inputs=tuple(new if i == old else i for i in node.inputs))
            if old in node.inputs
            else node
            for node in self.nodes
            if node.name != old
        )
        outputs = tuple(new if name == old else name for name in self.outputs)
        registers = tuple(replace(r, after=new) if r.after == old else r for r in self.registers)
        return Graph(nodes, self.inputs, outputs, registers)

    def fresh(self, wish: str) -> str:
        """A name like `wish` that no node has."""
        candidates = (wish, *(f"{wish}.{k}" for k in range(1, len(self.nodes) + 2)))
        return next(name for name in candidates if name not in self)
