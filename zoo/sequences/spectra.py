"""Sounds as spectra over time: how loud each of 24 bands is in each frame, as bytes.

A frame is 882 samples of 22,050 a second (40 ms) under a Hann window, every 441 samples (20 ms).
Powers of its Fourier transform are summed in 24 triangles, evenly spaced on the mel scale,
``2595 log10(1 + f / 700)``, from 80 to 8000 Hz. A byte is the logarithm of that sum: 255 is one that a
full-scale sine gives, 0 is 70 decibels below, and all that is less.
"""

from functools import cache

import numpy as np
from numpy.typing import NDArray

RATE = 22_050  # samples a second
BANDS, HOP = 24, 441
_FRAME, _POINTS = 882, 1024
_LOW, _HIGH = 80.0, 8000.0  # Hz
_DEPTH = 70.0  # decibels

Sound = NDArray[np.int16]


def spectra(sound: Sound) -> NDArray[np.uint8]:
    """The bands of each frame (frame, 24) of a sound (sample,) of 16 bits.

    Silence is put around the sound, so that every sample of it is seen as often as any other.
    """
    padded = np.pad(sound / 32768.0, (_FRAME, _FRAME + HOP))
    frames = np.lib.stride_tricks.sliding_window_view(padded, _FRAME)[::HOP]
    window = np.hanning(_FRAME)
    powers = np.abs(np.fft.rfft(frames * window, _POINTS)) ** 2
    loudest = (window.sum() / 2) ** 2
    decibels = 10 * np.log10(np.maximum(powers @ _triangles().T / loudest, 10 ** (-_DEPTH / 10)))
    return np.rint(255 * (np.minimum(decibels, 0) / _DEPTH + 1)).astype(np.uint8)


@cache
def _triangles() -> NDArray[np.float64]:
    """The weight of every frequency in every band (24, 513)."""
    ends = 2595 * np.log10(1 + np.array([_LOW, _HIGH]) / 700)
    edges = 700 * (10 ** (np.linspace(ends[0], ends[1], BANDS + 2) / 2595) - 1)
    frequencies = np.arange(_POINTS // 2 + 1) * RATE / _POINTS
    low, peak, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    rising, falling = (frequencies - low) / (peak - low), (high - frequencies) / (high - peak)
    return np.maximum(0, np.minimum(rising, falling))


def heard(frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The frames from the first to the last that is not silent."""
    loud = np.flatnonzero(frames.any(1))
    return frames[loud[0] : loud[-1] + 1] if len(loud) else frames[:0]
