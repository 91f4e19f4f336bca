"""Rows of reports as text: numbers, table cells, headings."""

from .protocol import MetricColumn, align_columns, has_value, interval

GROUPS = {
    "text": "prediction of held-out text",
    "baselines": "what counts and a compressor make of the same text",
    "samples": "the samples",
    "referees": "the samples again: other feature maps, and held-out examples as the reference",
    "labels": "the samples' classes and modes",
    "captions": "what samples show of their captions",
    "memory": "memory of the training set",
    "likelihood": "likelihood of held-out data",
    "reconstruction": "reconstruction of held-out data",
    "latents": "the code",
    "": "others",
}
LARGE = 1e7  # numbers from here on are written as 3.5e+71
SMALL = 1e-5  # numbers below are written as 3.5e-71
ARROWS = {"lower": " ↓", "higher": " ↑", "near": " ≈"}


def format_number(value: float, like: float | None = None) -> str:
    """About four digits; 3.5e+71 for very large and very small numbers.

    like: the value that an error belongs to, whose decimals the error gets.
    """
    if isinstance(value, int) and abs(value) < LARGE:
        return f"{value:,}"
    size = abs(value if like is None else like)
    if max(size, abs(value)) >= LARGE or 0 < max(size, abs(value)) < SMALL:
        return f"{value:.2g}" if value else "0"
    decimals = 2
    if size < 0.1:
        decimals = 5
    elif size < 1:
        decimals = 4
    elif size < 10:
        decimals = 3
    return f"{value:.{decimals}f}"


def format_rate(per_second: float) -> str:
    """Whole numbers, and two digits below 10."""
    if isinstance(per_second, int) or per_second >= 10:
        return f"{per_second:,.0f}"
    return f"{per_second:.2g}"


def format_cell(row: dict | None) -> str:
    """The value with its 95 % interval, "± half of its width" where it is even, or a dash."""
    if not has_value(row):
        return "-"
    value = row["value"]
    ends = interval(row)
    half = (ends[1] - ends[0]) / 2 if ends else None
    if row["unit"] == "share":
        text = f"{100 * value:.1f} %"
        return f"{text} ({100 * ends[0]:.1f} to {100 * ends[1]:.1f})" if half else text
    if row.get("of"):
        return f"{value:,} of {row['of']:,}"
    text = format_number(value)
    if half and abs(ends[0] + ends[1] - 2 * value) > 0.1 * half:
        return f"{text} ({format_number(ends[0], value)} to {format_number(ends[1], value)})"
    return f"{text} ± {format_number(half, value)}" if half else text


def heading(column: MetricColumn, features: bool = True) -> str:
    """The name of a column. features: with the feature map, where one metric has several."""
    card = column.card
    words = [card["label"]]
    if (card["k"] or 1) > 1:
        words.append(f"k = {card['k']}")
    if card["bound"] == "lower" and "bound" not in card["label"] and card["name"] != "elbo":
        words.append("lower bound")
    if card["bound"] == "ode" and "flow" not in card["label"]:
        words.append("by the flow")
    if card.get("given"):
        words.append(f"given the {card['given']}")
    if card.get("evaluator") and features:
        words.append(short_evaluator(card))
    return ", ".join(words) + ARROWS.get(card["better"], "")


def short_evaluator(card: dict) -> str:
    """The name of the feature map, without its digest."""
    return card["evaluator"].partition("/")[0]


def group_columns(reports: list[dict]) -> list[tuple[str, list[MetricColumn]]]:
    """Columns with a number by group, in the order of GROUPS; then groups of other names."""
    columns = [column for column in align_columns(reports) if column.valued_rows()]
    titles = dict(GROUPS)
    for column in columns:
        group = column.card.get("group", "")
        titles.setdefault(group, group)
    groups = []
    for group, title in titles.items():
        members = [column for column in columns if column.card.get("group", "") == group]
        if members:
            groups.append((title, members))
    return groups


def real_row(column: MetricColumn) -> dict | None:
    """The value of held-out real examples, as a row."""
    rows = [row for row in column.valued_rows().values() if row.get("real") is not None]
    if not rows:
        return None
    rows.sort(key=lambda row: not row.get("real_interval"))  # old reports have no interval
    real = {"value": rows[0]["real"], "interval": rows[0].get("real_interval"), "se": None}
    return column.card | real


def perfect_row(column: MetricColumn) -> dict | None:
    """The value of a perfect model, as a row."""
    for row in column.valued_rows().values():
        if row.get("null") is not None:
            # "of" is for whole numbers
            return column.card | {"value": row["null"], "interval": None, "se": None, "of": None}
    return None


def checkpoint_value(training: dict, which: str) -> str:
    """The validation value of the "last" or the "best" checkpoint, with its step."""
    checkpoint = training[which]
    return f"{format_number(checkpoint['value'])} at step {checkpoint['step']:,}"
