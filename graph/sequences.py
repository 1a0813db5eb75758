"""Run a graph along sequences: one element after another, with what its registers keep in between."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from .errors import GraphError, InputError
from .graph import Graph
from .interpret import Compute, Samples, by_name, entered, on_reals, outputs_of

States = Mapping[str, Tensor]  # (sample, *shape) of every register, by name


def at_start(graph: Graph, like: Tensor) -> dict[str, Tensor]:
    """Every register before the first element, for as many samples as `like` has, in its type."""
    return {
        register.name: register.start.to(like).expand(len(like), *register.start.shape)
        for register in graph.registers
    }


def advance(
    graph: Graph, element: Mapping[str, Tensor], states: States, compute: Compute = on_reals
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """One element of every sample: the graph's outputs at it, and the registers after it.

    Parameters
    ----------
    graph : Graph
        With or without registers.
    element : mapping
        (sample, *shape) of every input, by name.
    states : mapping
        Of every register (`at_start`, or of the element before).
    compute : callable
        How its nodes compute, as for `interpret.walk`.
    """
    wanted = {*graph.outputs, *(register.after for register in graph.registers)}
    found = outputs_of(graph, entered(graph, {**element, **states}, compute), wanted)
    after = {register.name: found[register.after] for register in graph.registers}
    return {name: found[name] for name in graph.outputs}, after


def along(
    graph: Graph,
    xs: Mapping[str, Tensor],
    compute: Compute = on_reals,
    lengths: Tensor | None = None,
    *,
    reverse: bool = False,
) -> Tensor:
    """The graph's one output at every element: (sample, element, *shape).

    Elements past a sample's length leave its registers as they are and repeat its last output; before
    its first element, where the order is reversed, that is zero.

    Parameters
    ----------
    graph : Graph
        With one output.
    xs : mapping
        (sample, element, *shape) of every input, by name.
    compute : callable
        How its nodes compute, as for `interpret.walk`.
    lengths : Tensor, optional
        (sample,) how many elements each sample has; all of them if not given.
    reverse : bool
        Whether the last element comes first. Outputs stay at their elements.
    """
    first = next(iter(xs.values()))
    count, (wanted,) = first.shape[1], graph.outputs
    states, last = at_start(graph, first), None
    if first.is_meta:  # only the shape is asked for, which does not depend on what came before
        element = {name: x.select(1, 0) for name, x in xs.items()}
        output = advance(graph, element, states, compute)[0][wanted]
        return output[:, None].expand(-1, count, *output.shape[1:])
    made = []
    for index in range(count)[:: -1 if reverse else 1]:
        element = {name: x.select(1, index) for name, x in xs.items()}
        there = None if lengths is None else index < lengths.to(first.device)
        if there is not None:  # what lies past the end is not looked at, were it no number
            element = {name: _where(there, x, torch.zeros_like(x)) for name, x in element.items()}
        outputs, after = advance(graph, element, states, compute)
        output = outputs[wanted]
        if there is not None:
            after = {name: _where(there, value, states[name]) for name, value in after.items()}
            output = _where(there, output, torch.zeros_like(output) if last is None else last)
        states, last = after, output
        made.append(output)
    return torch.stack(made[::-1] if reverse else made, 1)


def _where(there: Tensor, new: Tensor, old: Tensor) -> Tensor:
    return torch.where(there.reshape(-1, *[1] * (new.dim() - 1)), new, old)


def run_sequence(
    graph: Graph, xs: Samples, lengths: Tensor | Sequence[int] | None = None
) -> Tensor:
    """The graph's output on real values at every element: (sample, element, *shape), differentiable.

    Parameters
    ----------
    graph : Graph
        A float graph with one output; its registers last from element to element.
    xs : Tensor or mapping
        (sample, element, *input shape); by the inputs' names where there are several.
    lengths : Tensor or sequence of int, optional
        How many elements each sample has. Its later ones leave it as it is: they repeat its last output.

    Raises
    ------
    InputError
        If there is no sample or no element, inputs have different numbers of them, lengths are
        missing or do not fit, or a value within a sample's length is no finite number.
    GraphError
        If inputs or their shapes are not the graph's, or it has several outputs.
    """
    if len(graph.outputs) != 1:
        raise GraphError(f"the graph has outputs {list(graph.outputs)}: one is expected")
    if isinstance(xs, list | tuple):
        counts = sorted({len(x) for x in xs})
        raise InputError(
            f"sequences are given as a list, of {counts} elements: pad them to one array (sample, "
            "element, ...) and give lengths"
        )
    given = by_name(graph, xs)
    known = _lengths(given, lengths)
    for name, x in given.items():
        _require_finite(name, x, known)
    return along(graph, given, lengths=known)


def _lengths(given: Mapping[str, Tensor], lengths: Tensor | Sequence[int] | None) -> Tensor | None:
    """The lengths of samples, checked against the arrays; None where all are full."""
    sizes = {name: tuple(x.shape[:2]) for name, x in given.items()}
    (samples, count), *others = (*sizes.values(),)
    if any(other != (samples, count) for other in others):
        raise InputError(f"inputs have other samples and elements than each other: {sizes}")
    if not samples or not count:
        raise InputError(f"{samples} samples of {count} elements: give one or more of each")
    return None if lengths is None else lengths_of(lengths, samples, count)


def lengths_of(lengths: Tensor | Sequence[int], samples: int, most: int, least: int = 1) -> Tensor:
    """How many elements each sample has, as int64 (sample,).

    Raises
    ------
    InputError
        If they are not whole numbers, one a sample, or one is not within `least` and `most`.
    """
    found = torch.as_tensor(lengths)
    if found.shape != (samples,) or found.is_floating_point() or found.dtype == torch.bool:
        raise InputError(
            f"lengths of shape {tuple(found.shape)} and {found.dtype}: give one whole number for each "
            f"of {samples} samples"
        )
    bad = ((found < least) | (found > most)).nonzero()
    if len(bad):
        index = int(bad[0])
        raise InputError(
            f"sample {index} has length {int(found[index])}: give {least} to {most}, the elements "
            "there are"
        )
    return found.to(torch.int64)


def _require_finite(name: str, x: Tensor, lengths: Tensor | None) -> None:
    bad = ~torch.isfinite(x).flatten(2).all(2) if x.dim() > 2 else ~torch.isfinite(x)
    if lengths is not None:
        bad &= torch.arange(x.shape[1], device=x.device) < lengths.to(x.device)[:, None]
    if bool(bad.any()):
        sample, element = (int(i) for i in bad.nonzero()[0])
        raise InputError(
            f"input {name!r}: sample {sample}, element {element} holds what is no finite number; "
            "remove or repair that sample"
        )
