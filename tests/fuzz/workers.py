"""Run inputs in processes of their own, under limits; a process that dies is an answer, too."""

import contextlib
import faulthandler
import json
import os
import select
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import watch
from .ends import End, Stage, run

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Budget:
    """What one input may take: seconds of processor, seconds of clock, bytes beyond the start."""

    seconds: float = 5.0
    clock: float = 60.0
    memory: int = 1 << 30
    inputs: int = 400  # that one process takes, before another one goes on


Task = Callable[[Any, Path], Callable[[], int]]
"""Puts an item's files into a folder, and gives what is to be run."""


def room() -> Path:
    """A new folder in memory, where there is one."""
    memory = Path("/dev/shm")
    return Path(tempfile.mkdtemp(prefix="fuzz-", dir=memory if memory.is_dir() else None))


def ends_of(
    task: Task, items: Iterable[Any], budget: Budget, setup: Callable[[], None] = lambda: None
) -> Iterator[tuple[Any, End]]:
    """Every item with how its command ended, in order; `setup` is called in each new process."""
    waiting = list(items)
    ring = room()
    try:
        while waiting:
            done = 0
            for end in _one_process(task, waiting[: budget.inputs], budget, setup, ring):
                yield waiting[done], end
                done += 1
            waiting = waiting[done:]
    finally:
        shutil.rmtree(ring, ignore_errors=True)


def _one_process(
    task: Task, items: list[Any], budget: Budget, setup: Callable[[], None], ring: Path
) -> Iterator[End]:
    """The ends that one process gives; a crash or a hang is the last one."""
    source, sink = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        os.close(source)
        _work(task, items, budget, setup, ring, sink)
    os.close(sink)
    try:
        yield from _followed(child, source, len(items), budget, ring)
    finally:
        os.close(source)
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(child, 0)


def _followed(child: int, source: int, count: int, budget: Budget, ring: Path) -> Iterator[End]:
    text, given = b"", 0
    begun: tuple[float, float] | None = (0.0, time.monotonic())
    while given < count:
        ready, _, _ = select.select([source], [], [], 0.2)
        if not ready:
            if begun is not None and _is_over(child, begun, budget):
                yield End("overtime", *_stopped(child, ring))
                return
            continue
        piece = os.read(source, 1 << 16)
        if not piece:
            yield _death(child, ring)
            return
        text += piece
        *lines, text = text.split(b"\n")
        for line in lines:
            word, _, rest = line.partition(b" ")
            if word == b"begun":
                begun = (float(rest), time.monotonic())
            else:
                yield End(**json.loads(rest))
                given, begun = given + 1, None  # the next input is made on nobody's budget


def _is_over(child: int, begun: tuple[float, float], budget: Budget) -> bool:
    cpu, clock = begun
    return _seconds_of(child) - cpu > budget.seconds or time.monotonic() - clock > budget.clock


def _seconds_of(process: int) -> float:
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _stopped(child: int, ring: Path) -> tuple[str, str]:
    """Where a process stood that took too long."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, signal.SIGUSR1)
    time.sleep(0.5)
    return _stack(ring)


def _death(child: int, ring: Path) -> End:
    _, status = os.waitpid(child, 0)
    how = -os.waitstatus_to_exitcode(status)
    name = signal.Signals(how).name if how > 0 else f"status {-how}"
    text, where = _stack(ring)
    return End("crash", f"{name}\n{text}", f"{name} {where}")


def _stack(ring: Path) -> tuple[str, str]:
    text = (ring / "stack").read_text(errors="replace")[:4000]
    lines = [line.strip() for line in text.splitlines() if line.strip().startswith("File")]
    own = [x for x in lines if "site-packages" not in x and "/fuzz/" not in x]
    own = [x for x in own if "/lib/python" not in x]
    where = [x.rpartition("/")[2].replace('"', "") for x in (lines[:1] + own[:1])]
    return text, " ".join(w.partition(",")[0] + w.rpartition(" in")[2] for w in where)


def _work(
    task: Task, items: list[Any], budget: Budget, setup: Callable[[], None], ring: Path, sink: int
) -> None:
    """What the child does: item by item, telling before and after."""
    try:
        stage = _settled(ring, budget)
        setup()
        for item in items:
            shutil.rmtree(stage.folder, ignore_errors=True)
            (stage.folder / "tmp").mkdir(parents=True)
            os.chdir(stage.folder)
            act = task(item, stage.folder)
            os.write(sink, f"begun {time.process_time()}\n".encode())
            end = run(act, stage)
            os.write(sink, f"ended {json.dumps(vars(end))}\n".encode())
    except BaseException:  # a fault of the harness: seen by the parent as a death
        faulthandler.disable()
        (ring / "stack").write_text(__import__("traceback").format_exc())
        os._exit(99)
    os._exit(0)


def _settled(ring: Path, budget: Budget) -> Stage:
    """Streams into files, limits, hooks: this process is for inputs only from now on."""
    shutil.rmtree(ring / "case", ignore_errors=True)
    (ring / "canary.bin").write_bytes(bytes(4096))
    said = ring / "case.said"
    said.mkdir(exist_ok=True)
    for stream, name in ((1, "stdout"), (2, "stderr")):
        file = os.open(said / name, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
        os.dup2(file, stream)
    null = os.open("/dev/null", os.O_RDONLY)
    os.dup2(null, 0)
    sys.stdout = os.fdopen(1, "w", closefd=False)
    sys.stderr = os.fdopen(2, "w", closefd=False)
    stack = (ring / "stack").open("w")
    faulthandler.enable(stack)
    faulthandler.register(signal.SIGUSR1, stack)
    os.environ["SPIKEMORPH_HOME"] = str(ring / "home")
    tempfile.tempdir = str(ring / "case" / "tmp")
    watch.install()
    watch.limit_memory(budget.memory)
    return Stage(ring, said, watch.Ring(ring, "case"))
