"""The page of a whole run: all its networks beside each other, each with a link to its own report."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from spikemorph.graph import InputError
from spikemorph.graph.saving import write_bytes

from . import formats
from .blocks import Block, Cell, Entries, Prose, Table
from .html import write_report
from .page.comparison import comparison, extremes
from .page.robustness.curves import networks_over_eps
from .page.robustness.words import headline
from .page.sentence import sentence
from .page.summary import KeyFigure, key_figures
from .record import Report, holds_parts, read_run
from .robust import eps_text
from .shapes import Plain
from .templates import Page, Shown, rendered

INDEX, REPORT = "index.html", "report.html"
# Columns beside the network's name, by the key figures that they show: a phone shows the first two.
_COLUMNS = (
    "Energy verdict", "Accuracy", "Robust accuracy", "Sanity gates", "Certificate", "Sparsity",
    "Time steps",
)  # fmt: skip
_WORDS = ("Energy verdict", "Sanity gates", "Certificate")


@dataclass(frozen=True)
class Network:
    """One network of a run: its folder's name, and what is known of it."""

    name: str
    report: Report

    @property
    def link(self) -> str:
        """Its own report, from the index beside its folder."""
        return f"{quote(self.name)}/{REPORT}"


def networks_in(folder: Path) -> tuple[Network, ...]:
    """The networks whose runs lie in a folder, each in a folder of its own.

    In the order in which the run compares them; those that it does not compare come last, by name.

    Raises
    ------
    InputError
        If a part of one is damaged; names the folder, the file and the key.
    """
    inside = sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    found = [Network(path.name, _read(path)) for path in inside if holds_parts(path)]
    order = [row["name"] for row in (_compared(found) or {"networks": []})["networks"]]
    placed = {name: place for place, name in enumerate(order)}
    return tuple(sorted(found, key=lambda network: placed.get(network.name, len(placed))))


def render_index(title: str, networks: tuple[Network, ...]) -> str:
    """The page that sets the networks of a run side by side.

    Parameters
    ----------
    title : str
        What the run is called.
    networks : tuple of Network
        At least one.
    """
    reports = {network.name: network.report.parts for network in networks}
    compared = _compared(networks)
    told = Entries(tuple((n.name, n.link, sentence(n.report.parts)) for n in networks))
    shown = [Shown("networks", "The networks", (_table(networks), told))]
    if attacked := {n: p["robustness"] for n, p in reports.items() if "robustness" in p}:
        shown.append(Shown("robustness", "Under attack", tuple(_attacked(attacked))))
    if compared is not None:
        shown.append(
            Shown("comparison", "Side by side", tuple(comparison({"comparison": compared})))
        )
    many = f"{formats.plural(len(networks), 'network')}."
    said = many if compared is None else extremes(compared)
    return rendered(Page("spikemorph run", title, said, (), tuple(shown)))


def write_index(folder: Path, title: str, networks: tuple[Network, ...]) -> Path:
    """Write ``index.html`` in the folder that holds the networks' folders.

    Raises
    ------
    InputError
        If it cannot be written.
    """
    path = folder / INDEX
    write_bytes(path, render_index(title, networks).encode())
    return path


def write_run(folder: Path, networks: tuple[Network, ...]) -> Path:
    """Write the report of every network in its own folder, and the index beside them.

    Returns
    -------
    Path
        The index, called as the folder is.

    Raises
    ------
    InputError
        If a file cannot be written.
    """
    for network in networks:
        write_report(network.report, folder / network.name / REPORT)
    return write_index(folder, folder.resolve().name, networks)


def _compared(networks: Sequence[Network]) -> Plain:
    """The comparison of all, which every network's run holds; None where none does."""
    parts = (network.report.parts for network in networks)
    return next((own["comparison"] for own in parts if "comparison" in own), None)


def _read(folder: Path) -> Report:
    try:
        return read_run(folder)
    except InputError as error:
        raise InputError(f"{folder.name}/{error}") from error


def _table(networks: tuple[Network, ...]) -> Table:
    figures = [{f.label: f for f in key_figures(n.report.parts)} for n in networks]
    columns = [c for c in _COLUMNS if any(c in own and own[c].value for own in figures)]
    rows = tuple(
        (
            Cell(network.name, link=network.link),
            *(_cell(own.get(column), network.report.parts) for column in columns),
        )
        for network, own in zip(networks, figures, strict=True)
    )
    headings = tuple(f"<{column}" if column in _WORDS else column for column in columns)
    return Table("Every network, and where to read more", ("<Network", *headings), rows)


def _cell(figure: KeyFigure | None, parts: Mapping[str, Plain]) -> Cell:
    if figure is None or figure.value is None:
        return Cell(formats.NONE, "dim")
    text = figure.value
    if figure.label == "Robust accuracy":
        row = headline(parts["robustness"])
        text = text if row is None else f"{text} at {eps_text(row['eps'])}"
    return Cell(text, figure.tone)


def _attacked(parts: Mapping[str, Plain]) -> list[Block]:
    """The worst case of every network that was attacked."""
    text = "What is left of every network in the worst case of all attacks on it."
    return [Prose(text), networks_over_eps(parts)]
