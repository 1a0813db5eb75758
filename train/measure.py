"""How often a network is right."""

import torch
from torch import Tensor, nn

from spikemorph.graph.tasks import Task

from .data import DataTensors


def accuracy(model: nn.Module, data: DataTensors, batch: int = 500) -> float:
    """Percentage (0..100) of samples whose largest logit is their label's, on the model's device."""
    answers = _outputs(model, data, batch).argmax(1)
    return 100 * int((answers == data.y).sum()) / answers.numel()


def score(model: nn.Module, data: DataTensors, task: Task | None, batch: int = 500) -> float:
    """As `accuracy`, of a task's answers; the root mean square error where they are numbers."""
    if task is None:
        return accuracy(model, data, batch)
    answers = task.answers(_outputs(model, data, batch))
    right, error = task.share(answers, data.y), task.error(answers, data.y)
    return error.rmse if error is not None else float(right or 0.0)


@torch.no_grad()
def _outputs(model: nn.Module, data: DataTensors, batch: int) -> Tensor:
    device = next((p.device for p in model.parameters()), data.x.device)
    was_training = model.training
    model.eval()
    found, places = list[Tensor](), list[Tensor]()
    for index, part in data.pieces(batch):
        found.append(model(part.x.to(device)).cpu())
        places.append(index)
    model.train(was_training)
    return torch.cat(found)[torch.cat(places).argsort()]
