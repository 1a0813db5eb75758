"""Graphs inside ops: the bodies of recurrent layers, whose nodes passes may want to see."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, replace
from typing import TypeVar

from torch import Tensor

from .errors import Problem, UnsupportedError
from .graph import Graph, Node, Op, Register
from .traits import Recurs

Held = TypeVar("Held")


def bodies(op: Op) -> dict[str, Graph]:
    """The graphs that an op holds, by field."""
    held = {field.name: getattr(op, field.name) for field in fields(op)}
    return {name: value for name, value in held.items() if isinstance(value, Graph)}


def nested_bodies(graph: Graph, inside: str = "") -> Iterator[tuple[str, Graph]]:
    """Every body with what the qualified names of its nodes begin with, as ``gru/``."""
    for node in graph.nodes:
        for body in bodies(node.op).values():
            yield f"{inside}{node.name}/", body
            yield from nested_bodies(body, f"{inside}{node.name}/")


def recurs(graph: Graph) -> bool:
    """Whether something of a graph runs along the elements of a sequence."""
    return bool(graph.registers) or any(bodies(node.op) for node in graph.nodes)


def nested_nodes(graph: Graph, inside: str = "") -> Iterator[tuple[str, Node]]:
    """Every node with its qualified name: ``gru`` itself, then those inside, as ``gru/gate.reset``."""
    for node in graph.nodes:
        yield f"{inside}{node.name}", node
        for body in bodies(node.op).values():
            yield from nested_nodes(body, f"{inside}{node.name}/")


def inside(found: Mapping[str, Held], name: str) -> dict[str, Held]:
    """Of what stands under qualified names, that of the nodes inside node `name`, by their own names."""
    start = f"{name}/"
    return {key.removeprefix(start): value for key, value in found.items() if key.startswith(start)}


def read_by(name: str, node: Node) -> list[str]:
    """The qualified names of what the node of a qualified name reads."""
    path = name.removesuffix(node.name)
    return [f"{path}{source}" for source in node.inputs]


def nested_map(
    graph: Graph,
    change: Callable[[str, Node], Node],
    path: str = "",
    lasting: Callable[[str, Register], Register] = lambda name, register: register,
) -> Graph:
    """The graph with ``change(qualified name, node)`` applied to every node, inside ops too.

    A node that holds others is changed after them; registers by `lasting`, alike. What stays the same
    is the same object.
    """

    def changed(node: Node) -> Node:
        name = f"{path}{node.name}"
        inner = {
            field: made
            for field, body in bodies(node.op).items()
            if (made := nested_map(body, change, f"{name}/", lasting)) is not body
        }
        return change(name, replace(node, op=replace(node.op, **inner)) if inner else node)

    nodes = [changed(node) for node in graph.nodes]
    registers = [lasting(f"{path}{register.name}", register) for register in graph.registers]
    pairs = zip((*nodes, *registers), (*graph.nodes, *graph.registers), strict=True)
    if all(new is old for new, old in pairs):
        return graph
    return replace(graph, nodes=tuple(nodes), registers=tuple(registers))


def nested_compute(compute: Callable[..., Tensor], path: str = "") -> Callable[..., Tensor]:
    """How nodes compute, inside recurrent layers too: by ``compute(qualified name, node, *inputs)``."""

    def computed(node: Node, *inputs: Tensor) -> Tensor:
        name = f"{path}{node.name}"
        if isinstance(node.op, Recurs):
            return node.op.computed(nested_compute(compute, f"{name}/"), *inputs)
        return compute(name, node, *inputs)

    return computed


def numbered(graph: Graph) -> Graph:
    """The graph with numbers for names, inside ops too."""
    number = {node.name: str(k) for k, node in enumerate(graph.nodes)}

    def renamed(node: Node) -> Node:
        inner = {name: numbered(body) for name, body in bodies(node.op).items()}
        op = replace(node.op, **inner) if inner else node.op
        return Node(number[node.name], op, tuple(number[i] for i in node.inputs))

    return Graph(
        tuple(renamed(node) for node in graph.nodes),
        tuple(number[name] for name in graph.inputs),
        tuple(number[name] for name in graph.outputs),
        tuple(replace(r, name=number[r.name], after=number[r.after]) for r in graph.registers),
    )


def not_taken(purpose: str) -> tuple[str, str]:
    """Why `purpose` refuses a recurrent layer, and what to do."""
    reason = f"recurrent layers are read, but not taken by {purpose} yet"
    return reason, "give a network without it"


def require_flat(graph: Graph, purpose: str) -> None:
    """Refuse a graph with recurrent layers, or registers of its own, which `purpose` does not take yet.

    Raises
    ------
    UnsupportedError
        Naming every such node.
    """
    reason, repair = not_taken(purpose)
    held = [(node.name, type(node.op).__name__) for node in graph.nodes if bodies(node.op)]
    held += [(register.name, "Register") for register in graph.registers]
    if held:
        raise UnsupportedError([Problem(name, kind, reason, repair) for name, kind in held])
