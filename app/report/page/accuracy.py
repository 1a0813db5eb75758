"""The section on accuracy: over time steps, against the float and the integer network."""

from collections.abc import Mapping

from ...measures.results import EvaluationResult
from .. import formats
from ..blocks import Block, Cell, Figure, Group, Prose, Table
from ..plots_curves import Curves, Series, curves
from ..shapes import TEXT, WHOLE, Maybe, Plain, shape_of

SHAPE = shape_of(
    EvaluationResult, certificate={"level": Maybe(TEXT), "steps_required": Maybe(WHOLE)}
)


def accuracy(parts: Mapping[str, Plain]) -> list[Block]:
    """The two gaps, apart; the curves; the numbers."""
    part = parts["evaluation"]
    if part.get("error"):
        return [Prose(_distances(part["error"]), "lead"), Prose(_end(part)), _error_table(part)]
    blocks: list[Block] = [Prose(_gaps(part), "lead"), Prose(_end(part))]
    if part["curve"]:
        blocks += [Group((_over_time(part), _mismatches(part))), _table(part)]
    if part.get("exit"):
        blocks.append(Prose(_early(part["exit"]), "note"))
    return blocks


def _distances(errors: Plain) -> str:
    """How far numbers lie apart, where outputs are no classes."""
    found = [
        f"{name.replace('_to_', ' against ')} {formats.significant(error['rmse'])}"
        for name, error in errors.items()
        if error is not None
    ]
    start = "The outputs are numbers, so nothing is right or wrong. Root mean square errors: "
    return start + (", ".join(found) or "there is nothing to compare with") + "."


def _error_table(part: Plain) -> Table:
    total = part["n"] * part["outputs"]
    rows = tuple(
        (
            str(point["steps"]), _rmse(point.get("target_error")), _rmse(point.get("error")),
            f"{formats.count(point['mismatching_logits'] or 0)} of {formats.count(total)}",
            formats.count(point["spikes_per_inference"]),
        )
        for point in part["curve"]
    )  # fmt: skip
    headings = ("<Steps", "RMSE to targets", "RMSE to the integer network")
    return Table(
        "Errors over time steps", (*headings, "Mismatching outputs", "Spikes per inference"), rows
    )


def _rmse(found: Plain) -> str:
    return "–" if found is None else formats.significant(found["rmse"])


def _gaps(part: Plain) -> str:
    floats, integers = part["float_accuracy"], part["integer_accuracy"]
    last = part["curve"][-1]["accuracy"] if part["curve"] else part["settled"]["accuracy"]
    if integers is None:
        return (
            f"The float network is right on {formats.percent(floats)} of the samples, the "
            f"rate-coded network on {formats.percent(last)} ({formats.points(last, floats)})."
        )
    proved = {"A": "proved zero for all inputs", "B": "zero wherever a silent step was seen"}
    kind = proved.get(part["certificate"]["level"] or "", "measured")
    start, measured = "", ""
    if floats is not None:
        start = f"Float network {formats.percent(floats)}. "
        measured = f" ({formats.points(integers, floats)}, measured)"
    return (
        f"{start}Integer network {formats.percent(integers)}{measured}. Spiking network "
        f"{formats.percent(last)} ({formats.points(last, integers)}, {kind})."
    )


def _end(part: Plain) -> str:
    settled, total = part["settled"], part["n"] * part["outputs"]
    text = (
        f"Samples settle after {formats.significant(settled['steps_mean'])} steps on average and "
        f"{formats.count(settled['steps_max'])} at most."
    )
    if settled["mismatching_logits"] is not None:
        text += (
            f" After the last step, {formats.count(settled['mismatching_logits'])} of "
            f"{formats.count(total)} output integers differ from the integer network's."
        )
    return text


def _over_time(part: Plain) -> Figure:
    names = {"accuracy": "accuracy", "agreement": "agreement"}
    series = []
    for key, name in names.items():
        found = [(p["steps"], p[key]) for p in part["curve"] if p[key] is not None]
        points = tuple(
            (float(t), v, f"{name} after step {t}: {formats.percent(v)}") for t, v in found
        )
        series.append(Series(name, points))
    levels = [
        (f"{name} network: {formats.percent(part[key])}", part[key])
        for name, key in (("float", "float_accuracy"), ("integer", "integer_accuracy"))
        if part[key] is not None
    ]
    whom = "float" if part["integer_accuracy"] is None else "integer"
    dashed = ", ".join(name for name, _ in levels)
    plot = Curves(
        "Accuracy and agreement over time steps", "time steps", "per cent of samples",
        tuple(series), tuple(levels), _bound(part), doubling=True, measured=True, high=100,
    )  # fmt: skip
    reading = f"Agreement: the class is the {whom} network's." + (
        f" Dashed: {dashed}." if levels else ""
    )
    return Figure(
        "Accuracy over time", lambda width: curves(plot, width), reading, tuple(names), True
    )


def _mismatches(part: Plain) -> Figure:
    total = part["n"] * part["outputs"]
    compared = [p for p in part["curve"] if p["mismatching_logits"] is not None]
    if not compared or not total:
        return _spikes(part)
    points = tuple(
        (
            float(p["steps"]),
            100 * p["mismatching_logits"] / total,
            f"after step {p['steps']}: {formats.count(p['mismatching_logits'])} of "
            f"{formats.count(total)} differ",
        )
        for p in compared
    )
    plot = Curves(
        "Output integers that differ from the integer network", "time steps",
        "per cent of output integers", (Series("differ", points),), (), _bound(part),
        doubling=True, measured=True, low=0,
    )  # fmt: skip
    reading = "Every output integer of every sample is compared. Level A proves zero at the line."
    return Figure("Mismatching logits", lambda width: curves(plot, width), reading, half=True)


def _spikes(part: Plain) -> Figure:
    points = tuple(
        (
            float(p["steps"]),
            p["spikes_per_inference"],
            f"up to step {p['steps']}: {formats.count(p['spikes_per_inference'])} spikes",
        )
        for p in part["curve"]
    )
    plot = Curves(
        "Spikes of one inference", "time steps", "spikes", (Series("spikes", points),),
        doubling=True, measured=True, low=0,
    )  # fmt: skip
    return Figure("Spikes of one inference", lambda width: curves(plot, width), half=True)


def _bound(part: Plain) -> tuple[tuple[str, float], ...]:
    """Where the proof begins to hold, if that is on the plot."""
    required = part["certificate"]["steps_required"]
    last = part["curve"][-1]["steps"]
    return () if required is None or required > last else (("exact from here", float(required)),)


def _table(part: Plain) -> Table:
    total = part["n"] * part["outputs"]
    rows = []
    for point in part["curve"]:
        wrong = point["mismatching_logits"]
        tone = "good" if wrong == 0 else ""
        differ = "–" if wrong is None else f"{formats.count(wrong)} of {formats.count(total)}"
        rows.append(
            (
                str(point["steps"]), formats.percent(point["accuracy"]),
                formats.percent(point["agreement"]), Cell(differ, tone),
                formats.count(point["spikes_per_inference"]),
            )
        )  # fmt: skip
    return Table(
        "The same in numbers",
        ("<Steps", "Accuracy", "Agreement", "Mismatching logits", "Spikes per inference"),
        tuple(rows),
    )


def _early(part: Plain) -> str:
    return (
        f"With the early exit “{part['rule']}” a sample takes "
        f"{formats.significant(part['steps_mean'])} steps on average; accuracy "
        f"{formats.percent(part['accuracy'])}, agreement {formats.percent(part['agreement'])}."
    )
