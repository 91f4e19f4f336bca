"""The protocol card: what a number carries so that it can be compared with another one.

A row of a report is a plain dictionary, as in report.json. Two rows share a column only if their
cards are equal; what differs between models (value, interval, solver error, the seed of training)
is not part of the card.
"""

import math
from dataclasses import dataclass, field

from ..measures.estimate import Estimate, normal_interval

# what must be equal before two numbers may be compared
CARD = (
    "name",
    "unit",
    "split",
    "n",
    "m",
    "reference",
    "evaluator",
    "bound",
    "k",
    "dequantisation",
    "given",
    "seed",
    "drawn",
)
DEFAULTS = {
    "se": None,
    "interval": None,
    "null": None,
    "real": None,
    "real_interval": None,
    "raw": None,
    "n": None,
    "m": None,
    "split": "test",
    "group": "",
    "reference": None,
    "evaluator": None,
    "bound": None,
    "k": None,
    "dequantisation": None,
    "given": None,
    "solver_error": None,
    "seed": None,
    "drawn": None,
    "of": None,
    "better": None,
    "reason": "",
}
NOT_FINITE = "none: it is not a finite number; did the training diverge?"


def row(name: str, label: str, value: float | Estimate | None, unit: str, **more) -> dict:
    """One number with its protocol.

    group           the part of a report that it belongs to
    value           a number, an Estimate, or None with the ``reason``
    se, interval    standard error and 95 % interval over the draw of examples (not over trainings)
    null            the value of a perfect model
    real            the value of held-out real examples in the samples' place, a number or Estimate
    real_interval   its 95 % interval
    raw             the number before its known bias was removed
    n, m            number of examples (or samples) measured, and of reference examples
    split           of the examples that are measured, or that are the reference
    reference       the digest of the reference
    evaluator       the name of the feature map
    bound           "exact", "lower", "ode" or None
    k               samples of z, or nearest neighbours
    dequantisation  "uniform" or None
    given           what the likelihood is conditional on: "labels", "captions", or None
    solver_error    error of a numerical solver, in the row's unit
    seed            of the evaluation's own random numbers
    drawn           how samples were drawn
    of              the total of which a count is a part
    better          "lower", "higher", "near" (to ``null``, or ``real`` without it) or None
    reason          why there is no value, or a note about it: by default the note of an Estimate
    """
    if isinstance(value, Estimate):
        more = _estimate_entries(value) | more
        value = value.value
    real = more.get("real")
    if isinstance(real, Estimate):
        more |= {"real": real.value, "real_interval": real.interval and list(real.interval)}
    if value is not None and not math.isfinite(value):
        value = None
        more |= {"se": None, "interval": None, "reason": NOT_FINITE}
    assert not set(more) - set(DEFAULTS), set(more) - set(DEFAULTS)
    result = {"name": name, "label": label, "value": value, "unit": unit} | DEFAULTS | more
    if result["interval"] is None and result["se"] is not None and value is not None:
        result["interval"] = list(normal_interval(value, result["se"]))
    return result


def _estimate_entries(estimate: Estimate) -> dict:
    entries = {
        "se": estimate.se,
        "interval": estimate.interval and list(estimate.interval),
        "null": estimate.null,
        "raw": estimate.raw,
        "n": estimate.n or None,
        "m": estimate.m or None,
        "reason": estimate.note or None,
    }
    return {key: entry for key, entry in entries.items() if entry is not None}


def absent(name: str, label: str, unit: str, reason: str, **more) -> dict:
    """A row without a value, with the reason."""
    return row(name, label, None, unit, reason=f"none: {reason}", **more)


def identity(row: dict) -> tuple:
    """The card of a row, to be compared with another's."""
    return tuple(row.get(key) for key in CARD)


def difference(one: dict, other: dict) -> list[str]:
    """Why two rows of one name are not in one column: the entries of the card that differ."""
    return [
        f"{key} {one.get(key)} and {other.get(key)}"
        for key in CARD
        if one.get(key) != other.get(key)
    ]


def has_value(row: dict | None) -> bool:
    return row is not None and row.get("value") is not None and math.isfinite(row["value"])


def interval(row: dict) -> tuple[float, float] | None:
    """The 95 % interval of a row, where one is known."""
    if row.get("interval"):
        return tuple(row["interval"])
    return None if row.get("se") is None else normal_interval(row["value"], row["se"])


def overlap(one: dict, other: dict) -> bool:
    """Whether the 95 % intervals overlap. A row without an interval has its value as both ends."""
    low, high = interval(one) or (one["value"], one["value"])
    other_low, other_high = interval(other) or (other["value"], other["value"])
    return low <= other_high and other_low <= high


def badness(row: dict, better: str | None = None) -> tuple[float, float, float]:
    """How bad a value is, and the ends of its 95 % interval: lower is better here.

    better: the direction, by default the row's own. Without an interval both ends are the value.
    """
    better = better or row.get("better")
    value = row["value"]
    low, high = interval(row) or (value, value)
    if better == "higher":
        return -value, -high, -low
    if better != "near":
        return value, low, high
    target = row["null"] if row.get("null") is not None else row.get("real") or 0.0
    ends = abs(low - target), abs(high - target)
    nearest = 0.0 if low <= target <= high else min(ends)
    return abs(value - target), nearest, max(ends)


@dataclass
class MetricColumn:
    """Numbers that may be compared: one metric under one protocol.

    rows: index of the report -> row, with or without a value.
    """

    card: dict
    rows: dict[int, dict] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.card["name"]

    def valued_rows(self) -> dict[int, dict]:
        return {i: row for i, row in self.rows.items() if has_value(row)}

    def ordered(self) -> list[int]:
        """Reports with a number, best first; empty when no direction is better."""
        better = self.card.get("better")
        if better not in ("lower", "higher", "near"):
            return []
        rows = self.valued_rows()
        return sorted(rows, key=lambda i: badness(rows[i], better)[0])

    def ranks(self) -> dict[int, int]:
        """Report -> 1 + the number of reports that are surely better.

        Surely better: the whole interval is on the better side of this one's interval.
        """
        ends = {}
        for i, row in self.valued_rows().items():
            ends[i] = badness(row, self.card.get("better"))
        ranks = {}
        for j in self.ordered():
            ranks[j] = 1 + sum(highest < ends[j][1] for _, _, highest in ends.values())
        return ranks


def align_columns(reports: list[dict]) -> list[MetricColumn]:
    """The rows of some reports by their cards, in the order of their first appearance.

    A row without a value is in every column of its name.
    """
    columns: dict[tuple, MetricColumn] = {}
    missing: list[tuple[int, dict]] = []
    for i, report in enumerate(reports):
        for row in report.get("metrics", []):
            if has_value(row):
                columns.setdefault(identity(row), MetricColumn(row)).rows[i] = row
            else:
                missing.append((i, row))
    for i, row in missing:
        same = [column for column in columns.values() if column.name == row["name"]]
        if not same:
            same = [columns.setdefault((row["name"],), MetricColumn(row))]
        for column in same:
            column.rows.setdefault(i, row)
    return list(columns.values())
