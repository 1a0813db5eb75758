"""Every value says what it is without its tensors, and no text of the library names an option."""

import ast
import inspect
import pkgutil
import re
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
from torch import Tensor

import spikemorph
from spikemorph.cli.wording import as_key, as_option
from spikemorph.convert import certify, to_spiking
from spikemorph.graph.brief import brief, brief_repr
from spikemorph.graph.errors import Setting
from spikemorph.graph.grid import Grid, Interval
from spikemorph.layers import Linear, Readout, ReLU
from spikemorph.spiking import ReferenceEngine
from spikemorph.spiking.neurons import pow2

ROOT = Path(__file__).parents[1]
ROOMS = ("app", "convert", "energy", "graph", "layers", "prune", "quant", "robust", "spiking",
         "surrogate", "train", "zoo")  # fmt: skip
ELSEWHERE = (
    "app/cli/",
    "zoo/downloads.py",
    "zoo/making/",
    "zoo/sequences/synthesiser.py",
)  # options of ours, and of other programs


def library_texts() -> Iterator[tuple[str, str]]:
    """Every text of the library outside the command line that is no docstring."""
    for path in sorted(p for room in ROOMS for p in (ROOT / room).rglob("*.py")):
        name = str(path.relative_to(ROOT))
        if name.startswith(ELSEWHERE):
            continue
        tree = ast.parse(path.read_text())
        docs = {
            id(node.body[0].value)
            for node in ast.walk(tree)
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
            and node.body
            and isinstance(node.body[0], ast.Expr)
        }
        for node in ast.walk(tree):
            if (
                isinstance(node, ast.Constant)
                and isinstance(node.value, str)
                and id(node) not in docs
            ):
                yield f"{name}:{node.lineno}", node.value


def test_no_text_of_the_library_names_an_option() -> None:
    """Settings are data; whole commands, for people to copy, are commands."""
    found = [
        (place, text)
        for place, text in library_texts()
        if re.search(r"(^|[\s(])--[a-z]", text) and not text.startswith(("spikemorph ", " --"))
    ]
    assert not found


def settings_named() -> set[str]:
    """The names of all settings that messages of the library speak of."""
    names = set()
    for path in (p for room in ROOMS for p in (ROOT / room).rglob("*.py")):
        if str(path.relative_to(ROOT)).startswith("app/cli/"):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                at = {"Setting": 0, "Repair": 0, "_choice": -1, "_number": -1}.get(node.func.id)
                told = node.args[at] if at is not None and node.args else None
                if isinstance(told, ast.Constant):
                    names.add(str(told.value))
    return names


def test_what_repairs_name_is_an_option() -> None:
    """Or something that only Python has, and so is said to Python alone."""
    program = import_module("spikemorph.cli.program").program
    group: Any = typer.main.get_command(program)
    context = typer.Context(group)
    options = {
        option
        for name in group.list_commands(context)
        for parameter in group.resolve_command(context, [name])[1].params
        for option in parameter.opts
    }
    only_python = {"keys", "path", "labels", "images", "x", "model"}
    named = settings_named()
    assert {"input_range", "eps", "neuron"} <= named
    assert not {n for n in named - only_python if as_option(Setting(n)) not in options}


@pytest.mark.parametrize(
    ("setting", "option", "key"),
    [
        (Setting("input_range", (0, 255.5)), "--input-range 0,255.5", "input_range = [0, 255.5]"),
        (Setting("neuron", "lif"), "--neuron lif", 'neuron = "lif"'),
        (Setting("allow_empty", True), "--allow-empty", "--allow-empty"),
        (Setting("exit_rule"), "--exit", "--exit"),
        (Setting("flip", True), "--flip", "flip = true"),
    ],
)
def test_a_setting_is_spelt_for_its_reader(setting: Setting, option: str, key: str) -> None:
    assert (as_option(setting), as_key(setting)) == (option, key)


def dataclasses_with_tensors() -> Iterator[type]:
    for module in pkgutil.walk_packages(spikemorph.__path__, "spikemorph."):
        if module.name.endswith("__main__"):
            continue
        for name, kind in vars(import_module(module.name)).items():
            own = inspect.isclass(kind) and is_dataclass(kind) and kind.__module__ == module.name
            if (
                own
                and not name.startswith("_")
                and any("Tensor" in str(f.type) for f in fields(kind))
            ):
                yield kind


def test_values_with_tensors_do_not_show_them() -> None:
    """A dataclass's own `repr` prints every number of a tensor."""
    kinds = list(dataclasses_with_tensors())
    assert len(kinds) > 30
    assert not [kind for kind in kinds if "__create_fn__" in kind.__repr__.__qualname__]


@dataclass(frozen=True)
class Held:
    tensor: Tensor
    several: tuple[int, ...] = ()
    usual: int = 3

    __repr__ = brief_repr


def test_brief_is_kind_sizes_and_what_is_not_usual() -> None:
    assert repr(Held(torch.zeros(2, 3))) == "Held(tensor=float32 2x3)"
    assert repr(Held(torch.tensor(1), tuple(range(9)), 4)) == (
        "Held(tensor=int64 scalar, several=(0, 1, 2, 3, 4, 5, and 3 more), usual=4)"
    )
    assert brief((torch.zeros(1, dtype=torch.bool),)) == "(bool 1,)"


def test_networks_say_what_they_are(chain: Any, even_ladder: Any) -> None:
    x, weight = torch.ones(1, 2), torch.tensor([[1, 2]])
    floats = chain((2,), Linear(weight.float(), None), ReLU()).declare(Interval.of(0.0, 15.0))
    assert repr(floats) == "Graph of 3 nodes, inputs (2,) in 0..15: 1 Linear, 1 ReLU"
    ladder = even_ladder(4, 1, 2, 0, 7)
    ends = (
        Linear(torch.ones(1, 1, dtype=torch.int64), None),
        Readout(torch.tensor([1]), ladder.unit),
    )
    graph = chain((2,), Linear(weight, None), ladder, *ends, grid=Grid.of(0.0, 15.0, bits=4))
    network = to_spiking(graph, pow2())
    assert repr(network).startswith("SpikingNetwork of 1 neuron layer (pow2), inputs (2,) in 0..15")
    required = certify(network).steps_required
    assert repr(certify(network)) == (
        f"certificate A: equals its integer network after {required} steps, for all inputs"
    )
    assert repr(certify(network, 1)).startswith(
        "certificate B: equals its integer network, run for 1 of"
    )
    trace = ReferenceEngine(network).run(x, 3)
    assert repr(trace).startswith("Trace of 3 steps of 1 samples: outputs int64 3x1x1")
