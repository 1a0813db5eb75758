"""Attacks of the torchattacks package, run so that nothing but their result is left behind.

What torchattacks 3.5 does on its own, and what is done about it here:

- it seeds the global generators: they are put aside, and put back whatever happens;
- it switches the model to eval and back to train, whatever modes its parts had: it is given a view,
  which hides the model from it;
- ``backward`` adds to the gradients of parameters: only the input's is taken;
- samples that are not images are taken for a batch of one: it is given images;
- steps default to a tenth of the papers': they must be given; so do class counts, to 10: they are
  counted;
- it does not prove that images are allowed: `Threat.check` does.
"""

import importlib
import importlib.util
import inspect
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from spikemorph.graph import InputError

from ..draws import Draws
from ..target import Logits
from ..threat import Threat
from .base import attacks
from .best_image import BestImages
from .square import as_images

Setting = bool | int | float | str
_EFFORT = ("steps", "n_queries")  # what a table is worth nothing without
_WRAPPERS = ("AutoAttack", "MultiAttack", "LGV")
_NORMS = {"linf": "Linf", "l2": "L2"}


@dataclass(frozen=True)
class Outside:
    """One attack of torchattacks, by the name of its class.

    Parameters
    ----------
    threat : Threat
        Gives ``norm`` and ``eps``, where the class takes them.
    kind : str
        ``APGD``, ``DIFGSM``, ...
    settings : tuple of (name, value)
        Arguments of the class; steps and queries must be among them.
    at_once : bool
        Whether it is given the whole batch. By default it is given one sample after the other, each
        with a seed from its own stream; only attacks that draw nothing are the same either way.
    gradients : bool

    Raises
    ------
    InputError
        If torchattacks is missing, there is no such class, it is a collection of attacks, it has no
        such settings, or their number of steps or queries is not given.
    """

    threat: Threat
    kind: str
    settings: tuple[tuple[str, Setting], ...]
    at_once: bool = False
    gradients: bool = True

    def __post_init__(self) -> None:
        known = inspect.signature(_class(self.kind)).parameters
        given = dict(self.settings)
        missing = [name for name in _EFFORT if name in known and name not in given]
        strange = [name for name in given if name not in known]
        if missing:
            raise InputError(
                f"torchattacks.{self.kind}: give {missing[0]} explicitly; its default is far less "
                "than its paper's"
            )
        if strange:
            raise InputError(
                f"torchattacks.{self.kind} has no setting {strange[0]!r}; choose from "
                f"{', '.join(list(known)[1:])}"
            )

    @property
    def name(self) -> str:
        """The class's name in small letters."""
        return self.kind.lower()

    def __call__(self, model: Logits, x: Tensor, y: Tensor, draws: Draws) -> Tensor:
        """See `Attack`."""
        return _damaged(self.threat, model, (x, y), self._attack(model, draws))

    def _attack(self, model: Logits, draws: Draws) -> "_Attack":
        settings = dict(self.settings)

        def attack(x: Tensor, y: Tensor, classes: int, left: Tensor) -> Tensor:
            chosen = {"n_classes": classes} | settings
            streams = draws.rows(left).seeds.tolist()
            size = max(len(x), 1) if self.at_once else 1
            parts = [
                run_outside(self.kind, self.threat, chosen, model, images, labels, seed)
                for images, labels, seed in zip(
                    x.split(size), y.split(size), streams[::size], strict=True
                )
            ]
            return torch.cat(parts)

        return attack


@dataclass(frozen=True)
class FabT:
    """The targeted fast adaptive boundary attack (Croce and Hein, ICML 2020), by torchattacks.

    It looks for the nearest image of each target class, from the clean image on, so it draws
    nothing. What it finds within eps is the result.

    Parameters
    ----------
    threat : Threat
    steps : int
        Towards each target.
    targets : int
        At most: the classes with the largest clean logits but for the label; a network with fewer
        is attacked towards all of them.

    Raises
    ------
    InputError
        If torchattacks is missing, or there is no step or no target.
    """

    threat: Threat
    steps: int = 100
    targets: int = 9

    name = "fab-t"
    gradients = True
    restarts = 1

    def __post_init__(self) -> None:
        _class("FAB")
        if self.steps < 1 or self.targets < 1:
            raise InputError(
                f"{self.steps} steps and {self.targets} targets: fab-t needs at least 1 of each"
            )

    def __call__(self, model: Logits, x: Tensor, y: Tensor, draws: Draws) -> Tensor:
        """See `Attack`; nothing is drawn."""
        del draws

        def attack(images: Tensor, labels: Tensor, classes: int, left: Tensor) -> Tensor:
            del left
            targets = min(self.targets, classes - 1)
            chosen = {"steps": self.steps, "multi_targeted": True, "n_classes": targets + 1}
            return run_outside("FAB", self.threat, chosen, model, images, labels, 0)

        return _damaged(self.threat, model, (x, y), attack)


# Images and labels of survivors, how many classes there are, and the survivors' places -> images.
_Attack = Callable[[Tensor, Tensor, int, Tensor], Tensor]


def _damaged(
    threat: Threat, model: Logits, samples: tuple[Tensor, Tensor], attack: _Attack
) -> Tensor:
    """The more damaging of clean images and what an attack makes of those that are right."""
    x, y = samples
    found, logits = BestImages.before(model, x, y)
    left = (~found.final).nonzero()[:, 0]
    if threat.eps == 0 or not len(left):
        return found.images
    images = attack(x[left], y[left], logits.shape[1], left)
    threat.check(images, x[left])
    images = x.index_copy(0, left, images)
    with torch.no_grad():
        logits = logits.index_copy(0, left, model(images[left]).to(logits))
    return found.with_(images, logits, y).images


def run_outside(
    kind: str,
    threat: Threat,
    settings: Mapping[str, Setting],
    model: Logits,
    x: Tensor,
    y: Tensor,
    seed: int,
) -> Tensor:
    """(sample, *shape): what a class of torchattacks makes of images that are right.

    The threat and the seed take part where the class knows them, and so does ``n_classes``.
    """
    make = _class(kind)
    known = inspect.signature(make).parameters
    given = {"norm": _NORMS[threat.norm], "eps": threat.eps, "seed": seed, **settings}
    view = View(model, x)
    with _own_randomness(seed):
        attack = make(view, **{name: v for name, v in given.items() if name in known})
        found = attack(as_images(x).detach(), y)
    return found.detach().reshape(x.shape).to(x)


class View(nn.Module):
    """A network as torchattacks sees it: images in, float32 logits out, no parts, always in eval.

    `model` is hidden from registration as a part, so that nobody finds modes to switch.
    """

    def __init__(self, model: Logits, x: Tensor) -> None:
        super().__init__()
        self.device = nn.Parameter(x.new_zeros(0), requires_grad=False)  # torchattacks looks there
        self._shape = x.shape[1:]
        self._model = [model]
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        """(sample, class); float64 logits keep their differences: the largest is taken off."""
        logits: Tensor = _InputOnly.apply(  # type: ignore[no-untyped-call]
            images.reshape(-1, *self._shape), self._model[0]
        )
        if logits.dtype == torch.float64:
            logits = (logits - logits.amax(1, keepdim=True)).float()
        return logits


class _InputOnly(torch.autograd.Function):
    """A network whose backward pass reaches its input, and none of its parameters."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, model: Logits) -> Tensor:
        """Logits; their graph is kept beside torch's own only where a gradient may be taken."""
        if not ctx.needs_input_grad[0]:
            return model(images).detach().clone()
        with torch.enable_grad():
            ctx.images = images.detach().requires_grad_()
            ctx.logits = model(ctx.images)
        return ctx.logits.detach().clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None]:
        """Zeros where nothing leads back to the input."""
        found = None
        if ctx.logits.requires_grad:
            (found,) = torch.autograd.grad(
                ctx.logits, ctx.images, upstream, retain_graph=True, allow_unused=True
            )
        return torch.zeros_like(ctx.images) if found is None else found, None


@contextmanager
def _own_randomness(seed: int) -> Iterator[None]:
    """Seeds of one's own for all global generators, which are afterwards as they were."""
    plain, arrays = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        try:
            random.seed(seed)
            np.random.seed(seed % 2**32)
            torch.manual_seed(seed)
            yield
        finally:
            random.setstate(plain)
            np.random.set_state(arrays)


def _class(kind: str) -> Any:
    """A class of torchattacks.

    Raises
    ------
    InputError
        If the package is missing, it has no such attack, or it is not one attack.
    """
    if importlib.util.find_spec("torchattacks") is None:
        raise InputError(f"{kind} needs torchattacks: install spikemorph[attacks], or leave it out")
    package = importlib.import_module("torchattacks")
    found = getattr(package, kind, None)
    if kind in _WRAPPERS or not inspect.isclass(found):
        raise InputError(
            f"torchattacks has no single attack {kind!r}; name a class of it such as APGD or FAB, "
            "and use `standard` for AutoAttack"
        )
    return found


@attacks("fab-t")
def fab_t(threat: Threat) -> FabT:
    """The reference: nine targets of 100 steps."""
    return FabT(threat)
