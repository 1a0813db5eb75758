"""How far long work is, and how long it may still take: a bar on a terminal, else a line now and then."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, TaskProgressColumn, TextColumn
from rich.progress import Progress as Bar

from ..measures.robustness import Progress
from .output import progress_console, tell

_SELDOM = 30.0  # seconds between lines where there is no terminal
_SURE = 5.0  # seconds of work before what is left is told


@contextmanager
def meter() -> Iterator[Callable[[Progress], None]]:
    """Yields what to call with a `Progress`."""
    if not progress_console.is_terminal:
        yield _Lines()
        return
    text = "{task.description}"
    columns = (
        TextColumn(text),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[left]}"),
    )
    with Bar(*columns, console=progress_console, transient=True) as bar:
        task, clock = bar.add_task("", total=1.0, left="", visible=False), _Clock()

        def show(at: Progress) -> None:
            left = clock.left(at)
            bar.update(task, completed=at.share, description=at.doing, left=left, visible=True)

        yield show


class _Clock:
    """What is left of one thing, by how long what is done took."""

    def __init__(self) -> None:
        self.doing, self.since = "", 0.0

    def left(self, at: Progress) -> str:
        """In words; empty while nothing can be said."""
        now = time.monotonic()
        if at.doing != self.doing:
            self.doing, self.since = at.doing, now
        spent, made = now - self.since, at.share - at.before
        if spent < _SURE or made <= 0:
            return ""
        return f"about {_duration(spent * (1 - at.share) / made)} left"


class _Lines:
    """The same for a log file: a line where something else begins, and every half minute."""

    def __init__(self) -> None:
        self.clock, self.last = _Clock(), -_SELDOM

    def __call__(self, at: Progress) -> None:
        fresh = at.doing != self.clock.doing
        left = self.clock.left(at)
        now = time.monotonic()
        if fresh or now - self.last >= _SELDOM:
            self.last = now
            said = f"{at.doing}: {100 * at.share:.0f} % done"
            tell(", ".join([said, *([left] if left else [])]))


def _duration(seconds: float) -> str:
    """In words, to one place."""
    for unit, size in (("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(1.0, seconds):.0f} seconds"
