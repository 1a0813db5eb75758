"""How numbers are written in the report: one function for every quantity."""

import math

NONE = "–"  # what is written where nothing is known
MINUS = "−"
_UNITS = ((1e6, "J"), (1e3, "mJ"), (1.0, "µJ"), (1e-3, "nJ"), (1e-6, "pJ"))  # of a microjoule
_SIZES = ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))  # of bytes

Value = int | float | None


def count(value: Value) -> str:
    """A number of things, whole or a mean; thousands apart.

    >>> count(1234567), count(2377.147), count(0.1308)
    ('1,234,567', '2,377', '0.131')
    """
    if value is None:
        return NONE
    if value == int(value) or abs(value) >= 1000:
        return _minus(f"{value:,.0f}")
    return significant(value)


def significant(value: Value, digits: int = 3) -> str:
    """A number to so many significant digits, never in scientific notation below a million.

    >>> significant(0.000123456), significant(19.97), significant(4.0), significant(512.6)
    ('0.000123', '20.0', '4.00', '513')
    """
    if value is None:
        return NONE
    if value == 0:
        return "0"
    places = digits - 1 - math.floor(math.log10(abs(value)))
    rounded = round(value, places)
    if abs(rounded) >= 1e6 or abs(rounded) < 1e-6:
        return _minus(f"{value:.{digits - 1}e}")
    places = digits - 1 - math.floor(math.log10(abs(rounded)))  # 9.996 has become 10.0
    return _minus(f"{rounded:,.{max(places, 0)}f}")


def tick(value: float, places: int = 0) -> str:
    """A round value on an axis, no longer than it must be; with `places` decimals, except zero.

    >>> tick(0.5), tick(20.0), tick(2500), tick(-1e-9), tick(99, 1)
    ('0.5', '20', '2,500', '−1e-09', '99.0')
    """
    if value and not 1e-5 <= abs(value) < 1e7:
        return _minus(f"{value:.3g}")
    whole, _, decimals = f"{value:,.6f}".partition(".")
    decimals = decimals.rstrip("0").ljust(places if value else 0, "0")
    return _minus(f"{whole}.{decimals}" if decimals else whole)


def brief(value: float) -> str:
    """A number of things in at most four characters up to a million, for a small place.

    >>> brief(0.04), brief(51.9), brief(4230), brief(12135), brief(0)
    ('<1', '52', '4.2k', '12k', '0')
    """
    if 0 < value < 0.95:
        return "<1"
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= 0.9995 * size:
            scaled = value / size
            return f"{scaled:.0f}{letter}" if scaled >= 9.95 else f"{scaled:.1f}{letter}"
    return _minus(f"{value:.0f}")


def percent(value: Value) -> str:
    """A per cent value, 0..100, with two decimals as accuracies need."""
    return NONE if value is None else _minus(f"{value:.2f} %")


def points(new: Value, old: Value) -> str:
    """The difference of two per cent values."""
    if new is None or old is None:
        return NONE
    return _minus(f"{new - old:+.2f} points")


def factor(value: Value) -> str:
    """A ratio: times."""
    return NONE if value is None else f"{significant(value)}×"


def energy(microjoule: Value) -> str:
    """An energy, in the unit that keeps its number between 1 and 1000.

    >>> energy(0.0123), energy(4500.0), energy(0)
    ('12.3 nJ', '4.50 mJ', '0 µJ')
    """
    if microjoule is None:
        return NONE
    for size, unit in _UNITS:
        if abs(microjoule) >= 0.9995 * size:
            return f"{significant(microjoule / size)} {unit}"
    return f"{significant(microjoule / 1e-6)} pJ" if microjoule else "0 µJ"


def size(bits: Value) -> str:
    """A storage size, from bits.

    >>> size(8 * 1536), size(4)
    ('1.50 KiB', '4 bits')
    """
    if bits is None:
        return NONE
    if bits == 0:
        return "0 B"
    stored = bits / 8
    for unit, name in _SIZES:
        if stored >= unit:
            return f"{significant(stored / unit)} {name}"
    return f"{count(stored)} B" if stored >= 1 else f"{count(bits)} bits"


def shape(sizes: list[int] | None) -> str:
    """A tensor's shape, without the batch."""
    return NONE if sizes is None else " × ".join(map(str, sizes)) or "1"


def short_hash(text: str | None) -> str:
    """The first characters of a hash: enough to compare by eye."""
    return NONE if not text else text[:16]


def plural(number: int, noun: str) -> str:
    """A count with its noun.

    >>> plural(1, "layer"), plural(2, "layer")
    ('1 layer', '2 layers')
    """
    return f"{count(number)} {noun}{'' if number == 1 else 's'}"


def _minus(text: str) -> str:
    return text.replace("-", MINUS, 1) if text.startswith("-") else text
