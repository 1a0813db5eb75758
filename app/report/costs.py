"""Energy, memory and comparisons as tables and sentences for the terminal."""

from rich.box import SIMPLE_HEAD
from rich.console import JustifyMethod
from rich.table import Table
from rich.text import Text

from spikemorph.energy import EnergyResult, MemoryResult
from spikemorph.energy.counting.counts import Counts
from spikemorph.energy.results import HEADLINE, UNCHANGED, Band

from ..measures.comparison import Comparison
from . import formats
from .page.costs.forms import spoken

_FORMS = (
    ("ann", "ANN\nfp32"),
    ("integer_dense", "QANN\ndense"),
    ("integer_dense_skipping", "skip\nzeros"),
    ("integer_masked", "QANN\nmasked"),
    ("integer_masked_skipping", "skip\nzeros"),
    ("snn_dense", "SNN\ndense"),
    ("snn", "SNN"),
)
_NAME = 9  # columns that a name has at least


def price_table(result: EnergyResult) -> Table:
    """Every price list, every form of the network, uJ per inference."""
    table = Table(
        title=Text(
            f"{result.model} on {result.data}: uJ per inference "
            f"({result.counts.samples} samples, T = {result.counts.steps})",
            style="table.title",
        ),
        box=SIMPLE_HEAD,
        padding=0,
    )
    table.add_column("price list", no_wrap=True)
    for _, heading in _FORMS:
        table.add_column(heading, justify="right", no_wrap=True)
    for row in result.prices:
        cells = (_microjoule(row.energy_uj(column)) for column, _ in _FORMS)
        table.add_row(Text(row.name if row.in_band else f"{row.name} *"), *cells)
    starred = any(not row.in_band for row in result.prices)
    table.caption = f"{'* not in the band; ' if starred else ''}compare within a row only"
    return table


def cost_lines(result: EnergyResult) -> list[str]:
    """Operations, the verdict with its band, break-even, and what is stored."""
    counts = result.counts
    shown = ("ann", "snn_dense", HEADLINE, UNCHANGED)  # of the bands
    n = max(1, counts.samples)
    dense = counts.total("synops_dense_weights") if result.dense_counts is None else 0
    other = dense / n if result.dense_counts is None else result.dense_counts.synops / max(
        1, result.dense_counts.samples
    )  # fmt: skip
    fewer = f", {other * n / counts.synops:.2f}x fewer than the dense SNN" if counts.synops else ""
    lines = [
        f"synaptic operations: {counts.synops / n:,.0f} per inference{fewer} "
        f"({result.dense_source})",
        f"spikes: {counts.spikes / n:,.1f} per inference, {counts.spike_rate:.4f} per neuron and "
        f"step; {counts.spikes_per_synapse:.3f} per synapse",
        *_element_lines(counts),
        *(_band_line(b) for b in result.bands if b.against in shown),
        _even_line(result),
        _fit_line(result),
    ]
    if isinstance(result.memory, MemoryResult):
        lines.extend(_memory_lines(result.memory))
    return lines


def _element_lines(counts: Counts) -> list[str]:
    """Of each recurrent layer: what one element takes, of spikes and of the quantised network."""
    lines = []
    for layer in counts.along:
        often = max(1, counts.samples * len(layer.synops))
        spikes, analog, active, changed = (
            sum(found) / often
            for found in (layer.synops, layer.analog_macs, layer.mac_effective, layer.mac_changed)
        )
        lines.append(
            f"an element of {layer.node}: {spikes:,.0f} synaptic operations and {analog:,.0f} products "
            f"of input; its quantised twin with the same mask takes {layer.mac_masked:,} products, "
            f"{active:,.0f} skipping zeros, {changed:,.0f} skipping what did not change"
        )
    return lines


def _band_line(band: Band) -> str:
    return (
        f"energy against {spoken(band.against)}: {band.verdict} "
        f"({band.min:.3g}x to {band.max:.3g}x, median {band.median:.3g}x)"
    )


def _even_line(result: EnergyResult) -> str:
    rate = result.break_even_spike_rate
    if rate is None:
        return "no break-even: under most models idle cost alone exceeds the baseline"
    return f"break-even at {rate:.4f} spikes per neuron and step (median of the band's models)"


def _fit_line(result: EnergyResult) -> str:
    fit = result.fit
    cores = f"{fit.cores_used} of {fit.cores_available} cores"
    if fit.fits:
        return f"{fit.chip}: fits on one chip, {cores}"
    return f"{fit.chip}: does not fit ({cores}): {'; '.join(fit.problems[:2]) or 'too many cores'}"


def _memory_lines(memory: MemoryResult) -> list[str]:
    plain = memory.to_dict()
    total, kept = plain["weights_total"], plain["weights_nonzero"]
    factors = plain["factors"]
    lines = [
        f"weights: {kept:,} of {total:,} are not zero; stored in {formats.size(plain['storage_bits'])} "
        f"({plain['format']}), in fp32 {formats.size(plain['dense_fp32_bits'])}"
    ]
    if factors is not None:
        ratio = plain["dense_fp32_bits"] / plain["storage_bits"]
        lines.append(
            f"{ratio:.1f}x smaller = {factors['quantisation']:.2f} (quantisation) x "
            f"{factors['sparsity']:.2f} (sparsity) x {factors['index_overhead']:.2f} (index)"
        )
    return lines


def comparison_table(result: Comparison) -> Table:
    """Networks in rows: what they reach and what they cost."""
    table = Table(
        title=Text(f"compared on {result.data}, {result.n} samples", style="table.title"),
        box=SIMPLE_HEAD,
        padding=0,
    )
    headings = (
        "network", "sparse\n%", "float\n%", "integer\n%", "spiking\n%", "level,\nT",
        "logits\noff", "synops", "stored",
    )  # fmt: skip
    proved = list(dict.fromkeys(eps for n in result.networks for eps in n.certified))
    for heading in (*headings, *(f"proved\n{eps}" for eps in proved)):
        named = heading == "network"
        justify: JustifyMethod = "left" if named else "right"
        least = min(_NAME, max((len(n.name) for n in result.networks), default=0))
        table.add_column(
            heading, justify=justify, no_wrap=not named, overflow="fold",
            min_width=least if named else None,
        )  # fmt: skip
    for n in result.networks:
        table.add_row(
            Text(n.name), _fixed(n.sparsity), _fixed(n.float_accuracy), _fixed(n.integer_accuracy),
            _fixed(n.accuracy), f"{n.level or 'none'}, {_whole(n.steps)}",
            _whole(n.mismatching_logits), _whole(n.synops),
            "-" if n.storage_bits is None else formats.size(n.storage_bits),
            *(_fixed(n.certified.get(eps)) for eps in proved),
        )  # fmt: skip
    table.caption = "synops: operations per inference; stored: weights and index"
    return table


def _microjoule(value: float | None) -> str:
    """At most seven characters, so that all columns fit into eighty; two digits of small numbers."""
    if value is None:
        return "-"
    if value >= 1000:
        return f"{value:,.0f}" if value < 999_999.5 else f"{value:.1e}"
    return f"{value:.3g}" if value >= 0.001 else f"{value:.2g}"


def _fixed(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _whole(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"
