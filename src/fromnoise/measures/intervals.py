"""Intervals of distances whose variance depends on the distance itself."""

import math

# Growth of the variance above the value, at most: from the cases of benchmarks/measuring.py.
STEEPEST = 1.3


def score_interval(
    value: float, slope: float, flat: float, z: float = 1.959963985
) -> tuple[float, float]:
    """All distances theta with |value - theta| <= z sqrt(V(theta)).

    In squared feature units. flat is the variance of the estimate where the laws agree, flat +
    slope its variance at ``value``. Below the value V(theta) = flat + slope theta / value: near 0 a
    distance varies as its own root, and the upper end is farther away, as in Wilson's interval of a
    share. Above it V grows as theta^2, up to STEEPEST times the former: in simulations with heavy
    tails an estimate that is 10 % too low comes with a variance that is 25 to 30 % too low.
    """
    s = slope / max(value, math.sqrt(flat), 1e-300)
    low, high = linear_ends(value, s, flat, z)
    steep = linear_ends(value, STEEPEST * s, flat, z)[1]
    base = max(value, 2 * math.sqrt(flat), 1e-300)  # the unit in which squares stay finite
    square = base * square_end(value / base, slope / base / base, flat / base / base, z)
    return low, max(high, min(steep, square))


def linear_ends(value: float, s: float, flat: float, z: float) -> tuple[float, float]:
    """Both solutions theta of (value - theta)^2 = z^2 (s theta + flat)."""
    middle = value + z * z * s / 2
    half = z * math.sqrt(z * z * s * s / 4 + max(s * value, 0.0) + flat)
    return middle - half, middle + half


def square_end(value: float, a: float, flat: float, z: float) -> float:
    """The larger solution theta of (theta - value)^2 = z^2 (a theta^2 + flat).

    Infinite where z^2 a >= 1.
    """
    rest = 1 - z * z * a
    if rest <= 0:
        return math.inf
    under_root = value * value - rest * (value * value - z * z * flat)
    return (value + math.sqrt(max(under_root, 0.0))) / rest
