"""What a torch user holds in memory, as the samples and models that commands name."""

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from spikemorph.convert import read_torch
from spikemorph.graph import Graph, InputError
from spikemorph.graph.errors import Repair, Setting
from spikemorph.zoo import Samples, load_data

from .factories import remarks_on
from .models import INPUT_SHAPE, Model, load_graph

Keys = tuple[str, str]  # of samples and of labels, in batches that are dicts
_X, _Y = ("x", "image", "images"), ("y", "label", "labels")  # what these keys are mostly called
_BATCH = 256  # items of a data set that are read together
_PADDED = "sequences of several lengths are padded to one array, in Samples with lengths"
_GIVE = "give a tensor, an array, a DataLoader, a Dataset, or the name of data"


def samples_of(
    images: Any,
    labels: Any = None,
    *,
    name: str = "images",
    keys: Keys | None = None,
    most: int | None = None,
    task: str | None = None,
) -> Samples:
    """Samples from whatever holds them; real numbers are kept in 32 bits, on the CPU.

    Parameters
    ----------
    images : Tensor, array, DataLoader, Dataset, (images, labels), str or Samples
        (sample, *shape), or what gives batches of them, with labels or without; or a name as
        `load_data` takes it. Bytes 0..255 span the network's input range, reals are in its units.
    labels : Tensor, array or list, optional
        One a sample, where `images` has none.
    name : str
        What the argument is called that they were given by.
    keys : (str, str), optional
        Of samples and labels in batches that are dicts; else ``x`` or ``image``, ``y`` or ``label``.
    most : int, optional
        Of what comes in batches, not more are read than cover so many samples.
    task : str, optional
        What labels mean, where they do not tell.

    Raises
    ------
    InputError
        If there are no samples in it, or no numbers, or labels come from two sides.
    """
    where = Setting(name)
    if isinstance(images, str | Path):
        found = load_data(str(images), most=most)
    elif isinstance(images, Samples):
        found = images
    else:
        x, y = _pair(images, keys, most, where)
        found = Samples(name, _inputs(x, where), None if y is None else _labels(y, where))
    if labels is not None:
        if found.y is not None:
            raise InputError("it has labels of its own; leave the others out", where=where)
        found = replace(found, y=_labels(labels, Setting("labels")))
    return found if task is None else replace(found, task=task)


def model_of(
    source: Any,
    sample: Sequence[int] | None = None,
    *,
    input_shape: tuple[int, ...] | None = None,
    weights: Path | str | None = None,
) -> Model:
    """A model from whatever holds it; a torch module is read from a copy and stays as it is.

    Parameters
    ----------
    source : nn.Module, Graph, Model, str or Path
        A name is taken as `load_graph` takes it.
    sample : sequence of int, optional
        The shape of one sample, where some are at hand.
    input_shape : tuple of int, optional
        (batch, *sample shape), where none are; and for ONNX files of open sizes.
    weights : Path or str, optional
        For a name that is a factory.

    Raises
    ------
    InputError
        If it is no model, or does not take such samples.
    UnsupportedError
        Naming every node that cannot be taken.
    """
    where = Setting("model")
    if isinstance(source, Model):
        return source
    if isinstance(source, Graph):
        return Model("graph", source)
    if input_shape is None and sample is not None:
        input_shape = (1, *sample)
    if isinstance(source, nn.Module):
        return _from_module(source, input_shape)
    if isinstance(source, str | Path):
        given = input_shape if sample is None or _is_factory(str(source)) else None
        file = None if weights is None else Path(weights)
        return load_graph(str(source), input_shape=given, weights=file)
    kind = f"the class {source.__name__}" if isinstance(source, type) else f"a {_kind(source)}"
    raise InputError(
        f"is {kind}; give an nn.Module, a Graph, a file, 'zoo:NAME' or 'package.module:factory'",
        where=where,
    )


def _is_factory(source: str) -> bool:
    return ":" in source and not source.startswith("zoo:") and not Path(source).exists()


def _from_module(module: nn.Module, input_shape: tuple[int, ...] | None) -> Model:
    name = type(module).__name__
    if input_shape is None:
        raise InputError(
            f"{name}: what samples it takes is not known",
            INPUT_SHAPE,
        )
    own = copy.deepcopy(module).cpu().eval()
    reals = (t.dtype for t in chain(own.parameters(), own.buffers()) if t.is_floating_point())
    example = torch.zeros(1, *input_shape[1:], dtype=next(reals, torch.float32))
    try:
        with torch.no_grad():
            own(example)
    except Exception as error:  # a user's module raises anything
        reason = (str(error) or type(error).__name__).splitlines()[0]
        shape = tuple(input_shape[1:])
        last = "; channels come first: numpy.moveaxis(x, -1, 1)" if _channels_last(shape) else ""
        raise InputError(
            f"samples of shape {shape} do not go through {name}: {reason}{last}",
            where=Setting("model"),
        ) from error
    return Model(name, read_torch(own, example), remarks_on(name, module))


def _channels_last(shape: tuple[int, ...]) -> bool:
    return len(shape) == 3 and shape[-1] in (1, 3) and shape[0] not in (1, 3)


def _pair(images: Any, keys: Keys | None, most: int | None, where: Setting) -> tuple[Any, Any]:
    """Samples and labels, None without."""
    if isinstance(images, Dataset):
        images = DataLoader(images, batch_size=_BATCH)
    if isinstance(images, DataLoader):
        return _gathered(images, keys, most, where)
    if isinstance(images, Tensor | np.ndarray):
        return images, None
    if isinstance(images, Mapping | tuple) and len(images) in (1, 2):
        return _parts(images, keys, where)
    ragged = f"; {_PADDED}" if isinstance(images, list) else ""
    raise InputError(f"is a {_kind(images)}; {_GIVE}{ragged}", where=where)


def _gathered(
    batches: Iterable[Any], keys: Keys | None, most: int | None, where: Setting
) -> tuple[Any, Any]:
    xs: list[Tensor] = []
    ys: list[Tensor] = []
    count = 0
    for batch in batches:
        x, y = _parts(batch, keys, where)
        xs.append(_numbers(x, where))
        if y is not None:
            ys.append(_numbers(y, where))
        count += len(xs[-1])
        if most is not None and count >= most:
            break
    if not xs:
        raise InputError("it gives no batches; give at least one sample", where=where)
    if len({tuple(x.shape[1:]) for x in xs}) > 1:
        raise InputError(
            f"its samples have several shapes; bring them to one: {_PADDED}", where=where
        )
    return torch.cat(xs), torch.cat(ys) if ys else None


def _parts(batch: Any, keys: Keys | None, where: Setting) -> tuple[Any, Any]:
    """Samples and labels of one batch."""
    if isinstance(batch, Mapping):
        key, label = _chosen(batch, keys, where)
        return batch[key], None if label is None else batch[label]
    if isinstance(batch, Tensor | np.ndarray):
        return batch, None
    if isinstance(batch, list | tuple) and len(batch) in (1, 2):
        return batch[0], batch[1] if len(batch) == 2 else None
    held = f"{len(batch)} things" if isinstance(batch, list | tuple) else f"a {_kind(batch)}"
    raise InputError(
        f"its batches hold {held}; give batches of samples, of (samples, labels), or dicts",
        where=where,
    )


def _chosen(batch: Mapping[str, Any], keys: Keys | None, where: Setting) -> tuple[str, str | None]:
    """The keys of samples and labels."""
    if keys is not None:
        wanted: list[str | None] = [*keys]
    else:
        wanted = [next((key for key in usual if key in batch), None) for usual in (_X, _Y)]
    x, y = wanted
    if x is None or x not in batch or (keys is not None and y not in batch):
        known = [str(key) for key in batch]
        example = (known[0], known[-1]) if known else _X[:2]
        raise InputError(
            f"its batches have the keys {', '.join(known)}",
            Repair("keys", example, "say which hold samples and labels: {}"),
            where=where,
        )
    return x, y


def _inputs(value: Any, where: Setting) -> Tensor:
    x = _numbers(value, where)
    return x.to(torch.float32) if x.is_floating_point() else x


def _labels(value: Any, where: Setting) -> Tensor:
    y = _numbers(value, where)
    return y.to(torch.float32 if y.is_floating_point() else torch.int64)


def _numbers(value: Any, where: Setting) -> Tensor:
    """A tensor on the CPU that no gradient knows of."""
    if isinstance(value, Tensor):
        if value.is_meta:
            raise InputError("it has a shape and no values; give the numbers", where=where)
        return value.detach().cpu()
    try:
        found = np.ascontiguousarray(value)
        return torch.as_tensor(found if found.flags.writeable else found.copy())
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(
            f"is a {_kind(value)} that holds no numbers; {_GIVE}", where=where
        ) from error


def _kind(value: Any) -> str:
    return type(value).__name__
