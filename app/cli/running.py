"""What convert and demo share: measure a fresh conversion on its test samples, with a progress bar."""

import torch

from spikemorph.zoo import Samples

from ..front.snn import SNN
from ..measures.results import EvaluationResult
from . import output


def evaluated(snn: SNN, test: Samples, where: torch.device) -> EvaluationResult:
    """Accuracy over the steps that the certificate asks for, the float network's beside it."""
    with output.progress(len(test), "evaluating") as watch:
        return snn.evaluate(test, device=where, watch=watch)
