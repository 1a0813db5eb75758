"""The program: its commands, and how errors end it (2 bad input, 3 unsupported parts)."""

import sys
from importlib.metadata import version
from typing import Annotated, Any

import typer

from spikemorph.graph import SpikemorphError, UnsupportedError

from . import (
    attack,
    certify,
    compare,
    convert,
    data,
    demo,
    energy,
    evaluate,
    finetune,
    inspect,
    prune,
    report,
    run,
    zoo,
)
from .shortage import shortage
from .wording import worded

# typer carries its own click or uses the installed one; either way this is the base of usage errors
USAGE: Any = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")
STOPPED = 130  # what typer, too, makes of Ctrl-C: in silence

program = typer.Typer(
    name="spikemorph",
    help="Turn trained networks into certified spiking networks.",
    add_completion=False,
    pretty_exceptions_enable=False,
)
program.command("demo")(demo.demo)
program.command("inspect")(inspect.inspect)
program.command("convert")(convert.convert)
program.command("certify")(certify.certify_network)
program.command("evaluate")(evaluate.evaluate_network)
program.command("prune")(prune.prune)
program.command("finetune")(finetune.finetune)
program.command("attack")(attack.attack)
program.command("energy")(energy.estimate)
program.command("compare")(compare.compare)
program.command("report")(report.report)
program.command("run")(run.run)
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


def in_line(error: Exception) -> str:
    """What an error says in one line, without letters that a terminal obeys: files choose some."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in worded(error))


def main() -> int:
    """Run the program; the exit status."""
    try:
        words = sys.argv[1:] or ["--help"]
        status = program(words, prog_name="spikemorph", standalone_mode=False)
    except USAGE as error:
        where = getattr(getattr(error, "ctx", None), "command_path", "spikemorph")
        text = error.format_message().replace("\n", " ").rstrip(".")
        typer.echo(f"error: {text}; see {where} --help", err=True)
        return 2
    except UnsupportedError as error:
        typer.echo(f"error: {error}", err=True)
        return 3
    except SpikemorphError as error:
        typer.echo(f"error: {in_line(error)}", err=True)
        return 2
    except (MemoryError, RuntimeError) as error:
        if (line := shortage(error)) is None:
            raise
        typer.echo(f"error: {line}", err=True)
        return 2
    except OSError as error:  # what no command foresaw: a name too long, a folder that is closed
        place = "" if error.filename is None else f"{error.filename}: "
        typer.echo(f"error: {place}{error.strerror or error}", err=True)
        return 2
    except (KeyboardInterrupt, typer.Abort):
        status = STOPPED
    if status == STOPPED:
        typer.echo("stopped; nothing was half-written", err=True)
    return status if isinstance(status, int) else 0
