"""The section on robustness: red flags, the worst case at every eps, how it was found."""

from collections.abc import Mapping

from spikemorph.robust.result import Share

from ... import formats
from ...blocks import Block, Code, Facts, Prose
from ...robust import eps_text
from ...shapes import (
    ANYTHING,
    NUMBER,
    TEXT,
    WHOLE,
    Items,
    ListOf,
    MapOf,
    Maybe,
    Plain,
    Shape,
    shape_of,
    within,
)
from .curves import convergence, over_eps, whole_range
from .examples import EXAMPLE, examples
from .gates import GATE, checklist, verdict
from .tables import CORRUPTIONS, MEMBER, PATH, corruptions, members, paths, worst_cases
from .words import EPS, PERCENT, called, headline, largest, same_eps, share, threat, trained_for

TWIN = "robustness_ann"  # the part of a run that holds the same evaluation of the float network


_STEPS, _LOSS = within(NUMBER, 1, 1e9), within(NUMBER, -1e30, 1e30)
SHAPE: Shape = {
    "model": TEXT,
    "data": TEXT,
    "n": WHOLE,
    "kind": TEXT,
    "steps": Maybe(WHOLE),
    "classes": WHOLE,
    "norm": TEXT,
    "trained_eps?": Maybe(EPS),
    "seed": WHOLE,
    "sparsity": {"weights": Maybe(WHOLE), "nonzero": Maybe(WHOLE)},
    "clean": shape_of(Share, accuracy=PERCENT, low=PERCENT, high=PERCENT),
    "eps": ListOf(
        {
            "eps": EPS,
            "attacks": ListOf(MEMBER),
            "worst_case": PERCENT,
            "ci95": Items((PERCENT, PERCENT)),
            "correct": WHOLE,
            "n": WHOLE,
            "carried?": WHOLE,
        }
    ),
    "curves": {
        "accuracy_vs_eps": MapOf(ListOf(Items((EPS, PERCENT)))),
        "accuracy_vs_steps": MapOf(ListOf(Items((_STEPS, PERCENT)))),
        "loss_vs_steps": MapOf(ListOf(Items((_STEPS, _LOSS)))),
    },
    "paths": ListOf(PATH),
    "gates": ListOf(GATE),
    "examples": ListOf(EXAMPLE),
    "corruptions": Maybe(CORRUPTIONS),
    "reproduce?": {"command?": TEXT, "versions?": MapOf(ANYTHING)},
}


def robustness(parts: Mapping[str, Plain]) -> list[Block]:
    """Red flags first; then what is left, of what, by which attacks; then how sure it is."""
    part, twin = parts["robustness"], parts.get(TWIN)
    blocks: list[Block] = [verdict(part["gates"]), Prose(_found(part), "lead")]
    if twin is not None:
        blocks.append(Prose(_beside(part, twin)))
    blocks += [Facts(_facts(part)), *over_eps(part, twin), *worst_cases(part, twin)]
    blocks += [*whole_range(part), *convergence(part), *checklist(part["gates"])]
    blocks += [*paths(part["paths"]), *members(part["eps"]), *examples(part["examples"])]
    blocks += corruptions(part)
    command = part.get("reproduce", {}).get("command")
    return [*blocks, Prose("This command attacked it:"), Code(command)] if command else blocks


def _found(part: Plain) -> str:
    clean, row, last = part["clean"], headline(part), largest(part)
    start = (
        f"Of {formats.plural(part['n'], 'sample')} of {part['data']}, the network is right on "
        f"{share(clean['accuracy'], clean['low'], clean['high'])} without attack"
    )
    if row is None or last is None:
        return f"{start}. No eps was attacked."
    why = ", for which it was trained" if trained_for(part, row) else ""
    text = (
        f"{start}, and on {share(row['worst_case'], *row['ci95'])} in the worst case of "
        f"{_tried(row['attacks'])} at eps {eps_text(row['eps'])}{why}."
    )
    if last is not row:
        least = share(last["worst_case"], *last["ci95"])
        text += f" At the largest, {eps_text(last['eps'])}, it is {least}."
    return f"{text} In brackets: 95 % intervals."


def _tried(rows: list[Plain]) -> str:
    """How many attacks, on how many gradient paths."""
    attacks = formats.plural(len({row["name"] for row in rows}), "attack")
    ways = {row["path"] for row in rows} - {None}
    return f"{attacks} on {formats.plural(len(ways), 'gradient path')}" if ways else attacks


def _beside(part: Plain, twin: Plain) -> str:
    """The float network that the spiking one was made from."""
    own = headline(part)
    last = None if own is None else same_eps(twin, own["eps"])
    text = f"Its float twin, attacked by itself, is right on {formats.percent(twin['clean']['accuracy'])}"
    if last is None:
        return f"{text} without attack."
    return (
        f"{text} without attack and on {share(last['worst_case'], *last['ci95'])} in the worst case at "
        f"eps {eps_text(last['eps'])}. It has gradients of its own: attacks on it are not the attacks "
        "on the spiking network."
    )


def _facts(part: Plain) -> tuple[tuple[str, str], ...]:
    weights, nonzero = part["sparsity"]["weights"], part["sparsity"]["nonzero"]
    steps, last = part["steps"], largest(part)
    rows = [
        ("Network", f"{part['model']}: {called(part['kind'])}"),
        ("Time steps", "no time" if steps is None else formats.count(steps)),
    ]
    if weights and nonzero is not None:
        numbers = "integer" if part["kind"] == "exact" else "float"
        kept = f"{formats.count(nonzero)} of {formats.count(weights)} {numbers} weights not zero"
        rows.append(("Sparsity", f"{formats.percent(100 * (1 - nonzero / weights))} ({kept})"))
    rows.append(("What an attacker may do", threat(part["norm"])))
    if last is not None:
        rows.append(
            ("Eps, inputs being 0 to 1", ", ".join(eps_text(r["eps"]) for r in part["eps"]))
        )
        rows.append(("Attacks, in this order", _attacks(last["attacks"])))
    rows += [("Classes", formats.count(part["classes"])), ("Seed", str(part["seed"]))]
    return tuple(rows)


def _attacks(rows: list[Plain]) -> str:
    """Every attack once, with its steps and on how many gradient paths it was run."""
    by_name: dict[str, list[Plain]] = {}
    for row in rows:
        by_name.setdefault(row["name"], []).append(row)
    return "; ".join(_attack(name, own) for name, own in by_name.items()) or "none"


def _attack(name: str, rows: list[Plain]) -> str:
    steps = {row["steps"] for row in rows} - {None}
    said = [formats.plural(max(steps), "step")] if steps else []
    ways = {row["path"] for row in rows} - {None}
    said.append(formats.plural(len(ways), "gradient path") if ways else "queries only")
    return f"{name} ({', '.join(said)})"
