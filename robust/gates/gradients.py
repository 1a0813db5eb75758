"""Gates on gradients: that there are any, that they point the right way, that paths were compared."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..attacks.base import SampleLoss, input_gradient
from ..attacks.losses import losses
from ..draws import Draws
from ..target import GradientPath, Logits
from ..threat import wide
from .context import GateContext, Samples, percent, share
from .gate import Finding, gate

SIGMAS = 3.0  # a correlation by chance is beyond it once in a thousand
_SMALLEST = 1e-300


@dataclass(frozen=True)
class PathRecord:
    """One gradient path on the gates' samples.

    Parameters
    ----------
    name, exact, stand_in
        As in `GradientPath`.
    robust : float
        Percentage that stands after an attack through this path alone.
    zero, nan : float
        Shares, 0..1, of clean samples whose gradient of the cross-entropy is zero in every pixel,
        or not finite in some.
    cosine : float or None
        Mean cosine of its gradient to the first path's; None where one of them is always zero.
    """

    name: str
    exact: bool
    stand_in: bool
    robust: float
    zero: float
    nan: float
    cosine: float | None

    def to_dict(self) -> dict[str, object]:
        """Plain data."""
        return {
            "name": self.name,
            "exact": self.exact,
            "stand_in": self.stand_in,
            "robust": self.robust,
            "zero_gradient_fraction": self.zero,
            "nan_gradient_fraction": self.nan,
            "cosine": self.cosine,
        }


def path_records(context: GateContext) -> tuple[PathRecord, ...]:
    """Every path of the target, in its order there."""
    robust = {path.name: found.robust for path, found in context.sweep}
    records, first = [], None
    for path in context.target.paths:
        gradient = gradients(context, path, losses["ce"])
        first = gradient if first is None else first
        records.append(
            PathRecord(
                path.name,
                path.exact,
                path.stand_in,
                robust[path.name],
                percent(_zero(gradient)) / 100,
                percent(_broken(gradient)) / 100,
                _cosine(gradient, first),
            )
        )
    return tuple(records)


def gradients(context: GateContext, path: GradientPath, loss: SampleLoss) -> Tensor:
    """(sample, *shape) of the loss in the clean images."""
    parts = torch.arange(len(context.samples)).split(context.settings.batch)
    chosen = [context.samples.rows(part) for part in parts]
    return torch.cat([_gradient(path.logits, part.x, part.y, loss) for part in chosen])


@gate(
    "gradients",
    "Every sample has a gradient",
    "Attacks by gradients are random walks on samples that have none: their robustness is not "
    "shown.",
)
def every_sample_has_a_gradient(context: GateContext) -> Finding:
    """Over all paths and two losses; only samples that are right without attack count."""
    if not context.target.paths:
        return Finding(
            False, "the network offers no gradient path: only attacks by queries were possible"
        )
    none, silent = context.clean.clone(), context.clean.clone()
    odd = torch.zeros_like(context.clean)
    for path in context.target.paths:
        by_loss = {name: gradients(context, path, losses[name]) for name in ("ce", "cw")}
        silent &= _zero(by_loss["ce"])
        none &= _zero(by_loss["ce"]) & _zero(by_loss["cw"])
        odd |= _broken(by_loss["ce"]) | _broken(by_loss["cw"])
    listed = ", ".join(f"{r.name} {100 * r.zero:.0f} %" for r in path_records(context))
    detail = (
        f"{int(none.sum())} samples have a zero gradient by every path and loss, "
        f"{int(silent.sum())} by every path with cross-entropy alone; {int(odd.sum())} have one "
        f"that is not finite; zero gradients by path: {listed}"
    )
    return Finding(not bool((none | odd).any()), detail, context.samples.named(none | odd))


@gate(
    "numeric",
    "Gradients agree with differences of the network itself",
    "The gradient is not of this network: what it finds, or fails to find, says little.",
    paths=True,
)
def numeric(context: GateContext) -> Finding:
    """Differences along random signs v against g v, for the margin and the strongest path.

    D = (L(x + h v) - L(x - h v)), P = g (x+ - x-), with both images clipped to [0, 1] and h = eps:
    surrogates are of a function smoothed about that far. The mean correlation of D and P over
    directions must be above what chance gives.
    """
    chosen = context.samples.rows(context.clean.nonzero()[: context.settings.probes, 0])
    if not len(chosen) or not context.threat.eps:
        return Finding(None, "not run: no sample is classified correctly, or eps is 0")
    found = _correlations(context, context.sweep[0][0].logits, chosen)
    needed = SIGMAS / (len(chosen) * context.settings.directions) ** 0.5
    mean = float(found.mean())
    return Finding(
        mean > needed,
        f"path {context.sweep[0][0].name}: mean correlation {mean:.2f} over {len(chosen)} samples "
        f"with {context.settings.directions} directions each; more than {needed:.2f} is needed",
        chosen.named(found <= 0),
    )


@gate(
    "surrogates",
    "Several gradient paths were tried",
    "One surrogate misses what another finds; one that was trained against finds least.",
    paths=True,
)
def surrogates(context: GateContext) -> Finding:
    """The best single path, the ensemble, and whether training and attack share a surrogate."""
    trained, (best, alone) = context.companions.trained, context.sweep[0]
    together = context.clean.clone()
    for _, found in context.sweep:
        together &= found.standing
    detail = (
        f"strongest of {len(context.sweep)} paths alone: {best.name}, {share(alone.standing)}; all "
        f"together {share(together)}"
    )
    if trained is not None:
        known = "is" if trained in [path.name for path in context.target.paths] else "is not"
        detail += f"; trained by {trained}, which {known} among them"
    used = {member.path for member in context.evaluated if member.path is not None}
    if used:
        detail += f"; the evaluation took {len(used)}"
    several = len(used) > 1 if used else len(context.sweep) > 1
    if len(context.sweep) == 1 and trained is None:
        return Finding(None, f"not run: the network has one gradient only; {detail}")
    return Finding(several, detail)


def _gradient(model: Logits, x: Tensor, y: Tensor, loss: SampleLoss) -> Tensor:
    return input_gradient(model, x, lambda logits: loss(logits, y))[0]


def _correlations(context: GateContext, model: Logits, chosen: Samples) -> Tensor:
    """(sample,) of differences of the network with those that the gradient foretells."""
    x, y, loss = chosen.x, chosen.y, losses["cw"]
    count = context.settings.directions
    gradient = _gradient(model, x, y, loss)
    draws = Draws.of(context.seed, chosen.indices).fork("numeric")
    foretold, measured = [], []
    for number in range(count):
        step = _length(context, x) * draws.fork(number).signs(*x.shape[1:]).to(x)
        up, down = (x + step).clamp(0, 1), (x - step).clamp(0, 1)
        foretold.append((gradient * (up - down)).flatten(1).sum(1))
        up, down = (context.forward(context.target.logits, image) for image in (up, down))
        measured.append(loss(up, y) - loss(down, y))
    return _correlation(torch.stack(foretold, 1).double(), torch.stack(measured, 1).double())


def _length(context: GateContext, x: Tensor) -> float:
    """How far one pixel goes so that the whole image goes by eps."""
    linf = context.threat.norm == "linf"
    return context.threat.eps if linf else context.threat.eps / x[0].numel() ** 0.5


def _correlation(a: Tensor, b: Tensor) -> Tensor:
    """(sample,) over (sample, direction); 0 where one of them is constant."""
    a, b = a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True)
    length = a.norm(dim=1) * b.norm(dim=1)
    return torch.where(length > 0, (a * b).sum(1) / length.clamp_min(_SMALLEST), 0.0)


def _zero(gradient: Tensor) -> Tensor:
    return (gradient == 0).flatten(1).all(1)


def _broken(gradient: Tensor) -> Tensor:
    return ~torch.isfinite(gradient).flatten(1).all(1)


def _cosine(gradient: Tensor, first: Tensor) -> float | None:
    usable = ~(_zero(gradient) | _zero(first) | _broken(gradient) | _broken(first))
    if not bool(usable.any()):
        return None
    a, b = (g[usable] / wide(g[usable].flatten(1).norm(dim=1), g) for g in (gradient, first))
    return float((a * b).flatten(1).sum(1).mean())
