"""Tables and sentences for the terminal, from result objects only."""

from collections.abc import Mapping
from dataclasses import astuple
from typing import Any

from rich.table import Table
from rich.text import Text

from spikemorph.convert import Certificate
from spikemorph.graph.tasks import Distance

from ..measures.results import Errors, EvaluationResult, Inspection
from ..training.prune import PruneResult


def curve_table(result: EvaluationResult) -> Table:
    """Accuracy over time steps, one row a step."""
    table = Table(
        title=_title(
            f"{result.model} ({result.neuron} neurons) on {result.data}, {result.n} samples"
        )
    )
    told = ("accuracy %", "agreement %")
    if result.error is not None:
        whom = "float" if result.settled.mismatching_logits is None else "integer"
        told = ("rmse to targets", f"rmse to {whom}")
    for heading in ("T", *told, "mismatching logits", "spikes / inference"):
        table.add_column(heading, justify="right")
    for point in result.curve:
        numbers = result.error is not None
        table.add_row(
            str(point.steps),
            _apart(point.target_error) if numbers else _percent(point.accuracy),
            _apart(point.error) if numbers else _percent(point.agreement),
            _mismatches(point.mismatching_logits, result),
            f"{point.spikes_per_inference:.1f}",
        )
    return table


def in_time_table(found: Mapping[str, Any]) -> Table:
    """Accuracy over time steps of a network trained through time; see `measure_in_time`."""
    table = Table()
    for heading in ("T", "accuracy %"):
        table.add_column(heading, justify="right")
    for point in found["curve"]:
        table.add_row(str(point["steps"]), _percent(point["accuracy"]))
    return table


def in_time_lines(found: Mapping[str, Any]) -> list[str]:
    """Spikes and operations of such a network."""
    return [
        f"per inference at T = {found['steps']}: {found['spikes_per_inference']:,.1f} spikes of "
        f"{found['neurons']:,} neurons, {found['synops']:,.0f} synaptic operations, and "
        f"{found['products']:,.0f} products of inputs that are no spikes",
        "no certificate: it has no integer network to be compared with",
    ]


def _mismatches(count: int | None, result: EvaluationResult) -> Text:
    if count is None:
        return Text("-")
    return Text(f"{count} of {result.n * result.outputs}", style="green" if count == 0 else "")


def summary_lines(result: EvaluationResult) -> list[str]:
    """The two gaps, apart; when it settled; what an early exit gave."""
    if result.error is not None:
        return _lines_of_numbers(result, result.error)
    last, settled = result.curve[-1], result.settled
    lines = []
    if result.integer_accuracy is None and settled.mismatching_logits is None:
        gap = _difference(last.accuracy, result.float_accuracy)
        lines.append(
            f"float -> rate-coded: {_percent(result.float_accuracy)} % -> "
            f"{_percent(last.accuracy)} % at T = {last.steps} ({gap}, measured)"
        )
        return lines
    if result.float_accuracy is not None:
        gap = _difference(result.integer_accuracy, result.float_accuracy)
        lines.append(
            f"float -> integer:   {_percent(result.float_accuracy)} % -> "
            f"{_percent(result.integer_accuracy)} % ({gap}, measured)"
        )
    proved = {"A": "proved zero for all inputs", "B": "zero where a silent step was seen"}
    kind = proved.get(result.certificate.level or "", "measured")
    gap = _difference(last.accuracy, result.integer_accuracy)
    lines.append(
        f"integer -> spiking: {_percent(result.integer_accuracy)} % -> {_percent(last.accuracy)} % "
        f"at T = {last.steps} ({gap}, {kind})"
    )
    lines.append(
        f"settled after {settled.steps_mean:.2f} steps on average, {settled.steps_max} at most; "
        f"{settled.mismatching_logits} mismatching logits; {result.seconds:.1f} s"
    )
    if result.letters is not None:
        told = zip(("float", "integer", "spiking"), astuple(result.letters), strict=True)
        rates = ", ".join(f"{name} {rate:.2f}" for name, rate in told if rate is not None)
        lines.append(f"edits for each hundred letters: {rates}; accuracy is of whole strings")
    if result.exit is not None:
        lines.append(
            f"early exit, {result.exit.rule}: {result.exit.steps_mean:.2f} steps on average, accuracy "
            f"{_percent(result.exit.accuracy)} %, agreement {_percent(result.exit.agreement)} %"
        )
    return lines


def _lines_of_numbers(result: EvaluationResult, errors: Errors) -> list[str]:
    """The two gaps of a network whose outputs are numbers, apart."""
    last, settled = result.curve[-1], result.settled
    rows = (
        ("float against targets", errors.float_to_targets),
        ("integer against targets", errors.integer_to_targets),
        ("integer against float", errors.integer_to_float),
        ("spiking against targets", errors.spiking_to_targets),
    )
    lines = [
        f"{name}: root mean square error {found.rmse:.4g}, mean absolute error {found.mae:.4g}"
        + ("" if found.r2 is None else f", R2 {found.r2:.4f}")
        for name, found in rows
        if found is not None
    ]
    proved = {"A": "proved zero for all inputs", "B": "zero where a silent step was seen"}
    kind = proved.get(result.certificate.level or "", "measured")
    lines.append(f"integer -> spiking: rmse {_apart(last.error)} at T = {last.steps} ({kind})")
    if settled.mismatching_logits is not None:
        lines.append(
            f"settled after {settled.steps_mean:.2f} steps on average, {settled.steps_max} at most; "
            f"{settled.mismatching_logits} mismatching outputs; {result.seconds:.1f} s"
        )
    if errors.integer_to_targets is None and errors.float_to_targets is None:
        lines.append(
            "no targets: outputs are compared as numbers, unless the task is said to be another"
        )
    return lines


def _apart(found: Distance | None) -> str:
    return "-" if found is None else f"{found.rmse:.4g}"


def plain_certificate(certificate: Certificate) -> list[str]:
    """The certificate in plain words."""
    required, used = certificate.steps_required, certificate.steps_used
    if certificate.level == "A":
        steps = f"{required} time steps"
        if certificate.per == "element":
            steps = f"{required} inner steps at every element, of sequences of any length,"
        first = (
            f"Certificate level A: for every input, after {steps} the spiking network's outputs are "
            "the integer network's, bit for bit."
        )
    elif certificate.level == "B":
        first = (
            f"Certificate level B: run for {used} of the {required} steps that all inputs need, the "
            "outputs are the integer network's for each input after which a silent step was seen."
        )
    else:
        first = "No certificate: this spiking network does not always compute what the integer one does."
    lines = [first, *(f"  {line}" for line in certificate.refusals)]
    if certificate.masks:
        zeros = sum(mask.weights - mask.nonzero for mask in certificate.masks)
        lines.append(
            f"Masks of {len(certificate.masks)} layers are kept: every weight outside them is zero "
            f"({zeros:,} of {sum(mask.weights for mask in certificate.masks):,} weights are zero)."
        )
    widest = max((layer.sum_bits for layer in certificate.layers), default=0)
    if widest:
        lines.append(
            f"Accumulators need at most {widest} bits. Network {certificate.network_hash[:16]}"
        )
    return lines


def certificate_table(certificate: Certificate) -> Table:
    """What is proved of every neuron layer."""
    table = Table(title="what is proved of every neuron layer")
    for heading in ("node", "neuron", "levels", "may fire from", "takes", "final by", "sum bits"):
        table.add_column(heading, justify="left" if heading in ("node", "neuron") else "right")
    for layer in certificate.layers:
        top = "no end" if layer.smax is None else str(layer.smax)
        table.add_row(
            Text(layer.node), layer.neuron, f"{layer.smin}..{top}", str(layer.gate),
            _known(layer.takes), _known(layer.final), str(layer.sum_bits or "-"),
        )  # fmt: skip
    return table


def inspection_table(result: Inspection) -> Table:
    """Every node of a model and what becomes of it."""
    known = "" if result.parameters is None else f": {result.parameters:,} parameters"
    table = Table(title=_title(f"{result.model}{known}"))
    for heading in ("node", "op", "shape", "", "what becomes of it"):
        table.add_column(heading)
    for node in result.nodes:
        mark = Text("yes", style="green") if node.converts else Text("NO", style="bold red")
        shape = "" if node.shape is None else "x".join(map(str, node.shape))
        table.add_row(Text(node.name), node.op, shape, mark, Text(node.reason))
    return table


def sparsity_table(result: PruneResult) -> Table:
    """How many weights every layer keeps."""
    table = Table(title=_title(f"{result.model} pruned by {result.method}"))
    for heading in ("layer", "weights", "kept", "sparsity %", "mask"):
        table.add_column(heading, justify="left" if heading in ("layer", "mask") else "right")
    for layer in result.layers:
        table.add_row(
            Text(layer.node), f"{layer.weights:,}", f"{layer.kept:,}",
            _percent(100 * layer.sparsity), layer.mask_hash,
        )  # fmt: skip
    return table


def prune_lines(result: PruneResult) -> list[str]:
    """How sparse it became, and what that cost on held-out samples."""
    total = sum(layer.weights for layer in result.layers)
    kept = sum(layer.kept for layer in result.layers)
    lines = [f"{kept:,} of {total:,} weights kept ({100 * result.zeros:.2f} % are zero)"]
    if total < result.weights_before:
        share = result.weights_before / total
        lines.append(
            f"the network had {result.weights_before:,} weights: {share:.2f}x fewer are left"
        )
    if result.validation_after is not None:
        change = _difference(result.validation_after, result.validation_before)
        if result.unit == "rmse":
            lines.append(
                f"held-out root mean square error: {result.validation_before or 0:.4g} -> "
                f"{result.validation_after:.4g}, {result.seconds:.0f} s"
            )
            return lines
        lines.append(
            f"held-out accuracy: {_percent(result.validation_before)} % -> "
            f"{_percent(result.validation_after)} % ({change}), {result.seconds:.0f} s"
        )
    return lines


def _title(words: str) -> Text:
    """As it is: names may hold what the terminal's markup is made of."""
    return Text(words, style="table.title")


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _difference(new: float | None, old: float | None) -> str:
    return "no labels" if new is None or old is None else f"{new - old:+.2f} points"


def _known(value: int | None) -> str:
    return "no bound" if value is None else str(value)
