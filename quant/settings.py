"""How a network is to be quantised."""

from dataclasses import dataclass, field

from spikemorph.graph import InputError

from .calibrators import MSE, Calibrator


@dataclass(frozen=True)
class Quantisation:
    """Settings of post-training quantisation.

    Parameters
    ----------
    levels : int
        How many values an activation can take, zero included: 2 to 65536.
    weight_bits : int
        2 to 8, or 16; weights are signed and symmetric, one scale per output channel.
    calibrator : Calibrator
        Chooses the unit of each activation from calibration samples.
    bias_correction : bool
        Whether the mean error of every weighted layer on calibration samples is put in its bias.
    state_levels : int
        As `levels`, of states that change by sums from element to element (LSTM's cell, GRU's state,
        a linear memory): what such a state loses by rounding it loses at every element.

    Raises
    ------
    InputError
        If a number is outside its range.
    """

    levels: int = 16
    weight_bits: int = 8
    calibrator: Calibrator = field(default_factory=MSE)
    bias_correction: bool = True
    state_levels: int = 2**14

    def __post_init__(self) -> None:
        if not 2 <= self.levels <= 65536:
            raise InputError(f"{self.levels} levels: choose 2 to 65536")
        if not 2 <= self.state_levels <= 65536:
            raise InputError(f"{self.state_levels} levels of states: choose 2 to 65536")
        if self.weight_bits not in (*range(2, 9), 16):
            raise InputError(f"{self.weight_bits} weight bits: choose 2 to 8, or 16")

    @property
    def largest_weight(self) -> int:
        """The largest integer weight, ``2**(bits - 1) - 1``."""
        return int(2 ** (self.weight_bits - 1) - 1)
