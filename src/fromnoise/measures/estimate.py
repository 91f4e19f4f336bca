"""A measured number and how sure it is."""

import math
from dataclasses import dataclass

from ..core.errors import DataError


class NotFiniteError(DataError):
    """A measure that came out as no finite number, of rows that are finite themselves."""


class NoSpreadError(DataError):
    """Examples that do not differ: there is nothing to measure."""


@dataclass(frozen=True)
class Estimate:
    """value    the number, free of bias where a way to be so is known
    se       its standard error over the draw of samples and reference; None where none is known
    interval 95 % interval; None where none is known
    null     what a perfect model would score on average with these many samples
    raw      the number as others print it, its bias included; None where that is ``value``
    n, m     samples and reference examples that it was computed from
    note     a warning about the interval, "" where there is none

    Raises NotFiniteError for a value or standard error that is not finite, and for an interval with
    NaN in it.
    """

    value: float
    se: float | None = None
    interval: tuple[float, float] | None = None
    null: float | None = None
    raw: float | None = None
    n: int = 0
    m: int = 0
    note: str = ""

    def __post_init__(self):
        ends = self.interval or ()
        if (
            math.isfinite(self.value)
            and math.isfinite(self.se or 0.0)
            and not any(map(math.isnan, ends))
        ):
            return
        raise NotFiniteError(
            f"the measure came out as {self.value} (standard error {self.se}), which is no finite "
            "number: the values that were measured are too large for it, or differ too much in "
            "size. Look whether the training diverged"
        )


def normal_interval(value: float, se: float) -> tuple[float, float]:
    """value +- 1.96 se."""
    return value - 1.959963985 * se, value + 1.959963985 * se


def share(successes: float, n: float, null: float | None = None, m: int = 0) -> Estimate:
    """A proportion with Wilson's 95 % interval (Wilson 1927), which holds near 0 and 1 too."""
    z = 1.959963985
    p = successes / n
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return Estimate(
        p,
        math.sqrt(p * (1 - p) / n),
        (max(0.0, middle - half), min(1.0, middle + half)),
        null,
        n=n,
        m=m,
    )
