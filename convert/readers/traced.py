"""What can be told of a traced program and its calls before any of them is taken."""

from typing import Any

from torch import fx


def needed(graph: fx.Graph) -> set[fx.Node]:
    """The nodes that the output depends on; other constants cost nothing."""
    found: set[fx.Node] = set()
    waiting = [node for node in graph.nodes if node.op == "output"]
    while waiting:
        node = waiting.pop()
        if node not in found:
            found.add(node)
            waiting.extend(node.all_input_nodes)
    return found


def operator_of(target: Any) -> str:
    """``aten.conv2d.default`` is ``conv2d``."""
    return str(getattr(target, "_opname", getattr(target, "__name__", target)))


def plain(shape: Any) -> bool:
    return all(isinstance(size, int) for size in shape)


def changes_input(node: fx.Node) -> bool:
    schema = getattr(node.target, "_schema", None)
    return bool(schema is not None and schema.is_mutable)


def harmless(node: fx.Node) -> bool:
    """Whether a call changes nothing in place that any other call might read."""
    if not changes_input(node):
        return True
    source = node.args[0]
    if not isinstance(source, fx.Node) or source.op != "call_function" or len(source.users) != 1:
        return False
    returns: Any = getattr(source.target, "_schema", None)
    views = returns is None or any(
        item.alias_info is not None and not item.alias_info.is_write for item in returns.returns
    )
    return not views and "dropout" not in operator_of(source.target)
