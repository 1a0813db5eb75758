"""A page as HTML: one file with its style and script in it, which opens offline and fetches nothing."""

import base64
import hashlib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from jinja2 import DictLoader, Environment, StrictUndefined
from markupsafe import Markup

from .blocks import Block
from .page.summary import KeyFigure
from .plots import SAMPLES

WIDE, HALF, NARROW = 760, 368, 340  # pixels that a plot is drawn for
_TEMPLATES = ("page.html", "blocks.html")


@dataclass(frozen=True)
class Shown:
    """A section of a page."""

    key: str
    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Missing:
    """A section that a page lacks: the file that it is made of, and the command that makes it."""

    key: str
    title: str
    file: str
    made_by: str


@dataclass(frozen=True)
class Page:
    """What a page shows, from top to bottom.

    Parameters
    ----------
    kind, title, sentence : str
        What the page is, of what, and what happened.
    figures : tuple of KeyFigure
        The numbers that decide; those without a value are not shown.
    sections : tuple of Shown
        All else, in order.
    missing : tuple of Missing
        What stands at the end as not there.
    """

    kind: str
    title: str
    sentence: str
    figures: tuple[KeyFigure, ...]
    sections: tuple[Shown, ...]
    missing: tuple[Missing, ...] = ()


def rendered(page: Page) -> str:
    """The page as HTML, the same for the same page."""
    style, script = _asset("page.css"), _asset("page.js")
    return _environment().get_template("page.html").render(
        page=page,
        style=Markup(style),
        script=Markup(script),
        script_hash=_source_hash(script),
        samples=SAMPLES,
        widths={"wide": WIDE, "half": HALF, "narrow": NARROW},
    )  # fmt: skip


@cache
def _environment() -> Environment:
    """Escapes everything, and refuses names that it does not know."""
    return Environment(
        loader=DictLoader({name: _asset(name) for name in _TEMPLATES}),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _asset(name: str) -> str:
    return (files("spikemorph.report.page") / name).read_text(encoding="utf-8")


def _source_hash(script: str) -> str:
    """What the page's policy lets run: this script and no other."""
    digest = hashlib.sha256(script.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"
