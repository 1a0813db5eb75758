"""How an error ends a command: its line, and the exit status (2 bad input, 3 unsupported parts)."""

from spikemorph.graph import SpikemorphError, UnsupportedError

from .shortage import shortage
from .wording import worded

_MOST = 1500  # characters of a line of error


def told(error: Exception) -> tuple[int, str] | None:
    """The exit status and the line for an error; None for one that is a defect."""
    if isinstance(error, UnsupportedError):
        return 3, worded(error)
    if isinstance(error, SpikemorphError):
        return 2, in_line(error)
    if isinstance(error, MemoryError | RuntimeError):
        line = shortage(error)
        return None if line is None else (2, line)
    if isinstance(error, OSError):  # unforeseen: a name too long, a folder that is closed
        place = "" if error.filename is None else f"{error.filename}: "
        return 2, f"{place}{error.strerror or error}"
    return None


def in_line(error: Exception) -> str:
    """What an error says in one line, without letters that a terminal obeys: files choose some.

    They choose how long it is, too: of what is longer than a screen, the middle is left out.
    """
    text = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in worded(error))
    if len(text) <= _MOST:
        return text
    return f"{text[: _MOST - 205]} ... {text[-200:]}"
