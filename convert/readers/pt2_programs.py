"""Write an exported program's description again, of nothing but what was checked in it.

When torch reads such a description it evaluates its sizes as expressions, executes Python that it
builds of its names, imports modules that its tree specifications name, and looks up what its nodes
call. So what torch declares of the format (the field types in its schema) is walked, every value is of
its declared type, every text has a rule, and what is not needed here is left out.
"""

import ast
import json
import math
import re
import typing
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from enum import IntEnum
from types import UnionType
from typing import Annotated, Any

import torch
from torch._export.serde import schema
from torch._export.serde.union import _Union
from torch._ops import OpOverloadPacket

from spikemorph.graph.plain import keys_once

_DEEPEST = 60  # lists in lists
_LARGEST = 2**63 - 1
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,199}")
_PATH = re.compile(r"[\w.-]{1,400}")  # of a parameter: torch writes it between quotes
_SYMBOL = re.compile(r"[su][0-9]{1,4}")
_ATEN = re.compile(r"torch\.ops\.aten\.([A-Za-z0-9_]+)\.([A-Za-z0-9_]+)")
_ON_SIZES = re.compile(
    r"_operator\.(add|sub|mul|floordiv|mod|neg|eq|ne|lt|le|gt|ge|getitem|and_|or_|not_)"
    r"|torch\.sym_(int|float|not|max|min|ite|sum)"
)
_STACK = re.compile(r"[^\x00-\x1f\x7f]{1,4000}")
_PAYLOAD = re.compile(r"(weight|tensor)_[0-9]{1,9}")
_SUMS = {"Add", "Mul", "Max", "Min", "FloorDiv", "Mod", "PythonMod", "CeilDiv"}
_RELATIONS = {
    *("Eq", "Ne", "Lt", "Le", "Gt", "Ge", "Equality", "Unequality", "StrictLessThan"),
    *("LessThan", "StrictGreaterThan", "GreaterThan", "And", "Or", "Not"),
}
_NAMED_TREES = ("builtins.dict", "collections.OrderedDict")
_TREES = ("builtins.tuple", "builtins.list", None, *_NAMED_TREES)


class OddProgramError(Exception):
    """Why a description is not taken."""


def parsed(content: bytes) -> Any:
    """JSON, of which no reader can make something else.

    Raises
    ------
    OddProgramError
        If it is no JSON, or has a key twice, a number that is none, or lists too deep.
    """
    try:
        plain = json.loads(
            content.decode("utf-8"), object_pairs_hook=keys_once, parse_constant=_no_number,
            parse_int=_whole, parse_float=_real,
        )  # fmt: skip
    except (ValueError, RecursionError) as error:
        raise OddProgramError(f"is no plain JSON ({str(error)[:80]})") from error
    return plain


def program(content: bytes) -> bytes:
    """The description of a program, checked and written again; see `parsed`."""
    plain = _checked(schema.ExportedProgram, parsed(content), "program", 0)
    return json.dumps(plain, allow_nan=False).encode()


def payloads(content: bytes) -> tuple[bytes, dict[str, Any]]:
    """The list of stored tensors, written again, and the same by the names of the tensors."""
    plain = _checked(schema.PayloadConfig, parsed(content), "config", 0)
    return json.dumps(plain, allow_nan=False).encode(), plain["config"]


def _no_number(text: str) -> Any:
    raise ValueError(f"{text} is no number of JSON")


def _whole(text: str) -> int:
    if len(text) > 20 or not -_LARGEST <= (value := int(text)) <= _LARGEST:
        raise ValueError("a number is too large")
    return value


def _real(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError("a number is too large")
    return value


def _checked(kind: Any, plain: Any, where: str, depth: int) -> Any:
    """A value of a declared type, without the fields that the type does not have."""
    if depth > _DEEPEST:
        raise OddProgramError("holds lists too deep in each other")
    kind = getattr(schema, kind.__forward_arg__) if isinstance(kind, typing.ForwardRef) else kind
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is Annotated:
        return _checked(inner[0], plain, where, depth)
    if origin in (typing.Union, UnionType):
        return None if plain is None else _checked(inner[0], plain, where, depth)
    if origin is list and isinstance(plain, list):
        return [_checked(inner[0], item, where, depth + 1) for item in plain]
    if origin is dict and isinstance(plain, dict):
        keys = {_text(f"{where} key", key): item for key, item in plain.items()}
        return {key: _checked(inner[1], item, where, depth + 1) for key, item in keys.items()}
    if is_dataclass(kind) and isinstance(plain, dict):
        return _record(kind, plain, depth + 1)
    if kind is str and isinstance(plain, str):
        return _text(where, plain)
    return _number(kind, plain, where)


def _number(kind: Any, plain: Any, where: str) -> Any:
    if kind is float and plain in ("Infinity", "-Infinity"):
        return plain  # torch's own spelling
    number = isinstance(plain, int | float) and not isinstance(plain, bool)
    if kind is float and number:
        return float(plain)
    if kind is bool and isinstance(plain, bool):
        return plain
    if kind is int and number and isinstance(plain, int):
        return plain
    known = isinstance(kind, type) and issubclass(kind, IntEnum)
    if known and number and plain in [int(member) for member in kind]:
        return plain
    raise OddProgramError(f"holds {str(plain)[:40]!r} as {where}")


def _record(kind: Any, plain: dict[str, Any], depth: int) -> dict[str, Any]:
    """The fields of a record, or the one field of a choice."""
    name = kind.__name__
    hints = typing.get_type_hints(kind, globalns=vars(schema), include_extras=True)
    known = {field.name: field for field in fields(kind)}
    choice = issubclass(kind, _Union)
    if choice and (len(plain) != 1 or not set(plain) <= set(known)):
        raise OddProgramError(f"holds {str(plain)[:40]!r} as {name}")
    made = {}
    for key, field in known.items():
        where = f"{name}.{key}"
        if key not in plain:
            if not choice and field.default is MISSING and field.default_factory is MISSING:
                raise OddProgramError(f"has no {where}")
        elif where in _REFUSED and plain[key]:
            raise OddProgramError(_REFUSED[where])
        elif where in _REWRITTEN:
            made[key] = _REWRITTEN[where](plain[key])
        elif where not in _LEFT_OUT:
            made[key] = _checked(hints[key], plain[key], where, depth)
    return made


def _text(where: str, text: str) -> str:
    """A text that its place allows; a name, where no rule says otherwise."""
    rule, odd = _TEXTS.get(where, (_NAME, "holds the name"))
    if rule is not None and not rule.fullmatch(text):
        raise OddProgramError(f"{odd} {text[:40]!r}")
    return text


def _target(text: Any) -> str:
    """What a node calls: one of torch's own operators, or arithmetic on sizes."""
    if isinstance(text, str):
        if _ON_SIZES.fullmatch(text):
            return text
        called = _ATEN.fullmatch(text)
        packet = getattr(torch.ops.aten, called[1], None) if called else None
        if called and isinstance(packet, OpOverloadPacket) and called[2] in packet.overloads():
            return text
    raise OddProgramError(f"calls {str(text)[:80]!r}, which is not one of torch's own operators")


def _size(text: Any) -> str:
    """A size as an expression of sums and products, written again."""
    try:
        if not isinstance(text, str) or len(text) > 1000:
            raise ValueError
        return _term(ast.parse(text, mode="eval").body)
    except (ValueError, SyntaxError, RecursionError, MemoryError) as error:
        raise OddProgramError(f"holds the size {str(text)[:40]!r}") from error


def _term(node: ast.expr) -> str:
    match node:
        case ast.Name(id=name) if _SYMBOL.fullmatch(name):
            return name
        case ast.Call(func=ast.Name(id="Symbol"), args=[ast.Constant(value=str(symbol))]):
            said = {
                k.arg: k.value.value for k in node.keywords if isinstance(k.value, ast.Constant)
            }
            allowed = {"integer", "positive", "nonnegative"}
            if (
                _SYMBOL.fullmatch(symbol)
                and len(said) == len(node.keywords)
                and set(said) <= allowed
                and all(isinstance(value, bool) for value in said.values())
            ):
                options = "".join(f", {key}={value is True}" for key, value in said.items())
                return f"Symbol('{symbol}'{options})"
        case ast.Call(func=ast.Name(id="Integer"), args=[item], keywords=[]):
            return f"Integer({_plain_integer(item)})"
        case ast.Call(func=ast.Name(id=called), args=items, keywords=[]) if (
            called in _SUMS or called in _RELATIONS
        ):
            return f"{called}({', '.join(_term(item) for item in items)})"
        case ast.Constant() | ast.UnaryOp():
            return f"Integer({_plain_integer(node)})"
    raise ValueError


def _plain_integer(node: ast.expr) -> int:
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_plain_integer(node.operand)
    if isinstance(node, ast.Constant) and type(node.value) is int and node.value < 2**31:
        return node.value
    raise ValueError


def _tree(text: Any) -> str:
    """How inputs or outputs lie in tuples, lists and dictionaries, written again."""
    if not isinstance(text, str):
        raise OddProgramError("holds a tree that is no text")
    plain = parsed(text.encode("utf-8", "replace"))
    if not isinstance(plain, list) or len(plain) != 2 or plain[0] != 1:
        raise OddProgramError(f"holds the tree {text[:40]!r}")
    return json.dumps([1, _branch(plain[1], 0)])


def _branch(plain: Any, depth: int) -> dict[str, Any]:
    keys = {"type", "context", "children_spec"}
    if depth > _DEEPEST or not isinstance(plain, dict) or set(plain) != keys:
        raise OddProgramError(f"holds the tree {str(plain)[:40]!r}")
    kind, context, below = plain["type"], plain["context"], plain["children_spec"]
    text = isinstance(context, str)
    names = parsed(context.encode("utf-8", "replace")) if text else context
    named = kind in _NAMED_TREES and isinstance(names, list)
    if named:
        named = all(isinstance(n, str) and _NAME.fullmatch(n) for n in names)
    if kind not in _TREES or not isinstance(below, list) or not (names is None or named):
        raise OddProgramError(f"holds the tree {str(plain)[:40]!r}")
    children = [_branch(item, depth + 1) for item in below]
    again = json.dumps(names) if text else None
    return {"type": kind, "context": again, "children_spec": children}


def _stack(metadata: Any) -> dict[str, str]:
    """Of what is written beside a node, the modules that it comes from."""
    found = metadata.get("nn_module_stack") if isinstance(metadata, dict) else None
    plain = isinstance(found, str) and _STACK.fullmatch(found)
    return {"nn_module_stack": found} if plain and isinstance(found, str) else {}


_CODE = "asks to unpickle"
_REFUSED: Mapping[str, str] = {  # where they hold anything
    "PayloadMeta.use_pickle": _CODE,
    "ExportedProgram.guards_code": "holds guards to execute",
    "Graph.custom_obj_values": _CODE,
    "Argument.as_custom_obj": _CODE,
    "Argument.as_operator": "passes an operator on",
    "Argument.as_graph": "holds a graph in a node: take branches and torch.no_grad() out of forward",
    "InputSpec.custom_obj": _CODE,
    "InputSpec.token": "holds a token of an effect",
    "OutputSpec.token": "holds a token of an effect",
}
_LEFT_OUT = {
    *("GraphModule.metadata", "GraphModule.treespec_namedtuple_fields"),
    "ExportedProgram.torch_version",
}
_REWRITTEN: Mapping[str, Callable[[Any], Any]] = {
    "SymExpr.expr_str": _size,
    "Node.target": _target,
    "ModuleCallSignature.in_spec": _tree,
    "ModuleCallSignature.out_spec": _tree,
    "Node.metadata": _stack,
    "TensorMeta.device": lambda _: {"type": "cpu", "index": None},
    "Argument.as_device": lambda _: {"type": "cpu", "index": None},
}
_TEXTS: Mapping[str, tuple[re.Pattern[str] | None, str]] = {
    "Argument.as_string": (None, ""),  # written as a literal where code is made of it
    "Argument.as_strings": (None, ""),
    "ConstantValue.as_string": (None, ""),
    "ExportedProgram.verifiers": (re.compile("TRAINING|ATEN"), "is of the dialect"),
    "PayloadMeta.path_name": (_PAYLOAD, f"{_CODE} what it calls"),
    "ExportedProgram.range_constraints key": (_SYMBOL, "holds the size"),
    **dict.fromkeys(
        (
            "PayloadConfig.config key", "InputToParameterSpec.parameter_name",
            "InputToBufferSpec.buffer_name", "InputToTensorConstantSpec.tensor_constant_name",
            "BufferMutationSpec.buffer_name", "ParameterMutationSpec.parameter_name",
            "GradientToParameterSpec.parameter_name",
        ),
        (_PATH, "names a tensor"),
    ),
    "ModuleCallEntry.fqn": (re.compile(r"[\w.@-]{0,400}"), "names a module"),
}  # fmt: skip
