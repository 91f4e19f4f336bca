"""Reports of several models -> which model is best by which metric, in words, with intervals.

Only numbers with the same card share a column. The rank of a model is one more than the number of models that
are better with certainty (the intervals do not overlap).
"""

import math

from ...evaluate.cells import LARGE, SMALL
from ...evaluate.metric import all_metrics
from ...evaluate.metrics.copies import NEAR_COPIES
from ...evaluate.metrics.reconstruction import RATIO
from ...evaluate.metrics.text import GAIN
from ...evaluate.metrics.text_copying import COPIED_SHARE
from ...evaluate.protocol import MetricColumn, align_columns, interval


def number(value: float, se: float | None = None) -> str:
    """``0.0396 ± 0.0008``: as many digits as the standard error supports, four without one.

    Very large numbers and those with a tiny error are short: ``3.5e+71``.
    """
    if abs(value) >= LARGE:
        return f"{value:.3g}" + (f" ± {se:.2g}" if se else "")
    if se is None or not se > 0 or not math.isfinite(se):
        is_whole = value == int(value) or abs(value) >= 1e4
        return f"{value:,.0f}" if is_whole and abs(value) < 1e9 else f"{value:,.4g}"
    digits = max(0, 1 - math.floor(math.log10(se)))
    if digits > 7:
        return f"{value:.3g} ± {se:.2g}"
    return f"{value:,.{digits}f} ± {se:,.{digits}f}"


def percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def shown(row: dict) -> str:
    """The value of a row of a report, as text."""
    if row.get("unit") == "share":
        return percent(row["value"])
    if row.get("of"):
        return f"{row['value']:,} of {row['of']:,}"
    return number(row["value"], row.get("se"))


def value_of(row: dict) -> str:
    """The same without its error, to as many digits."""
    return shown(row).partition(" ±")[0]


def spread(row: dict) -> str:
    """The 95 % interval as text; empty where none is known."""
    limits = interval(row)
    if limits is None:
        return ""
    low, high = limits
    if row.get("unit") == "share":
        return f"{100 * low:.1f} to {100 * high:.1f} %"
    size = high - low
    largest = max(abs(low), abs(high))
    if size <= 1e-6 * largest:
        return ""
    if largest >= LARGE or size < SMALL:
        return f"{low:.3g} to {high:.3g}"
    digits = min(7, max(0, 1 - math.floor(math.log10(size))))
    return f"{low:,.{digits}f} to {high:,.{digits}f}"


def verdict(reports: list[dict], titles: list[str], same_data: bool = True) -> list[str]:
    """Which model is best by each metric, in sentences of plain text."""
    if not same_data:
        return [
            "These runs were trained on different data: their numbers stand beside each other, "
            "but they cannot be ranked."
        ]
    columns = align_columns(reports)
    sentences = []
    answered = set()
    for metric in sorted(all_metrics(), key=lambda metric: metric.question_order):
        column = _first_shared(columns, metric.name) if metric.question else None
        if column is not None:
            question = f"{metric.question} ({_describe(column)})"
            sentences.append(_rank(column, question, titles))
            answered.add(metric.name)
    for column in columns:
        if column.name == RATIO.name:
            sentences += _compare_with_pca(column, titles)
        elif column.name == GAIN.name:
            sentences += _compare_with_counts(column, titles)
        elif not column.card.get("group") and column.name not in answered:
            if len(column.ordered()) > 1:
                sentences.append(_rank(column, f"Best {_describe(column)}", titles))
    sentences += _report_copies(columns, titles)
    sentences += _report_copied_text(columns, titles)
    return sentences or ["There is no metric that two of these models share: no ranking."]


def _first_shared(columns: list[MetricColumn], name: str) -> MetricColumn | None:
    """The first column of a name, which has the main feature map, if two models have a value."""
    for column in columns:
        if column.name == name and len(column.ordered()) > 1:
            return column
    return None


def _describe(column: MetricColumn) -> str:
    card = column.card
    bound = {"lower": ", lower bound", "exact": ", exact"}.get(card.get("bound") or "", "")
    draws = f", k = {card['k']}" if (card.get("k") or 1) > 1 else ""
    return f"{card['label']}{bound}{draws}"


def _rank(column: MetricColumn, question: str, titles: list[str]) -> str:
    """``QUESTION: A with 0.10 (95 %: 0.08 to 0.12); next is B with 0.2.``"""
    ranks = column.ranks()
    order = column.ordered()
    first = [i for i in order if ranks[i] == 1]
    rest = [i for i in order if ranks[i] > 1]
    sentence = f"{question}: {_with_value(column, first[0], titles)}"
    if len(first) > 1:
        best = "; ".join(_with_value(column, i, titles) for i in first[:3])
        more = f" and {len(first) - 3} more" if len(first) > 3 else ""
        sentence = f"{question}: a tie of {best}{more}: their intervals overlap"
    if rest:
        sentence += f"; next is {_with_value(column, rest[0], titles)}"
    if interval(column.rows[order[0]]) is None:
        sentence += ". No interval is known, so a small difference may be chance"
    return sentence + "."


def _with_value(column: MetricColumn, i: int, titles: list[str]) -> str:
    row = column.rows[i]
    text = f"{titles[i]} with {value_of(row)}"
    return text + (f" (95 %: {spread(row)})" if interval(row) else "")


def _limits_of(column: MetricColumn) -> dict[int, tuple[float, float]]:
    """The interval of each model, of width 0 where none is known."""
    limits = {}
    for i, row in column.valued_rows().items():
        limits[i] = interval(row) or (row["value"], row["value"])
    return limits


def _compare_with_pca(column: MetricColumn, titles: list[str]) -> list[str]:
    limits = _limits_of(column)
    better = [titles[i] for i, (_, high) in limits.items() if high < 0.999]
    worse = [titles[i] for i, (low, _) in limits.items() if low > 1.001]
    sentences = []
    for names, comparison in ((better, "better"), (worse, "worse")):
        if names:
            sentences.append(
                f"Reconstructs {comparison} than PCA with a code of the same size: "
                f"{'; '.join(names)}."
            )
    return sentences


def _compare_with_counts(column: MetricColumn, titles: list[str]) -> list[str]:
    """A model of counts may equal the counts: neither better nor worse."""
    rows = column.valued_rows()
    name = column.card["label"].removeprefix("gain over ")

    def list_gains(indices: list[int]) -> str:
        parts = []
        for i in indices:
            gain = value_of(rows[i] | {"value": abs(rows[i]["value"])})
            parts.append(f"{titles[i]} by {gain} {column.card['unit']}")
        return "; ".join(parts)

    limits = _limits_of(column)
    better = [i for i, (low, _) in limits.items() if low > 0.001]
    worse = [i for i, (_, high) in limits.items() if high < -0.001]
    sentences = []
    if better:
        sentences.append(f"Predicts the held-out text better than {name}: {list_gains(better)}.")
    if worse:
        sentences.append(f"Predicts it worse than {name}: {list_gains(worse)}.")
    return sentences


def _split_by_chance(
    columns: list[MetricColumn], name: str, key: str
) -> tuple[dict, dict, list[int]]:
    """Rows of a metric of copies; by ``key`` the expected share of each; models certainly above it."""
    rows: dict[int, dict] = {}
    for column in columns:
        if column.name == name:
            rows |= column.valued_rows()
    expected = {i: row.get(key) or 0.0 for i, row in rows.items()}
    above = []
    for i in sorted(rows):
        limits = interval(rows[i])
        if limits and limits[0] > expected[i]:
            above.append(i)
    return rows, expected, above


def _report_copied_text(columns: list[MetricColumn], titles: list[str]) -> list[str]:
    """Models whose texts hold more long copied runs than real text."""
    rows, real, above = _split_by_chance(columns, COPIED_SHARE.name, "real")
    sentences = []
    parts = []
    for i in above:
        share = percent(rows[i]["value"])
        parts.append(f"{titles[i]}, {share} in long copied runs (real text: {percent(real[i])})")
    if parts:
        sentences.append(f"Copies the training text, more than real text does: {'; '.join(parts)}.")
    clean = [titles[i] for i in sorted(rows) if i not in above]
    if clean:
        names = "; ".join(clean)
        sentences.append(f"Copies no more of the training text than real text does: {names}.")
    return sentences


def _report_copies(columns: list[MetricColumn], titles: list[str]) -> list[str]:
    """Models whose share of near-copies is certainly above chance."""
    rows, chance, above = _split_by_chance(columns, NEAR_COPIES.name, "null")
    sentences = []
    parts = []
    for i in above:
        parts.append(f"{titles[i]}, {shown(rows[i])} near-copies (chance: {percent(chance[i])})")
    if parts:
        sentences.append(
            f"Samples closer to training examples than chance explains: {'; '.join(parts)}."
        )
    clean = [titles[i] for i in sorted(rows) if i not in above]
    if clean:
        names = "any model" if len(clean) == len(titles) else "; ".join(clean)
        sentences.append(f"No sign of copied training examples in {names}.")
    return sentences


def hedges(reports: list[dict], seeds: set[int], code_sizes: set[int]) -> list[str]:
    """The limits of the verdict."""
    sentences = [
        "Intervals are over the draw of samples and test examples; they do not cover another "
        "training run, whose result may differ by more."
    ]
    columns = [column for column in align_columns(reports) if column.valued_rows()]
    if any(column.card.get("group") == "text" for column in columns):
        sentences.append(
            "Intervals of text are computed from blocks of symbols, which depend on each other."
        )
    if any(column.card.get("bound") == "lower" for column in columns):
        sentences.append(
            "A lower bound: the true log-likelihood is at least this; bounds of different k and "
            "exact values are not ranked against each other."
        )
    if len(code_sizes) > 1:
        sizes = ", ".join(map(str, sorted(code_sizes)))
        sentences.append(
            f"The codes differ in size ({sizes} numbers), and a larger code reconstructs better: "
            "compare errors at equal size."
        )
    if len(seeds) == 1:
        sentences.append(f"Each model was trained once, with seed {min(seeds)}.")
    else:
        sentences.append(f"Trained with seeds {', '.join(map(str, sorted(seeds)))}.")
    return sentences
