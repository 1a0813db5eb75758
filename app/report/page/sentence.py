"""The sentence on top of the report: what happened, with what was not done or is not to be trusted."""

from collections.abc import Callable, Mapping

from .. import formats
from ..robust import eps_text
from ..shapes import Plain
from .comparison import extremes
from .costs.forms import spoken
from .model import NEURONS, fate
from .robustness.gates import red_flags
from .robustness.words import headline
from .sparsity import totals

Parts = Mapping[str, Plain]
_SUBJECTS: Mapping[str, str] = {
    "ann": "float network",
    "through time": "spiking network, trained through time,",
}


def sentence(parts: Parts) -> str:
    """What happened in a run, in one sentence."""
    found = [clause for clause in (own(parts) for own in _CLAUSES) if clause]
    if found:
        return f"{_subject(parts)} {_listed(found)}."
    if "comparison" in parts:
        return extremes(parts["comparison"])
    if "model" in parts:
        return _convertible(parts["model"])
    return "Nothing was measured in this run yet; the list below says how it is done."


def _subject(parts: Parts) -> str:
    """Of what is spoken; how sparse it is, where it is."""
    kind = parts.get("robustness", {}).get("kind", "through time" if "timing" in parts else "")
    name = f"This {_SUBJECTS.get(kind, 'spiking network')}"
    zeros = 0.0
    if "sparsity" in parts:
        weights, left = totals(parts["sparsity"])
        zeros = 100 * (1 - left / weights) if weights else 0.0
    if not zeros:
        return name
    return f"{name.removesuffix(',')}, {formats.percent(zeros)} of its weights zero,"


def _right(parts: Parts) -> str:
    """How often it is right, and on what; how far off its numbers are."""
    if "timing" in parts:
        whole = parts["timing"]["whole"]
        where = _samples(whole["n"], parts["timing"]["data"])
        return _share(whole["accuracy"], where, whole.get("float_accuracy"))
    if "evaluation" in parts:
        part = parts["evaluation"]
        where = _samples(part["n"], part["data"])
        off = (part.get("error") or {}).get("spiking_to_targets")
        if off is not None:
            return f"is {formats.significant(off['rmse'])} off the targets of {where} (root mean square)"
        return _share(part["settled"]["accuracy"], where, part["float_accuracy"])
    if "robustness" in parts:
        part = parts["robustness"]
        return _share(part["clean"]["accuracy"], _samples(part["n"], part["data"]), None)
    return ""


def _share(accuracy: float | None, where: str, floats: float | None) -> str:
    if accuracy is None:
        return f"was run on {where}, which have no labels"
    beside = "" if floats is None else f" (its float network on {formats.percent(floats)})"
    return f"is right on {formats.percent(accuracy)} of {where}{beside}"


def _samples(count: int, data: str) -> str:
    return f"{formats.plural(count, 'sample')} of {data}"


def _exact(parts: Parts) -> str:
    """What is proved, or how much differs where nothing is."""
    part = parts.get("evaluation", {})
    proof = parts.get("certificate") or part.get("certificate")
    if proof is None:
        return ""
    if proof["level"] == "A":
        return "is proved to compute what its integer network does for every input"
    if proof["level"] == "B":
        return (
            "computes what its integer network does for each input after which it was seen silent"
        )
    differ = part.get("settled", {}).get("mismatching_logits")
    if differ is None:
        return "has no certificate"
    total = formats.count(part["n"] * part["outputs"])
    return (
        f"has no certificate ({formats.count(differ)} of {total} output integers are not the integer "
        "network's)"
    )


def _energy(parts: Parts) -> str:
    """The verdict on energy, and under how many price lists."""
    band = parts.get("energy", {}).get("band")
    if band is None:
        return ""
    count = len(band.get("ratios") or ())
    lists = f"all {count} price lists" if count else "all price lists"
    how = {"lower": ("less", f"under {lists}"), "higher": ("more", f"under {lists}")}
    much, where = how.get(band["verdict"], ("more or less", "depending on the price list"))
    return f"takes {much} energy than {spoken(band['against'])}, {where}"


def _robust(parts: Parts) -> str:
    """What an attack leaves, never without whether that is to be trusted."""
    part = parts.get("robustness")
    row = None if part is None else headline(part)
    if part is None or row is None:
        return ""
    gates, flags = part["gates"], len(red_flags(part["gates"]))
    trust = ""
    if flags:
        warn = "says" if flags == 1 else "say"
        trust = f", which {formats.plural(flags, 'red flag')} {warn} not to trust"
    elif not any(gate["passed"] for gate in gates):
        trust = ", with no sanity gate run"
    return (
        f"stays right on {formats.percent(row['worst_case'])} of {formats.plural(row['n'], 'sample')} "
        f"attacked at eps {eps_text(row['eps'])}{trust}"
    )


def _spikes(parts: Parts) -> str:
    """How much it spikes, where nothing else was measured."""
    part = parts.get("activity")
    if part is None or not {"evaluation", "timing", "energy"}.isdisjoint(parts):
        return ""
    sent = sum(sum(layer["positive"]) + sum(layer["negative"]) for layer in part["layers"])
    return f"sends {formats.count(sent)} spikes per inference"


_CLAUSES: tuple[Callable[[Parts], str], ...] = (_right, _exact, _energy, _spikes, _robust)


def _listed(clauses: list[str]) -> str:
    """Clauses as one speaks them."""
    *first, last = clauses
    if not first:
        return last
    return f"{', '.join(first)}{',' if len(first) > 1 else ''} and {last}"


def _convertible(part: Plain) -> str:
    nodes = part["nodes"]
    refused = sum(not node["converts"] for node in nodes)
    total = formats.plural(len(nodes), "node")
    if refused:
        return f"This model cannot be converted as it is: no spiking form for {refused} of {total}."
    made = sum(fate(node) == NEURONS for node in nodes)
    return f"This model can be converted: {formats.plural(made, 'neuron layer')} from {total}."
