"""How far a share that was counted on a sample may lie from the truth."""

from statistics import NormalDist

from spikemorph.graph import InputError

_Z = NormalDist().inv_cdf(0.975)  # two-sided, 95 %


def wilson(correct: int, n: int) -> tuple[float, float]:
    """The 95 % score interval of a share, in per cent (E. B. Wilson, JASA 22, 1927).

    Unlike the normal approximation it never leaves 0..100 and is not empty at either end. Of no
    trials nothing is known: (0, 100).

    Raises
    ------
    InputError
        If `correct` is not within 0..n.

    Examples
    --------
    >>> low, high = wilson(400, 1000)
    >>> round(low, 2), round(high, 2)
    (37.01, 43.07)
    """
    if not 0 <= correct <= n:
        raise InputError(f"{correct} of {n} is no share; give a count within 0..{max(n, 0)}")
    if n == 0:
        return 0.0, 100.0
    # (p + z^2/2n -+ z sqrt(p (1-p) / n + z^2/4n^2)) / (1 + z^2/n)
    share, square = correct / n, _Z**2
    middle = share + square / (2 * n)
    half = _Z * (share * (1 - share) / n + square / (4 * n**2)) ** 0.5
    low, high = ((middle + sign * half) / (1 + square / n) for sign in (-1, 1))
    return (100 * low if correct else 0.0), (100 * high if correct < n else 100.0)
