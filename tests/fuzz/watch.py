"""Watch what runs on an input: what it opens, writes, imports, compiles, starts, says, and takes.

An audit hook sees what Python does; the kernel tells of files that native code touches around the
case's folder. What is not allowed is noted, and stopped where Python asks before it acts.
"""

import ctypes
import os
import resource
import struct
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer

PAYLOAD = "__import__('fuzz_canary').touch()"  # what hostile texts try to have evaluated
_MARK = "fuzz_canary"
_READABLE = tuple(
    os.path.realpath(place)
    for place in (
        sys.prefix,
        sys.base_prefix,
        Path(__file__).parents[2],  # the package's own rooms
        Path(typer.__file__).parents[1],  # what is installed
        "/proc/self",
        "/dev/null",
        "/dev/urandom",
        "/sys/devices/system/cpu",
    )
)
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_FORBIDDEN = {  # none of these is needed to read a file
    *("os.system", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "pty.spawn"),
    *("subprocess.Popen", "os.startfile", "os.kill", "signal.pthread_kill", "pickle.find_class"),
    *("ctypes.dlopen", "sys.addaudithook", "webbrowser.open"),
}
_PATHS = {  # which arguments are paths that are written or looked at
    **dict.fromkeys(("os.remove", "os.mkdir", "os.rmdir", "os.chmod", "os.chown", "os.truncate"), 1),
    **dict.fromkeys(("os.rename", "os.link", "os.symlink"), 2),
    **dict.fromkeys(("os.listdir", "os.scandir", "glob.glob"), -1),
}  # fmt: skip
_SOUGHT = {"olefile", "z3"}  # what Pillow and torch use if it is installed
_KNOWN_WARNINGS = ("isinstance(treespec, LeafSpec)", "Using padding='same'")  # as in setup.cfg


class Trespass(BaseException):
    """Raised in place of what is not allowed; no `except Exception` swallows it."""


class Watch:
    """What one input did that it must not do."""

    def __init__(self, folder: Path) -> None:
        self.folder = os.path.realpath(folder)
        self.seen: list[str] = []
        loaded = {name.partition(".")[0] for name in sys.modules}
        self.modules = loaded | set(sys.stdlib_module_names) | _SOUGHT

    def refuse(self, what: str) -> None:
        self.seen.append(what)
        raise Trespass(what)

    def event(self, name: str, args: tuple[Any, ...]) -> None:
        if name in _FORBIDDEN or name.startswith(("socket.", "ftplib.", "urllib.", "http.")):
            self.refuse(f"{name} {args[:2]!r:.200}")
        elif name == "open":
            path, _, flags = args
            self._place(path, bool((flags or 0) & _WRITES))
        elif name in _PATHS:
            count = _PATHS[name]
            for path in args[: abs(count)]:
                self._place(path, count > 0)
        elif name == "compile":
            self._code(args[0])
        elif name == "import" and args[0].partition(".")[0] not in self.modules:
            self.refuse(f"imports {args[0]!r:.100}")

    def _place(self, path: Any, writes: bool) -> None:
        if isinstance(path, int) or path is None:
            return
        real = os.path.realpath(os.fsdecode(path))
        allowed = (self.folder,) if writes else (self.folder, *_READABLE)
        if writes and real == "/dev/null":
            return
        if not any(real == place or real.startswith(place + "/") for place in allowed):
            self.refuse(f"{'writes' if writes else 'reads'} {os.fsdecode(path)!r:.200}")

    def _code(self, source: Any) -> None:
        text = source.decode(errors="replace") if isinstance(source, bytes) else source
        if isinstance(text, str) and _MARK in text:
            self.refuse(f"compiles {text!r:.200}")


_now: Watch | None = None
_installed = False


def _hook(name: str, args: tuple[Any, ...]) -> None:
    global _now
    watch = _now
    if watch is None:
        return
    _now = None  # what the check itself does is not watched
    try:
        watch.event(name, args)
    finally:
        _now = watch


def install() -> None:
    """Hook this process, for good: only in processes that end with their inputs."""
    global _installed
    if not _installed:
        sys.addaudithook(_hook)
        _installed = True


@contextmanager
def watched(watch: Watch) -> Iterator[None]:
    """All that happens within is checked."""
    global _now
    _now = watch
    try:
        yield
    finally:
        _now = None


class Ring:
    """The kernel's word on what is opened or made in a folder, by whatever code, but for one entry."""

    _EVENTS = 0x2 | 0x20 | 0x40 | 0x80 | 0x100 | 0x200  # modify, open, moves, create, delete

    def __init__(self, folder: Path, besides: str) -> None:
        library = ctypes.CDLL(None, use_errno=True)
        self.besides = besides
        self.stream = library.inotify_init1(os.O_NONBLOCK)
        if library.inotify_add_watch(self.stream, os.fsencode(folder), self._EVENTS) < 0:
            raise OSError(ctypes.get_errno(), "inotify_add_watch")

    def touched(self) -> list[str]:
        """The names that were touched since the last call."""
        try:
            content = os.read(self.stream, 1 << 16)
        except BlockingIOError:
            return []
        names, place = set(), 0
        while place < len(content):
            _, _, _, size = struct.unpack_from("iIII", content, place)
            name = content[place + 16 : place + 16 + size].rstrip(b"\0").decode(errors="replace")
            place += 16 + size
            names.add(name)
        return sorted(name for name in names if name not in ("", self.besides))


def limit_memory(extra: int) -> None:
    """No more address space than now and `extra` bytes; no core files."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + extra
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def children() -> list[int]:
    """The processes that this one has started."""
    found = (path.read_text().split() for path in Path("/proc/self/task").glob("*/children"))
    return [int(word) for words in found for word in words]


@contextmanager
def warnings_into(seen: list[str]) -> Iterator[None]:
    """Every warning, but for those that the tests allow, is noted."""

    def note(message: Any, category: type[Warning], *_: Any, **__: Any) -> None:
        if not any(known in str(message) for known in _KNOWN_WARNINGS):
            seen.append(f"{category.__name__}: {message}")

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = note
        yield
