"""How often a network is right."""

import torch
from torch import nn

from .data import DataTensors


@torch.no_grad()
def accuracy(model: nn.Module, data: DataTensors, batch: int = 500) -> float:
    """Percentage (0..100) of samples whose largest logit is their label's, on the model's device."""
    device = next((p.device for p in model.parameters()), data.x.device)
    was_training = model.training
    model.eval()
    right = 0
    for x, y in zip(torch.split(data.x, batch), torch.split(data.y, batch), strict=True):
        right += int((model(x.to(device)).argmax(1) == y.to(device)).sum())
    model.train(was_training)
    return 100 * right / len(data)
