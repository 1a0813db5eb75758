"""Evaluate the robustness of a network on data, as a recipe's or a command's choice says."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from spikemorph.graph import Input, InputError
from spikemorph.graph.errors import Repair, Setting
from spikemorph.robust import Attack, Threat
from spikemorph.robust.attacks.refine import Refine
from spikemorph.robust.attacks.transfer import transfer_from
from spikemorph.robust.cascade.block_files import (
    Found,
    InBlocks,
    evaluate_blocks,
    forget_blocks,
    in_memory,
    merge_blocks,
    missing_blocks,
)
from spikemorph.robust.cascade.worst_case import BLOCK
from spikemorph.robust.corruptions.accuracy import corruption_accuracy
from spikemorph.robust.evaluate import EvaluationSettings, evaluate_robustness
from spikemorph.robust.gates.context import Companions, GateSettings, Samples
from spikemorph.robust.gates.gate import gates
from spikemorph.robust.paths.by_name import choose_paths
from spikemorph.robust.result import RobustnessResult
from spikemorph.train.processes import Processes
from spikemorph.zoo import Samples as Data

from ..choices import by_name
from ..choices.attacks import Plan, attack_plan, patience_of
from ..choices.settings import AttackChoice
from ..provenance import provenance
from ..sources.sampling import labels_of, values
from ..sources.subjects import Opened
from ..sources.tasks import task_for

_POLL = 0.2  # seconds between looks at what other processes have done
_LONG = 60.0  # seconds without a new block, after which to say what is waited for
_ONE = Processes()
MANY_CLASSES = 1000  # enough for every attack, where a network's own number is not known yet


@dataclass(frozen=True)
class Progress:
    """How far something is: what is done, the share that is there, and what was there at the start."""

    doing: str
    share: float
    before: float = 0.0


@dataclass(frozen=True)
class Where:
    """Where an evaluation is kept while it runs, and who takes part.

    `folder` holds finished blocks, so that a stopped run goes on; None keeps nothing. Processes that
    share it do a part of the blocks each, and end with the same result; who waits long says for what.
    `block` is the number of samples that a stop loses at most; None takes 100, or as many as leave every
    process one block. Without `keep` the blocks go when all is done. `watch` is told how far it is.
    """

    folder: Path | None = None
    processes: Processes = _ONE
    tell: Callable[[str], None] = lambda _: None
    block: int | None = None
    keep: bool = True
    watch: Callable[[Progress], None] = lambda _: None

    def block_of(self, samples: int) -> int:
        """Samples of one block, where there are so many in all."""
        return self.block or max(1, min(BLOCK, -(-samples // self.processes.world)))


def attack_model(
    opened: Opened,
    data: Data,
    choice: AttackChoice,
    seed: int,
    *,
    companions: Companions | None = None,
    sources: Sequence[Opened] = (),
    where: Where = Where(),  # noqa: B008  a frozen value
    command: str = "",
) -> RobustnessResult:
    """Worst case at every eps, gates, curves and examples; corruptions where they were chosen.

    What 40 steps of PGD find on each of `sources`, other networks, is tried on this one, after all
    other attacks.

    Raises
    ------
    InputError
        If the data has no labels or another shape, a name is unknown, or an eps is in pixel units.
    """
    check_distance(choice, opened.entry)
    samples = data.take(min(choice.samples, len(data)))
    classes = task_for(opened.graph, samples).one_class("attack").classes
    x, y = (
        opened.entry.interval.to_unit(values(samples, opened.entry)),
        labels_of(samples).flatten(),
    )
    target = choose_paths(opened.target, choice.paths)
    corrupted = None
    if choice.corruptions:  # first, as not all images can be corrupted
        corrupted = corruption_accuracy(lambda x: target.logits(x).argmax(1), x, y, seed)
    measure = Measured(where, len(choice.eps))
    result = evaluate_robustness(
        target,
        _with_transfer(attack_plan(choice.attacks, classes), sources),
        Samples(x, y, torch.arange(len(x))),
        replace(_settings(choice, seed, opened.entry), block=where.block_of(len(x))),
        replace(opened.subject, data=data.name, network=opened.identity),
        companions=companions,
        measure=measure,
        watch_gates=lambda done: where.watch(Progress("gates", done / len(gates))),
    )
    measure.forget()
    made = provenance(command, {"attack": seed}, {"network": opened.identity})
    return replace(result, corruptions=corrupted, reproduce=made.to_dict())


def _with_transfer(plan: Plan, sources: Sequence[Opened]) -> Plan:
    """The plan, and before its last search the images made for other networks, by paths of their own."""

    def extended(threat: Threat) -> tuple[Attack, ...]:
        found = plan(threat)
        ends = sum(isinstance(attack, Refine) for attack in found)  # it goes on from all others
        others = [
            transfer_from(
                one.target.paths[0].logits, threat, of=f"{one.subject.model} {one.identity[:8]}"
            )
            for one in sources
        ]
        return (*found[: len(found) - ends], *others, *found[len(found) - ends :])

    return extended


def eps_words(choice: AttackChoice, entry: Input) -> str:
    """What the numbers of eps are: shares of the range of inputs, or in the inputs' own units."""
    if choice.eps_units == by_name.SHARE:
        return f"eps counts in shares of the range of inputs, {entry.interval}"
    shares = (
        by_name.eps_of(t, by_name.norm(choice.norm), _width(choice, entry)) for t in choice.eps
    )
    pairs = ", ".join(f"{t} is {s:.6g}" for t, s in zip(choice.eps, shares, strict=True))
    return f"eps was given in units of inputs, {entry.interval}; in shares of that range, {pairs}"


def _width(choice: AttackChoice, entry: Input) -> float:
    """How wide the range of inputs is in the units that eps is given in."""
    return 1.0 if choice.eps_units == by_name.SHARE else float(entry.interval.width)


def check_distance(choice: AttackChoice, entry: Input) -> None:
    """Refuse an l2 eps that no two images are apart.

    Raises
    ------
    InputError
        With the largest distance there is.
    """
    width, cells = _width(choice, entry), math.prod(entry.shape)
    farthest = math.sqrt(cells)
    for text in choice.eps if choice.norm == "l2" else ():
        if by_name.eps_of(text, "l2", width) >= farthest:
            raise InputError(
                f"two images of {cells} values in 0..{width:g} are at most {farthest * width:.3g} apart",
                Repair("eps", f"{text}/255", f"did you mean {text}/255? Give it so"),
                where=Setting("eps", text),
            )


def check_attack(
    choice: AttackChoice, classes: int = MANY_CLASSES, entry: Input | None = None
) -> None:
    """Refuse now what would be refused only when networks were made, or read.

    Raises
    ------
    InputError
        If an eps, the norm, a number of samples or the name of an attack is none.
    """
    if choice.samples < 1 or choice.gate_samples < 0:
        raise InputError(
            f"samples {choice.samples}, gate_samples {choice.gate_samples}: give 1 or more samples; "
            "0 for gates leaves them out"
        )
    by_name.eps_units(choice.eps_units)
    if entry is not None or choice.eps_units == by_name.SHARE:
        _settings(choice, 0, entry or Input(()))
    for text in (choice.attacks, choice.in_time or choice.attacks, choice.ann):
        attack_plan(text, classes)
    patience_of(choice.patience)


def _settings(choice: AttackChoice, seed: int, entry: Input) -> EvaluationSettings:
    norm, width = by_name.norm(choice.norm), _width(choice, entry)
    eps = tuple(sorted(by_name.eps_of(text, norm, width) for text in choice.eps))
    gates = GateSettings(samples=choice.gate_samples) if choice.gate_samples else None
    return EvaluationSettings(eps, norm, seed, gates, patience=patience_of(choice.patience))


@dataclass(eq=False)
class Measured:
    """Evaluates in memory, or in blocks on disk that processes share; tells how far it is.

    `count` says how many evaluations there are to be, `doing` what is said of them meanwhile.
    """

    where: Where
    count: int
    doing: str = "attacks"
    done: list[InBlocks[Any]] = field(default_factory=list)
    before: int = 0  # blocks that were there

    def __call__(self, evaluation: InBlocks[Found]) -> Found:
        folder, processes = self.where.folder, self.where.processes
        own = range(processes.rank, evaluation.blocks, processes.world)
        if folder is not None:
            self.before += len(set(own) - set(missing_blocks(evaluation, folder)))
        earlier, total = len(self.done) * len(own), max(1, self.count * len(own))

        def told(blocks: float) -> None:
            share, before = (earlier + blocks) / total, self.before / total
            self.where.watch(Progress(self.doing, share, before))

        self.done.append(evaluation)
        if folder is None:
            return in_memory(evaluation, told)
        evaluate_blocks(evaluation, folder, processes, told)
        if processes.world > 1:
            _await_others(evaluation, folder, self.where.tell)
        return merge_blocks(evaluation, folder)

    def forget(self) -> None:
        """Remove what only a stopped evaluation needed."""
        if self.where.folder is not None and not self.where.keep:
            for evaluation in self.done:
                forget_blocks(evaluation, self.where.folder)


def _await_others(evaluation: InBlocks[Any], folder: Path, tell: Callable[[str], None]) -> None:
    """Until all blocks are there; where nothing happens for long, say so, as a process may be dead."""
    seen, since = missing_blocks(evaluation, folder), time.monotonic()
    while missing := missing_blocks(evaluation, folder):
        if missing != seen:
            seen, since = missing, time.monotonic()
        elif time.monotonic() - since >= _LONG:
            tell(
                f"waiting for blocks {', '.join(map(str, missing))} of other processes in {folder}; "
                "if one has ended early, stop all and run the same command again: what is done is kept"
            )
            since = time.monotonic()
        time.sleep(_POLL)
