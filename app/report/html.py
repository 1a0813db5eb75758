"""A report as one page: a file that opens offline, and fetches nothing."""

import json
from pathlib import Path

from spikemorph.graph import InputError
from spikemorph.graph.saving import write_bytes

from .page.sentence import sentence
from .page.summary import key_figures, title
from .record import PARTS, Report
from .sections import SECTIONS, Section, sections_of
from .templates import Missing, Page, Shown, rendered


def render_report(report: Report, sections: tuple[Section, ...] = SECTIONS) -> str:
    """The whole page as HTML, the same for the same data.

    Parameters
    ----------
    report : Report
        The run. What it lacks is named in the page, with the command that makes it.
    sections : tuple of Section
        What the page shows, in order.
    """
    parts = report.parts
    wanted = sections_of(parts, sections)
    shown = tuple(Shown(s.key, s.title, tuple(s.blocks(parts))) for s in wanted if s.part in parts)
    missing = tuple(
        Missing(s.key, s.title, f"{s.part}.json", s.made_by) for s in wanted if s.part not in parts
    )
    figures = tuple(key_figures(parts))
    return rendered(
        Page("spikemorph report", title(parts), sentence(parts), figures, shown, missing)
    )


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
