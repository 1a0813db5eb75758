"""The command line: ``spikemorph COMMAND``; one thin file a command."""

from .program import main

__all__ = ["main"]
