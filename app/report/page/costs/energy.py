"""The section on energy: the verdict with its band, every price list, where the energy goes."""

from collections.abc import Mapping

from spikemorph.energy import EnergyResult
from spikemorph.energy.counting.counts import Counts
from spikemorph.energy.results import COLUMNS, PriceRow

from ... import formats
from ...blocks import Block, Cell, Figure, Fold, Prose, Table
from ...plots_bars import Ratios, ratios
from ...shapes import ANYTHING, NUMBER, TEXT, WHOLE, ListOf, MapOf, Maybe, Plain, shape_of
from .elements import elements
from .forms import ANN, DENSE_SPIKING, MASKED, SHORT, UNCHANGED, called
from .layers import counted, layers
from .limits import break_even, chip, constants
from .memory import SHAPE as MEMORY

_PRICE = shape_of(PriceRow, constants=ListOf(MapOf(ANYTHING)))
_COUNTS = shape_of(
    Counts, leaving=("per_sample",), computed=("spike_rate", "spikes_per_synapse"),
    totals=MapOf(NUMBER),
)  # fmt: skip


def _key(form: str) -> str:
    """The key of a column; files of before there were recurrent networks lack theirs."""
    return f"{form}?" if form == UNCHANGED else form


SHAPE = shape_of(
    EnergyResult,
    leaving=("memory",),
    computed=("band", "break_even_spike_rate"),
    n=WHOLE,
    counts=_COUNTS,
    dense_counts=ANYTHING,
    prices=ListOf(_PRICE | {_key(form): Maybe(NUMBER) for form in COLUMNS}),
    literature=ListOf({"name": TEXT, "low": NUMBER, "high": NUMBER, "unit": TEXT}),
    bits=MapOf(NUMBER),
) | {"memory?": Maybe(MEMORY)}
_DRAWN = (
    MASKED,
    UNCHANGED,
    "integer_dense",
    ANN,
    DENSE_SPIKING,
)  # baselines that the plot compares


def energy(parts: Mapping[str, Plain]) -> list[Block]:
    """The verdict; each price list's ratio; all prices; layers; break-even; what it rests on."""
    part = parts["energy"]
    bands = part["bands"] or [band for band in [part["band"]] if band]
    blocks: list[Block] = [_headline(part), Prose(_caveat(part))]
    if any(band.get("ratios") for band in bands):
        blocks.append(_figure(bands))
    if bands:
        blocks.append(_bands(bands))
    blocks += [_prices(part), *_meanings(part), *elements(part), *layers(part)]
    return [*blocks, *break_even(part), *chip(part), *counted(part), *constants(part)]


def _headline(part: Plain) -> Prose:
    if part["band"] is None:
        return Prose("No verdict: none of these price lists prices the baseline.", "warn")
    return Prose(_verdict(part), _tone(part["band"]["verdict"]))


def _tone(verdict: str) -> str:
    return {"lower": "good", "higher": "bad"}.get(verdict, "warn")


def _verdict(part: Plain) -> str:
    band = part["band"]
    against = called(band["against"])
    low, middle, high = (formats.factor(band[key]) for key in ("min", "median", "max"))
    count = len(band.get("ratios") or ()) or sum(p["in_band"] for p in part["prices"])
    lists = f"all {count} price lists" if count else "all price lists of the band"
    start = {
        "lower": f"Lower energy under {lists}",
        "higher": f"Higher energy under {lists}",
    }.get(band["verdict"], "Lower or higher energy depends on the price list")
    return (
        f"{start}: the sparse spiking network takes {low} to {high} (median {middle}) of what the "
        f"baseline takes ({against})."
    )


def _caveat(part: Plain) -> str:
    samples = formats.plural(part["n"], "sample")
    return (
        f"Operations are counted exactly, on {samples}; prices are published estimates, so all energies "
        "are estimates and none was measured on a chip. The word is “lower” or “higher” only where every "
        "price list of the band agrees."
    )


def _figure(bands: list[Plain]) -> Figure:
    known = [band for band in bands if band.get("ratios")]
    drawn = [band for band in known if band["against"] in _DRAWN] or known[:1]
    names = list(dict.fromkeys(name for band in drawn for name in band["ratios"]))
    rows = tuple(
        (
            name,
            tuple(
                (index, band["ratios"][name], _ratio_title(name, band))
                for index, band in enumerate(drawn)
                if name in band["ratios"]
            ),
        )
        for name in names
    )
    plot = Ratios(
        "Energy of the spiking network over that of each baseline, by price list",
        "energy of the sparse SNN ÷ energy of the baseline", rows, ("less than the baseline", "more"),
    )  # fmt: skip
    keys = tuple(f"against {called(band['against'])}" for band in drawn)
    reading = "Each row is one price list. Left of the line the spiking network takes less energy."
    return Figure("The band", lambda width: ratios(plot, width), reading, keys)


def _ratio_title(name: str, band: Plain) -> str:
    return f"{name}: {formats.factor(band['ratios'][name])} of {called(band['against'])}"


def _bands(bands: list[Plain]) -> Table:
    rows: tuple[tuple[str | Cell, ...], ...] = tuple(
        (
            called(band["against"]),
            Cell(band["verdict"], {"lower": "good", "higher": "bad"}.get(band["verdict"], "")),
            *(formats.factor(band[k]) for k in ("min", "median", "max")),
        )
        for band in bands
    )  # fmt: skip
    return Table(
        "Sparse SNN against each baseline",
        ("<Baseline", "<The SNN's energy", "Least", "Median", "Most"),
        rows,
    )


def _prices(part: Plain) -> Table:
    rows: list[tuple[str | Cell, ...]] = []
    priced = [price.get(UNCHANGED) is not None for price in part["prices"]]
    forms = [form for form in SHORT if form != UNCHANGED or any(priced)]
    for price in part["prices"]:
        found = [price[form] for form in forms]
        cells = [Cell(formats.energy(value), "" if value is not None else "dim") for value in found]
        rows.append((price["name"], *cells, _basis(price)))
    return Table(
        "Energy of one inference under every price list",
        ("<Price list", *(SHORT[form] for form in forms), "<Rests on"),
        tuple(rows),
        note="A dash: the list prices no such network. A list rests on its weakest constant.",
    )


def _basis(price: Plain) -> str:
    return ", ".join(text for text in (price["node"], price["evidence"]) if text not in ("", "-"))


def _meanings(part: Plain) -> list[Block]:
    """What each price list prices, and what must be said beside it."""
    rows = tuple(
        (
            price["name"], price["title"] or formats.NONE, "yes" if price["in_band"] else "no",
            price["note"] or formats.NONE,
        )
        for price in part["prices"]
    )  # fmt: skip
    headings = ("<Price list", "<What it prices", "<In the band", "<To be said beside it")
    table = Table("What each price list prices, and leaves out", headings, rows)
    return [Fold("What each price list prices, and leaves out", (table,))]
