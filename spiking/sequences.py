"""Run a part along a sequence: an element for some inner steps, then what lasts is handed on."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from spikemorph.graph.traits import Recurs

from .engine import Engine, State, Step
from .network import Carry
from .segments import Segment

Watch = Callable[[Step], object]  # told what every element did


@dataclass(frozen=True, eq=False)
class Between:
    """A part between two elements: whole numbers, which can be kept and gone on with.

    Parameters
    ----------
    registers : mapping of str to Tensor
        (sample, *shape) int64: what the next element reads.
    read : Tensor, optional
        (sample, number) all that the last element read; None where nothing is carried.
    held : mapping of str to tuple of Tensor
        What the engine's nodes hold, where sums and tracers are carried.
    """

    registers: Mapping[str, Tensor]
    read: Tensor | None = None
    held: Mapping[str, tuple[Tensor, ...]] = field(default_factory=dict)

    def where(self, there: Tensor, before: "Between") -> "Between":
        """This one for samples that are `there` (sample,), the one before for all others."""
        registers = {
            name: chosen(there, new, before.registers[name]) for name, new in self.registers.items()
        }
        if self.read is None or before.read is None:
            return Between(registers, self.read, self.held)
        held = {
            name: tuple(chosen(there, *pair) for pair in zip(own, before.held[name], strict=True))
            for name, own in self.held.items()
        }
        return Between(registers, chosen(there, self.read, before.read), held)


def chosen(there: Tensor, new: Tensor, old: Tensor) -> Tensor:
    """The new values of samples that are `there` (sample,), the old ones of all others."""
    return torch.where(there.to(new.device).reshape(-1, *[1] * (new.dim() - 1)), new, old)


@dataclass(frozen=True, eq=False)
class Element:
    """What one element of every sample did: what its body gives, and its steps.

    Parameters
    ----------
    given : mapping of str to Tensor
        (sample, *shape) int64: what leaves, and what lasts, by node of the body.
    step : Step
        All its inner steps.
    """

    given: Mapping[str, Tensor]
    step: Step


class Runner:
    """One part of a network, which an engine runs element by element.

    Parameters
    ----------
    part : Segment
        The part: a body, or one that has no registers.
    engine : Engine
        What runs it (`part.network`).
    """

    def __init__(self, part: Segment, engine: Engine) -> None:
        self.part, self.engine = part, engine
        op = None if part.node is None else part.node.op
        self.op = op if isinstance(op, Recurs) else None
        self._registers = () if self.op is None else self.op.body.registers
        self._carries = part.network.carry is Carry.DELTA

    def start(self, samples: int) -> Between:
        """Before the first element, for a number of samples."""
        starts = ((register.name, register.start.to(torch.int64)) for register in self._registers)
        return Between({name: start.expand(samples, *start.shape) for name, start in starts})

    def element(
        self, before: Between, reads: Mapping[str, Tensor], steps: int, *, record: bool = False
    ) -> tuple[Between, Element]:
        """One element for `steps` inner steps; `reads` is (sample, *shape) int64 of every input."""
        points = self.part.packed({**reads, **before.registers})
        state, sent = State(), points
        if before.read is not None:
            state, sent = State(0, before.held), points - before.read
        state, step = settle(self.engine, state, sent, steps, record=record)
        made = self.part.given(step.outputs[-1].to("cpu"))
        registers = {register.name: made[register.after] for register in self._registers}
        if not self._carries:
            return Between(registers), Element(made, step)
        return Between(registers, points, state.held), Element(made, step)

    def along(
        self,
        before: Between,
        values: Mapping[str, Tensor],
        steps: int,
        lengths: Tensor | None = None,
        *,
        record: bool,
        watch: Watch,
    ) -> tuple[Between, Tensor]:
        """A body along its axis; `values` are those of the nodes that it reads.

        What leaves it, (sample, *shape) int64, has its elements along that axis, too. Past its length
        (sample,) a sample keeps its state, repeats what left last, and sends nothing.
        """
        op = self.op
        assert op is not None
        pairs = zip(op.body.inputs, self.part.reads, strict=True)
        reads = {name: values[source].movedim(op.axis, 1) for name, source in pairs}
        count, made = next(iter(reads.values())).shape[1], list[Tensor]()
        for index in range(count)[:: -1 if op.reverse else 1]:
            element = {name: x.select(1, index) for name, x in reads.items()}
            after, found = self.element(before, element, steps, record=record)
            out, step = found.given[op.body.outputs[0]], found.step
            if lengths is not None and not bool((there := index < lengths).all()):
                after, step = after.where(there, before), step.of(there)
                out = chosen(there, out, made[-1])
            watch(step)
            made.append(out)
            before = after
        return before, torch.stack(made[::-1] if op.reverse else made, 1).movedim(1, op.axis)


def padded(part: Tensor, steps: int) -> Tensor:
    """(step, sample, ...) int64 on the CPU, of so many steps: after its last one nothing is sent."""
    found = torch.zeros((steps, *part.shape[1:]), dtype=torch.int64)
    found[: len(part)] = part.to("cpu", torch.int64)
    return found


def settle(
    engine: Engine, state: State, points: Tensor, steps: int, *, record: bool
) -> tuple[State, Step]:
    """Some steps from a state on, until all samples have had a silent one."""
    parts = list[Step]()
    while state.done < steps:
        count = min(engine.stride, steps - state.done)
        state, step = engine.step(state, points, count, record=record)
        parts.append(step)
        if engine.stops and not bool(step.active[-1].any()):
            break
    return state, joined(parts)


def joined(parts: list[Step]) -> Step:
    """Steps one after another as one."""
    if len(parts) == 1:
        return parts[0]
    first = parts[0]

    def one(kind: str) -> dict[str, Tensor]:
        return {
            name: torch.cat([getattr(p, kind)[name] for p in parts])
            for name in getattr(first, kind)
        }

    outputs, active = (
        torch.cat([getattr(p, kind) for p in parts]) for kind in ("outputs", "active")
    )
    return Step(outputs, one("positive"), one("negative"), active, one("spikes"))
