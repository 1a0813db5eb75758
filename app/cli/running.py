"""What convert and demo share: measure a fresh conversion on its test samples, with a progress bar."""

import torch

from spikemorph.convert.certificate import curve_steps
from spikemorph.zoo import Samples

from ..choices import by_name
from ..conversion import Conversion
from ..measures.evaluation import evaluate
from ..measures.results import EvaluationResult
from ..sources import sampling
from ..sources.tasks import task_for
from . import options


def evaluated(
    result: Conversion,
    test: Samples,
    name: str,
    where: torch.device,
) -> EvaluationResult:
    """Accuracy over the steps that the certificate asks for, the float network's beside it."""
    x = sampling.fitting(test, result.network.graph)
    steps = curve_steps(result.certificate)
    engine = by_name.engine("auto", result.network, where, max(steps))
    with options.progress(len(x), "evaluating") as watch:
        return evaluate(
            result.network, engine, result.certificate, x, test.y, steps=steps,
            names=(name, test.name), float_graph=result.float_graph, watch=watch,
            task=task_for(result.float_graph, test),
        )  # fmt: skip
