"""The program: its commands, each loaded when it is called, and how errors end it."""

import ast
import sys
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from ..start import STOPPED, stopped, work_begins

# typer carries its own click or uses the installed one; either way this is the base of usage errors
USAGE: Any = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")
COMMANDS = {  # the module of that name in this folder, and what it calls the command or its group
    "demo": "demo",
    "inspect": "inspect",
    "convert": "convert",
    "certify": "certify_network",
    "evaluate": "evaluate_network",
    "stream": "stream",
    "prune": "prune",
    "finetune": "finetune",
    "attack": "attack",
    "energy": "estimate",
    "compare": "compare",
    "report": "report",
    "run": "run",
    "data": "program",
    "zoo": "program",
}


class _Late(TyperGroup):
    """Lists commands by the sentence that their file opens with; loads the one that is called."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.commands.update({name: TyperCommand(name) for name in COMMANDS})

    def list_commands(self, ctx: Any) -> list[str]:
        for name, command in self.commands.items():
            command.help = command.help or _sentence(name)
        return list(self.commands)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name, found, rest = super().resolve_command(ctx, args)
        if name is not None and found is not None:
            found = self.commands[name] = _loaded(name)
        return name, found, rest


def _sentence(name: str) -> str:
    """What a command is for, as its file says, which takes seconds to load and nothing to read."""
    spec: Any = find_spec(f"{__package__}.{name}")
    text = ast.get_docstring(ast.parse(spec.loader.get_source(spec.name))) or ""
    said = text.partition(": ")[2]
    return said[:1].upper() + said[1:]


def _loaded(name: str) -> Any:
    found = getattr(import_module(f"{__package__}.{name}"), COMMANDS[name])
    work_begins()
    if not isinstance(found, typer.Typer):
        alone = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
        alone.command(name)(found)
        found = alone
    return typer.main.get_command(found)


program = typer.Typer(
    cls=_Late,
    name="spikemorph",
    help="Turn trained networks into certified spiking networks.",
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(version("spikemorph"))
        raise typer.Exit


@program.callback()
def _options(
    _: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Turn trained networks into certified spiking networks."""


def main() -> int:
    """Run the program; the exit status: 2 for bad usage or bad input, 3 for unsupported parts."""
    try:
        words = sys.argv[1:] or ["--help"]
        status = program(words, prog_name="spikemorph", standalone_mode=False)
    except USAGE as error:
        where = getattr(getattr(error, "ctx", None), "command_path", "spikemorph")
        text = error.format_message().replace("\n", " ").rstrip(".")
        typer.echo(f"error: {text}; see {where} --help", err=True)
        return 2
    except (KeyboardInterrupt, typer.Abort):
        status = STOPPED
    except Exception as error:
        if stopped(error):
            status = STOPPED
        else:  # what errors are called is loaded with torch
            known = import_module(f"{__package__}.failures").told(error)
            if known is None:
                raise
            status, line = known
            typer.echo(f"error: {line}", err=True)
    if status == STOPPED:
        typer.echo("stopped; nothing was half-written", err=True)
    return status if isinstance(status, int) else 0
