"""The head of the report: its title and the key figures."""

from collections.abc import Mapping
from dataclasses import dataclass

from .. import formats
from ..robust import eps_text
from ..shapes import Plain
from .costs.forms import called
from .robustness.gates import red_flags, tally
from .robustness.words import headline, trained_for
from .sparsity import totals

Parts = Mapping[str, Plain]


@dataclass(frozen=True)
class KeyFigure:
    """A number that decides; a `value` of None says that the run has it not."""

    label: str
    value: str | None
    note: str = ""
    tone: str = ""
    target: str = ""


def title(parts: Parts) -> str:
    """The model's name."""
    found = (
        parts[name].get("model")
        for name in ("evaluation", "model", "energy", "timing", "robustness")
        if name in parts
    )
    return next((name for name in found if name), "A run without a name")


def key_figures(parts: Parts) -> list[KeyFigure]:
    """What a reader wants first."""
    if "timing" in parts:
        return [*_in_time(parts["timing"]), _sparsity(parts), *_robust(parts)]
    return [
        _accuracy(parts), _mismatches(parts), _level(parts), _steps(parts), _sparsity(parts),
        _synops(parts), _stored(parts), _verdict(parts), *_robust(parts),
    ]  # fmt: skip


def _in_time(part: Plain) -> list[KeyFigure]:
    """Of a network trained through time."""
    whole, found = part["whole"], part["whole"]["accuracy"]
    floats = whole.get("float_accuracy")
    note = "" if floats is None else f"float network {formats.percent(floats)}"
    accuracy = None if found is None else formats.percent(found)
    return [
        KeyFigure("Accuracy", accuracy, note, target="in-time"),
        KeyFigure("Time steps", str(part["steps"]), "trained through time", target="in-time"),
        KeyFigure("Synaptic operations", formats.count(part["synops"]), "per inference", "", "in-time"),
        KeyFigure("Spikes", formats.count(part["spikes_per_inference"]), "per inference", "", "in-time"),
        KeyFigure("Neurons", formats.count(part["neurons"]), "that may spike", "", "in-time"),
    ]  # fmt: skip


def _accuracy(parts: Parts) -> KeyFigure:
    part = parts.get("evaluation")
    found = None if part is None else part["settled"]["accuracy"]
    if part is None or found is None:
        return KeyFigure("Accuracy", None, target="accuracy")
    floats = part["float_accuracy"]
    note = "" if floats is None else f"float network {formats.percent(floats)}"
    return KeyFigure("Accuracy", formats.percent(found), note, target="accuracy")


def _mismatches(parts: Parts) -> KeyFigure:
    part = parts.get("evaluation")
    found = None if part is None else part["settled"]["mismatching_logits"]
    if part is None or found is None:
        return KeyFigure("Mismatching logits", None, target="accuracy")
    tone = "good" if found == 0 else "warn"
    note = f"of {formats.count(part['n'] * part['outputs'])}"
    return KeyFigure("Mismatching logits", formats.count(found), note, tone, "accuracy")


def _robust(parts: Parts) -> list[KeyFigure]:
    """The worst case, never without its red flags; nothing where the run was not attacked."""
    part = parts.get("robustness")
    row = None if part is None else headline(part)
    if part is None or row is None:
        return []
    gates, flags = part["gates"], len(red_flags(part["gates"]))
    low, high = row["ci95"]
    trained = ", trained for" if trained_for(part, row) else ""
    note = f"worst case at eps {eps_text(row['eps'])}{trained} (95 %: {low:.1f} to {high:.1f})"
    value = formats.plural(flags, "red flag") if gates else "not run"
    tone = "bad" if flags else "good" if any(gate["passed"] for gate in gates) else "warn"
    said = tally(gates) if gates else "nothing says that it is not inflated"
    return [
        KeyFigure("Robust accuracy", formats.percent(row["worst_case"]), note,
                  "bad" if flags else "", "robustness"),
        KeyFigure("Sanity gates", value, said, tone, "robustness"),
    ]  # fmt: skip


def _proof(parts: Parts) -> Plain:
    return parts.get("certificate") or parts.get("evaluation", {}).get("certificate")


def _level(parts: Parts) -> KeyFigure:
    part = _proof(parts)
    if part is None:
        return KeyFigure("Certificate", None, target="certificate")
    notes = {"A": "exact for all inputs", "B": "exact once silent"}
    level = part["level"]
    note = notes.get(level or "", "nothing proved")
    return KeyFigure(
        "Certificate", level or "none", note, "good" if level == "A" else "warn", "certificate"
    )


def _steps(parts: Parts) -> KeyFigure:
    proof, part = _proof(parts), parts.get("evaluation")
    used = None if proof is None else proof.get("steps_used")
    if used is None and part is not None and part["curve"]:
        used = part["curve"][-1]["steps"]
    mean = None if part is None else part["settled"]["steps_mean"]
    note = "" if mean is None else f"settled after {formats.significant(mean)} on average"
    return KeyFigure("Time steps", None if used is None else str(used), note, target="accuracy")


def _sparsity(parts: Parts) -> KeyFigure:
    part = parts.get("sparsity")
    if part is None or not totals(part)[0]:
        return KeyFigure("Sparsity", None, target="sparsity")
    weights, left = totals(part)
    note = f"{formats.count(left)} of {formats.count(weights)} float weights are not zero"
    return KeyFigure(
        "Sparsity", formats.percent(100 * (1 - left / weights)), note, target="sparsity"
    )


def _synops(parts: Parts) -> KeyFigure:
    counts: Plain = parts["energy"]["counts"] if "energy" in parts else {"totals": {}, "samples": 0}
    total, samples = counts["totals"].get("synops"), counts["samples"]
    if total is None or not samples:
        return KeyFigure("Synaptic operations", None, target="energy")
    return KeyFigure(
        "Synaptic operations", formats.count(total / samples), "per inference", target="energy"
    )


def _stored(parts: Parts) -> KeyFigure:
    part = parts.get("energy", {}).get("memory")
    if part is None:
        return KeyFigure("Stored size", None, target="memory")
    note = f"dense float32 {formats.size(part['dense_fp32_bits'])}"
    return KeyFigure("Stored size", formats.size(part["storage_bits"]), note, target="memory")


def _verdict(parts: Parts) -> KeyFigure:
    band = parts.get("energy", {}).get("band")
    if band is None:
        return KeyFigure("Energy verdict", None, target="energy")
    tones = {"lower": "good", "higher": "bad"}
    span = f"{formats.significant(band['min'])} to {formats.factor(band['max'])}"
    note = f"{span} the {called(band['against'])}"
    return KeyFigure(
        "Energy verdict", band["verdict"], note, tones.get(band["verdict"], "warn"), "energy"
    )
