"""What a section of the report is made of: plain blocks that a page, or any other renderer, lays out."""

from collections.abc import Callable
from dataclasses import dataclass

from markupsafe import Markup


@dataclass(frozen=True)
class Prose:
    """A paragraph. `tone` is empty, ``lead``, ``note``, ``good``, ``warn``."""

    text: str
    tone: str = ""
    kind: str = "prose"


@dataclass(frozen=True)
class Facts:
    """Names and values, one pair a line."""

    rows: tuple[tuple[str, str], ...]
    kind: str = "facts"


@dataclass(frozen=True)
class Cell:
    """A table's cell with a tone (``good``, ``bad``, ``dim``, ``tag``), a small picture, or a link."""

    text: str
    tone: str = ""
    picture: Markup | None = None
    link: str = ""


@dataclass(frozen=True)
class Table:
    """Rows below headings. A heading that starts with ``<`` is a column of words, not numbers."""

    caption: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str | Cell, ...], ...]
    foot: tuple[str | Cell, ...] = ()
    note: str = ""
    kind: str = "table"


@dataclass(frozen=True)
class Figure:
    """A plot as a function of its width in pixels; `keys` name the colours it uses.

    A `half` figure is drawn once, to stand beside another; others for wide and for narrow pages.
    The keys show each series' ``sign``, ``line`` or ``bar``.
    """

    title: str
    draw: Callable[[int], Markup]
    reading: str = ""
    keys: tuple[str, ...] = ()
    half: bool = False
    keyed_by: str = "sign"
    kind: str = "figure"


@dataclass(frozen=True)
class Group:
    """Figures that stand beside each other where there is room; ``size`` is half or quarter.

    `keys`, shown as ``keyed_by``, are those of all figures.
    """

    figures: tuple[Figure, ...]
    size: str = "half"
    keys: tuple[str, ...] = ()
    keyed_by: str = "sign"
    kind: str = "group"


@dataclass(frozen=True)
class Code:
    """Text to copy, a command or a hash."""

    text: str
    kind: str = "code"


@dataclass(frozen=True)
class Fold:
    """Blocks that a reader unfolds; on paper they are open."""

    title: str
    blocks: tuple["Block", ...]
    kind: str = "fold"


@dataclass(frozen=True)
class Check:
    """One line of a checklist: how it went (``good``, ``bad`` or no tone), and what is said of it."""

    state: str
    tone: str
    title: str
    found: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Checklist:
    """Checks below a headline. With a `tone` (``bad``, ``warn``, ``good``) it is a box that calls."""

    headline: str
    checks: tuple[Check, ...] = ()
    tone: str = ""
    text: str = ""
    kind: str = "checklist"


@dataclass(frozen=True)
class Entries:
    """Names that link to pages, each with what is said of it: (name, link, text)."""

    rows: tuple[tuple[str, str, str], ...]
    kind: str = "entries"


Block = Entries | Prose | Facts | Table | Figure | Group | Code | Fold | Checklist
