"""Which stages a network goes through, in which order."""

from ...choices.settings import IN_TIME
from ...conversion import conversion_settings
from ...sources.sampling import values
from ...sources.tasks import task_for
from .attack import attack_after
from .bench import Bench, naming
from .convert import CONVERT
from .energy import ENERGY
from .fine_tune import FINE_TUNE
from .measure import MEASURE
from .measure_in_time import MEASURE_IN_TIME
from .prune import PRUNE
from .stage import Stage

_EXACT = (PRUNE, CONVERT, MEASURE, ENERGY)
_IN_TIME = (PRUNE, FINE_TUNE, MEASURE_IN_TIME)
ALL = (*_EXACT, *_IN_TIME, attack_after("convert"), attack_after("fine-tune"))


def stages_of(bench: Bench) -> tuple[Stage, ...]:
    """What one network goes through, by its road; attacks come last where the recipe has some."""
    in_time = bench.network.road == IN_TIME
    found = _IN_TIME if in_time else _EXACT
    if not is_attacked(bench):
        return found
    return (*found, attack_after("fine-tune" if in_time else "convert"))


def is_attacked(bench: Bench) -> bool:
    """Whether the network is attacked at the end."""
    return bench.recipe.attack is not None and bench.network.attacked


def check(bench: Bench) -> None:
    """Refuse now what a stage would refuse only after others were done, in hours perhaps.

    Raises
    ------
    InputError
        If a name is unknown, a number outside its range, or the data does not fit the model; names
        the network.
    UnsupportedError
        Naming every node that cannot be trained on its road.
    """
    with naming(bench):
        conversion_settings(bench.recipe.convert)
        for samples in (bench.train.take(1), bench.test.take(1)):
            values(samples, bench.model.entry)
        task_for(bench.model.graph, bench.test)
        for stage in stages_of(bench):
            stage.check(bench)
