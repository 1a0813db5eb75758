"""How the command starts: Ctrl-C is heard from here on, and ends it in one line while modules load."""

import gc
import os
import signal
from importlib import import_module
from types import FrameType

STOPPED = 130  # the exit status of what a user stopped, which typer, too, makes of Ctrl-C
_LINE = "stopped; nothing was half-written"


def main() -> int:
    """Load the program and run it; the exit status."""
    gc.disable()  # what is loaded stays: looking for garbage in it is a sixth of the time it takes
    heard = signal.getsignal(signal.SIGINT) is not signal.SIG_IGN  # as in the background of a shell
    if heard:
        signal.signal(signal.SIGINT, _leave)
    program = import_module("spikemorph.cli.program")
    if not heard:
        return int(program.main())
    try:
        status = int(program.main())
    except KeyboardInterrupt:  # a second one, while the first was answered
        status = STOPPED
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # all is done; only modules are put away
    # Python takes an interrupt that came while text was executed (a dataclass being made) for one that
    # nobody heard, and would end by the signal instead of the status: the next text takes that back
    exec("")
    return status


def work_begins() -> None:
    """What a command needs is loaded: from here on Ctrl-C unwinds it, so that files are closed."""
    if not gc.isenabled():
        gc.freeze()
        gc.enable()
    if signal.getsignal(signal.SIGINT) is _leave:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def stopped(error: BaseException | None) -> bool:
    """Whether an error came of Ctrl-C: a module that was half loaded makes another of it."""
    while error is not None:
        if isinstance(error, KeyboardInterrupt):
            return True
        error = error.__cause__ or error.__context__
    return False


def _leave(signum: int, frame: FrameType | None) -> None:
    """End at once: nothing is open yet, and what is half loaded would turn an exception into another."""
    os.write(2, f"{_LINE}\n".encode())
    os._exit(STOPPED)
