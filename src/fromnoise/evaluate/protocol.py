"""The protocol card: what a number must carry so that it can stand beside another one.

A row of a report is a plain dictionary, as report.json holds it. Two rows share a column only when
their cards are the same; what differs between models (value, interval, solver error, the training's
seed) is not part of the card.
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


def row(name: str, label: str, value: float | Estimate | None, unit: str, **more) -> dict:
    """One number with its protocol.

    group         the part of a report that it belongs to
    value         a number, an Estimate, or None with the ``reason`` in words
    se, interval  standard error and 95 % interval over the draw of examples (not over trainings)
    null          what a perfect model would score
    real          what held-out real examples score in the samples' place, a number or an Estimate;
                  real_interval: its 95 % interval
    raw           the number before its known bias was taken off
    n, m          examples (or samples) measured, reference examples
    split         whose examples are measured, or stand as the reference; reference: its digest
    evaluator     the feature map's name
    bound         "exact", "lower", "ode" or None; k: samples of z, or nearest neighbours;
                  dequantisation: "uniform" or None
    given         what the model was told of each example: "labels", "captions", or None
    solver_error  by how much a numerical solver may be off, in the row's unit
    seed          of the evaluation's own random numbers; drawn: how samples were drawn
    of            what a count is a part of
    better        "lower", "higher", "near" (to ``null``, or ``real`` where there is no null) or
                  None
    reason        why there is no value, or a note about the value: an Estimate's own note is one
    """
    if isinstance(value, Estimate):
        found = value
        known = {
            "se": found.se,
            "interval": found.interval and list(found.interval),
            "null": found.null,
            "raw": found.raw,
            "n": found.n or None,
            "m": found.m or None,
            "reason": found.note or None,
        }
        more, value = (
            {key: entry for key, entry in known.items() if entry is not None} | more,
            found.value,
        )
    if isinstance(real := more.get("real"), Estimate):
        more |= {"real": real.value, "real_interval": real.interval and list(real.interval)}
    if value is not None and not math.isfinite(value):
        value, more = (
            None,
            more
            | {
                "se": None,
                "interval": None,
                "reason": "none: it is not a finite number; did the training diverge?",
            },
        )
    base = {
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
    assert not set(more) - set(base), set(more) - set(base)
    made = {"name": name, "label": label, "value": value, "unit": unit} | base | more
    if made["interval"] is None and made["se"] is not None and value is not None:
        made["interval"] = [value - 1.959963985 * made["se"], value + 1.959963985 * made["se"]]
    return made


def absent(name: str, label: str, unit: str, reason: str, **more) -> dict:
    """A number that there is not, said in words."""
    return row(name, label, None, unit, reason=f"none: {reason}", **more)


def identity(found: dict) -> tuple:
    """The card of a row, to be compared with another's."""
    return tuple(found.get(key) for key in CARD)


def difference(one: dict, other: dict) -> list[str]:
    """What keeps two rows of one name out of one column, in words."""
    return [
        f"{key} {one.get(key)} and {other.get(key)}"
        for key in CARD
        if one.get(key) != other.get(key)
    ]


def has_value(found: dict | None) -> bool:
    return found is not None and found.get("value") is not None and math.isfinite(found["value"])


def interval(found: dict) -> tuple[float, float] | None:
    """The 95 % interval of a row, where one is known."""
    if found.get("interval"):
        return tuple(found["interval"])
    return None if found.get("se") is None else normal_interval(found["value"], found["se"])


def overlap(one: dict, other: dict) -> bool:
    """Do the 95 % intervals overlap? Where a row has none, only equal values do."""
    (a, b), (c, d) = (interval(found) or (found["value"],) * 2 for found in (one, other))
    return a <= d and c <= b


def badness(found: dict, better: str | None = None) -> tuple[float, float, float]:
    """How bad a value is, and the ends of its 95 % interval: lower is better here.

    better: the direction that is better, by default the row's own. Of a row without an interval
    both ends are the value.
    """
    better = better or found.get("better")
    value = found["value"]
    low, high = interval(found) or (value, value)
    if better == "higher":
        return -value, -high, -low
    if better != "near":
        return value, low, high
    aim = found["null"] if found.get("null") is not None else found.get("real") or 0.0
    ends = abs(low - aim), abs(high - aim)
    return abs(value - aim), 0.0 if low <= aim <= high else min(ends), max(ends)


@dataclass
class Column:
    """Numbers that may be compared: one metric under one protocol. rows: index of the report ->
    row, with or without value.
    """

    card: dict
    rows: dict[int, dict] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.card["name"]

    def there(self) -> dict[int, dict]:
        return {i: found for i, found in self.rows.items() if has_value(found)}

    def ordered(self) -> list[int]:
        """Reports with a number, best first; empty when no direction is better."""
        if self.card.get("better") not in ("lower", "higher", "near"):
            return []
        there = self.there()
        return sorted(there, key=lambda i: badness(there[i], self.card["better"])[0])

    def ranks(self) -> dict[int, int]:
        """Report -> 1 + how many models are better for sure, their whole interval on the better
        side of this one's.
        """
        there = {i: badness(found, self.card.get("better")) for i, found in self.there().items()}

        def surely(i, j):
            return there[i][2] < there[j][1]

        return {j: 1 + sum(surely(i, j) for i in there) for j in self.ordered()}


def columns_of(reports: list[dict]) -> list[Column]:
    """The rows of some reports by their cards, in the order of their first appearance.

    A number that a model does not have stands, with its reason, in every column of its name.
    """
    columns: dict[tuple, Column] = {}
    missing: list[tuple[int, dict]] = []
    for i, report in enumerate(reports):
        for found in report.get("metrics", []):
            if has_value(found):
                columns.setdefault(identity(found), Column(found)).rows[i] = found
            else:
                missing.append((i, found))
    for i, found in missing:
        same = [column for column in columns.values() if column.name == found["name"]]
        for column in same or [columns.setdefault((found["name"],), Column(found))]:
            column.rows.setdefault(i, found)
    return list(columns.values())
