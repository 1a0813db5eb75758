"""A report as one page: a file that opens offline, and fetches nothing."""

import base64
import hashlib
import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

from jinja2 import DictLoader, Environment, StrictUndefined
from markupsafe import Markup

from spikemorph.graph import InputError
from spikemorph.graph.saving import write_bytes

from .blocks import Block
from .page.sentence import sentence
from .page.summary import key_figures, title
from .plots import SAMPLES
from .record import PARTS, Report
from .sections import SECTIONS, Section, sections_of

WIDE, HALF, NARROW = 760, 368, 340  # pixels that a plot is drawn for
_TEMPLATES = ("page.html", "blocks.html")


@dataclass(frozen=True)
class _Shown:
    """A section with what is in it; no blocks where the run lacks the part."""

    section: Section
    blocks: tuple[Block, ...]


def render_report(report: Report, sections: tuple[Section, ...] = SECTIONS) -> str:
    """The whole page as HTML, the same for the same data.

    Parameters
    ----------
    report : Report
        The run. What it lacks is named in the page, with the command that makes it.
    sections : tuple of Section
        What the page shows, in order.
    """
    shown = [
        _Shown(s, tuple(s.blocks(report.parts)) if s.part in report.parts else ())
        for s in sections_of(report.parts, sections)
    ]
    style, script = _asset("page.css"), _asset("page.js")
    return _environment().get_template("page.html").render(
        title=title(report.parts),
        sentence=sentence(report.parts),
        figures=key_figures(report.parts),
        sections=shown,
        style=Markup(style),
        script=Markup(script),
        script_hash=_source_hash(script),
        samples=SAMPLES,
        widths={"wide": WIDE, "half": HALF, "narrow": NARROW},
    )  # fmt: skip


def write_report(report: Report, path: Path) -> None:
    """Write the page, and beside it the same report as JSON (``report.html``, ``report.json``).

    Raises
    ------
    InputError
        If the JSON would overwrite a part of a run, or a file cannot be written.
    """
    beside = path.with_suffix(".json")
    if beside == path or beside.stem in PARTS:
        raise InputError(f"{path}: {beside.name} beside it has another use; choose report.html")
    page = render_report(report)
    write_bytes(beside, (json.dumps(report.to_dict(), indent=1) + "\n").encode())
    write_bytes(path, page.encode())


def missing_parts(report: Report, sections: tuple[Section, ...] = SECTIONS) -> tuple[str, ...]:
    """The parts that sections need and the run lacks, in the page's order."""
    wanted = sections_of(report.parts, sections)
    return tuple(dict.fromkeys(s.part for s in wanted if s.part not in report.parts))


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
