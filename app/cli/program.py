"""The program: its commands, and how errors end it (2 bad input, 3 unsupported parts)."""

from importlib.metadata import version
from typing import Annotated

import typer

from spikemorph.graph import SpikemorphError, UnsupportedError

from . import certify, convert, data, demo, evaluate, inspect, zoo

program = typer.Typer(
    name="spikemorph",
    help="Turn trained networks into certified spiking networks.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
program.command("demo")(demo.demo)
program.command("inspect")(inspect.inspect)
program.command("convert")(convert.convert)
program.command("certify")(certify.certify_network)
program.command("evaluate")(evaluate.evaluate_network)
program.add_typer(data.program, name="data")
program.add_typer(zoo.program, name="zoo")


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
    """Run the program; the exit status."""
    try:
        program(prog_name="spikemorph")
    except UnsupportedError as error:
        typer.echo(f"error: {error}", err=True)
        return 3
    except SpikemorphError as error:
        typer.echo(f"error: {error}", err=True)
        return 2
    except KeyboardInterrupt:
        typer.echo("stopped; nothing was half-written", err=True)
        return 130
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0
    return 0
