"""Extra samples to learn from, which a network labels where nobody has."""

from dataclasses import dataclass, replace

from spikemorph.graph import InputError
from spikemorph.graph.brief import brief_repr
from spikemorph.graph.tasks import Task
from spikemorph.train import DataTensors
from spikemorph.train.data import MixedData
from spikemorph.zoo import Samples, load_data

from ..measures.evaluation import float_answers
from ..sources.models import Model, load_graph
from ..sources.sampling import Read, values
from ..sources.tasks import task_for


@dataclass(frozen=True)
class Extra:
    """Labelled samples that every batch has a `share` of, beside those that are trained on.

    Carmon et al. (NeurIPS 2019) give half of every batch to pseudo-labelled images.
    """

    samples: Samples
    share: float

    __repr__ = brief_repr

    def beside(self, train: DataTensors, model: Model, task: Task) -> MixedData:
        """What a model learns a task from, these samples mixed in.

        Raises
        ------
        InputError
            If they are not for this model and task, or the share is not between 0 and 1.
        """
        x, y = values(self.samples, model.entry), self.samples.y
        assert y is not None
        task.require(y, self.samples.name)
        return MixedData(train.x, train.y, DataTensors(x, task.targets(y)), self.share)


def extra_of(
    data: str | None,
    share: float,
    labeller: str | None,
    read: Read = load_data,
    like: Samples | None = None,
) -> Extra | None:
    """Extra samples by name, labelled by the network `labeller` if need be; None for no name.

    Its outputs are read as they answer the task of the samples `like`.

    Raises
    ------
    InputError
        If they have no labels and no labeller, or both; if a labeller has nothing to label, or
        takes other samples.
    """
    if data is None:
        if labeller is not None:
            raise InputError(f"labeller {labeller}: there are no extra samples to label")
        return None
    samples = read(data)
    if samples.y is None and labeller is None:
        raise InputError(
            f"extra {samples.name}: no labels; name the network that gives them: labeller"
        )
    if labeller is not None:
        if samples.y is not None:
            raise InputError(f"extra {samples.name}: has labels of its own; leave labeller out")
        samples = _labelled(samples, load_graph(labeller), samples if like is None else like)
    return Extra(samples, share)


def _labelled(samples: Samples, model: Model, like: Samples) -> Samples:
    x = values(samples, model.graph.declared(f"labeller {model.name}").entry)
    return replace(samples, y=float_answers(model.graph, x, task_for(model.graph, like)))
