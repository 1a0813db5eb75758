"""How a command ended on an input: one of few allowed ways, or a finding."""

import os
import re
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .watch import Ring, Trespass, Watch, children, warnings_into, watched

_MEMORY = re.compile(
    r"not enough memory|can't allocate|unable to allocate|bad_alloc|MemoryError", re.I
)
_PROGRESS = re.compile(  # lines beside the output: how far a command is, what it doubts
    r"warning: .*|([\w-]+: )?epoch \d+: .*|[\w-]+: [\w-]+( was done before)?"
    r"|[\w-]+: inputs are taken to lie in .*"
)
_LONGEST = 2000  # characters of one line of error
WORKED, REFUSED = "worked", "refused"


@dataclass(frozen=True)
class End:
    """`kind` is worked, refused, or what went wrong; `where` tells one finding from another."""

    kind: str
    text: str = ""
    where: str = ""

    @property
    def allowed(self) -> bool:
        return self.kind in (WORKED, REFUSED)

    @property
    def signature(self) -> str:
        return f"{self.kind} {self.where}"


@dataclass(frozen=True)
class Stage:
    """Where inputs are put: `ring` holds the case's folder and what lies outside of it."""

    ring: Path
    said: Path  # what goes to standard output and error lies here
    touched: Ring

    @property
    def folder(self) -> Path:
        return self.ring / "case"


def run(act: Callable[[], int], stage: Stage) -> End:
    """Carry out one command, which gives its exit status, and judge how it ended."""
    watch, warned = Watch(stage.folder), list[str]()
    sys.stdout.flush()  # what making the input said
    sys.stderr.flush()
    os.ftruncate(1, 0)
    os.ftruncate(2, 0)
    stage.touched.touched()
    status, error = -1, None
    try:
        with warnings_into(warned), watched(watch):
            status = act()
    except (Exception, Trespass, SystemExit, KeyboardInterrupt) as found:
        error = found
    sys.stdout.flush()
    sys.stderr.flush()
    told = (stage.said / "stderr").read_text(errors="replace")
    end = _judged(status, error, told)
    if watch.seen:
        where = "" if error is None else _place(error)
        return End("trespass", watch.seen[0], f"{_shape(watch.seen[0])} {where}")
    if names := stage.touched.touched():
        return End("trespass", f"touches {names}", "native")
    if started := children():
        return End("trespass", f"starts the processes {started}", "process")
    if warned:
        return End("warning", warned[0], _shape(warned[0]))
    return end


def _judged(status: int, error: BaseException | None, told: str) -> End:
    if error is not None:
        kind = "memory" if _MEMORY.search(_chain(error)) else "exception"
        lines = "".join(traceback.format_exception(error)).splitlines()[-24:]
        return End(kind, "\n".join(lines), f"{type(error).__name__} {_place(error)}")
    if _MEMORY.search(told):
        return End("memory", told[-_LONGEST:], _shape(told))
    lines = [line for line in told.splitlines() if line.strip() and not _PROGRESS.fullmatch(line)]
    if status == 0:
        return End("noise", told[-_LONGEST:], _shape(told)) if lines else End(WORKED)
    if status not in (2, 3):
        return End("status", f"exit status {status}: {told[-_LONGEST:]}", str(status))
    one = len(lines) == 1 and lines[0].startswith("error: ")
    if status == 3 and not one:  # what cannot be converted is a list; tables go to standard output
        one = all(line.startswith(("error: ", "  ")) for line in lines)
    if not one or len(told) > _LONGEST * max(1, len(lines)):
        return End("unclear", told[:_LONGEST], _shape(told))
    return End(REFUSED, told[:_LONGEST], _shape(told))


def _chain(error: BaseException | None) -> str:
    texts = []
    while error is not None and len(texts) < 20:
        texts.append(f"{type(error).__name__}: {error}"[:500])
        error = error.__cause__ or error.__context__
    return "\n".join(texts)


def _place(error: BaseException) -> str:
    """The innermost line of the package's own code, and the innermost of all."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if "site-packages" not in f.filename and "/fuzz/" not in f.filename]
    own = [f for f in own if "/lib/python" not in f.filename]
    chosen = own[-1:] + frames[-1:]
    return " ".join(f"{Path(f.filename).name}:{f.name}" for f in chosen)


def _shape(text: str) -> str:
    """A message without its numbers and names, to tell kinds of messages apart."""
    return re.sub(r"\[.*?\]|'[^']*'|\"[^\"]*\"|[\d.]+", "*", text.strip())[:80]
