"""Reports of several models -> which is best at what, in words, with how sure that is.

Ranks come from the protocol: only numbers with the same card share a column, and a model's rank is one more than the
number of models that are better for sure.
"""

import math

from ...evaluate.protocol import Column, columns_of, interval
from ...evaluate.table import LARGE, SMALL

RATIO_TO_PCA = "ratio_to_pca"
NEAR_COPIES, COPIED_TEXT = "near_copies", "copied_share"
GAIN_OVER_COUNTS = "gain_over_counts"
# the questions that the verdict answers, by the metric that answers each; other metrics stand in the table only
QUESTIONS = {
    "frechet": "Samples nearest to the data in the means and covariances of their features",
    "coverage": "Samples cover most of the data",
    "two_sample": "Hardest to tell from real data",
    "reconstruction_mse": "Reconstructs best",
    "log_likelihood": "Best likelihood among those that are computed",
    "importance_weighted": "Best likelihood among those that are only bounded",
    "bits_per_character": "Best likelihood of text",
}


def number(value: float, se: float | None = None) -> str:
    """``0.0396 ± 0.0008``: as many digits as the standard error supports, four without one; short where it is very large."""
    if abs(value) >= LARGE:
        return f"{value:.3g}" + (f" ± {se:.2g}" if se else "")
    if se is None or not se > 0 or not math.isfinite(se):
        return (
            f"{value:,.0f}"
            if value == int(value) and abs(value) < 1e9 or 1e4 <= abs(value) < 1e9
            else f"{value:,.4g}"
        )
    digits = max(0, 1 - math.floor(math.log10(se)))
    if digits > 7:
        return f"{value:.3g} ± {se:.2g}"
    return f"{value:,.{digits}f} ± {se:,.{digits}f}"


def percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def shown(found: dict) -> str:
    """The value as a person reads it."""
    if found.get("unit") == "share":
        return percent(found["value"])
    if found.get("of"):
        return f"{found['value']:,} of {found['of']:,}"
    return number(found["value"], found.get("se"))


def value_of(found: dict) -> str:
    """The same without its error, to as many digits."""
    return shown(found).partition(" ±")[0]


def spread(found: dict) -> str:
    """The 95 % interval as a person reads it; empty where none is known."""
    if (known := interval(found)) is None:
        return ""
    if found.get("unit") == "share":
        return f"{100 * known[0]:.1f} to {100 * known[1]:.1f} %"
    size = known[1] - known[0]
    if size <= 1e-6 * max(abs(known[0]), abs(known[1])):
        return ""
    if max(abs(known[0]), abs(known[1])) >= LARGE or size < SMALL:
        return f"{known[0]:.3g} to {known[1]:.3g}"
    digits = min(7, max(0, 1 - math.floor(math.log10(size))))
    return f"{known[0]:,.{digits}f} to {known[1]:,.{digits}f}"


def verdict(reports: list[dict], titles: list[str], same_data: bool = True) -> list[str]:
    """Sentences, plain text."""
    if not same_data:
        return [
            "These runs were trained on different data: their numbers stand beside each other, but none is better than another."
        ]
    columns = columns_of(reports)
    said, answered = [], set()
    for (
        name,
        question,
    ) in QUESTIONS.items():  # the first column of a name is the one with the main feature map
        column = next(
            (column for column in columns if column.name == name and len(column.ordered()) > 1),
            None,
        )
        if column:
            said.append(_best(column, f"{question} ({_words(column)})", titles))
            answered.add(name)
    for column in columns:
        if column.name == RATIO_TO_PCA:
            said += _beside_pca(column, titles)
        elif column.name == GAIN_OVER_COUNTS:
            said += _beside_counts(column, titles)
        elif (
            not column.card.get("group")
            and column.name not in answered
            and len(column.ordered()) > 1
        ):
            said.append(_best(column, f"Best {_words(column)}", titles))
    said += _copies([column for column in columns if column.name == NEAR_COPIES], titles)
    said += _copied_text([column for column in columns if column.name == COPIED_TEXT], titles)
    return said or ["There is no metric that two of these models share: nothing can be ranked."]


def _words(column: Column) -> str:
    many = f", k = {column.card['k']}" if (column.card.get("k") or 1) > 1 else ""
    bound = {"lower": ", lower bound", "exact": ", exact"}.get(column.card.get("bound") or "", "")
    return f"{column.card['label']}{bound}{many}"


def _best(column: Column, question: str, titles: list[str]) -> str:
    ranks, order = column.ranks(), column.ordered()
    first = [i for i in order if ranks[i] == 1]
    rest = [i for i in order if ranks[i] > 1]

    def tell(i):
        return f"{titles[i]} with {value_of(column.rows[i])}" + (
            f" (95 %: {spread(column.rows[i])})" if interval(column.rows[i]) else ""
        )

    if len(first) > 1:
        more = f" and {len(first) - 3} more" if len(first) > 3 else ""
        start = (
            f"{question}: a tie of {'; '.join(map(tell, first[:3]))}{more}: their intervals overlap"
        )
    else:
        start = f"{question}: {tell(first[0])}"
    after = f"; next is {tell(rest[0])}" if rest else ""
    sure = (
        ""
        if interval(column.rows[order[0]])
        else ". No interval is known, so a small difference may be chance"
    )
    return start + after + sure + "."


def _beside_pca(column: Column, titles: list[str]) -> list[str]:
    there = column.there()
    limits = {i: interval(found) or (found["value"],) * 2 for i, found in there.items()}
    better = [titles[i] for i, (_, high) in limits.items() if high < 0.999]
    worse = [titles[i] for i, (low, _) in limits.items() if low > 1.001]
    said = []
    if better:
        said.append(
            f"Reconstructs better than PCA with a code of the same size: {'; '.join(better)}."
        )
    if worse:
        said.append(
            f"Reconstructs worse than PCA with a code of the same size: {'; '.join(worse)}."
        )
    return said


def _beside_counts(column: Column, titles: list[str]) -> list[str]:
    """A model that counts may be all the same as the counts: neither better nor worse."""
    there, what = column.there(), column.card["label"].removeprefix("gain over ")
    limits = {i: interval(found) or (found["value"],) * 2 for i, found in there.items()}

    def tell(rows):
        return "; ".join(
            f"{titles[i]} by {value_of(there[i] | {'value': abs(there[i]['value'])})} {column.card['unit']}"
            for i in rows
        )

    better = [i for i, (low, _) in limits.items() if low > 0.001]
    worse = [i for i, (_, high) in limits.items() if high < -0.001]
    said = [f"Predicts the held-out text better than {what}: {tell(better)}."] if better else []
    return said + ([f"Predicts it worse than {what}: {tell(worse)}."] if worse else [])


def _copied_text(columns: list[Column], titles: list[str]) -> list[str]:
    """Whose texts hold more long copied runs than real text does."""
    there = {i: found for column in columns for i, found in column.there().items()}

    def real(found):
        return found.get("real") or 0.0

    guilty = [
        i
        for i, found in sorted(there.items())
        if interval(found) and interval(found)[0] > real(found)
    ]
    clean = [titles[i] for i in sorted(there) if i not in guilty]
    said = []
    if guilty:
        said.append(
            "Writes what stands in the training text, more than real text does: "
            + "; ".join(
                f"{titles[i]}, {percent(there[i]['value'])} in long copied runs (real text: {percent(real(there[i]))})"
                for i in guilty
            )
            + "."
        )
    if clean:
        said.append(f"Copies no more of the training text than real text does: {'; '.join(clean)}.")
    return said


def _copies(columns: list[Column], titles: list[str]) -> list[str]:
    """Who gives back training examples: the whole interval lies above what chance gives."""
    there = {i: found for column in columns for i, found in column.there().items()}
    if not there:
        return []

    def chance(found):
        return found.get("null") or 0.0

    guilty = [
        i
        for i, found in sorted(there.items())
        if interval(found) and interval(found)[0] > chance(found)
    ]
    said = []
    if guilty:
        said.append(
            "Samples closer to training examples than chance explains: "
            + "; ".join(
                f"{titles[i]}, {shown(there[i])} near-copies (chance: {percent(chance(there[i]))})"
                for i in guilty
            )
            + "."
        )
    if clean := [titles[i] for i in sorted(there) if i not in guilty]:
        who = "any model" if len(clean) == len(titles) else "; ".join(clean)
        said.append(f"No sign of copied training examples was found in {who}.")
    return said


def hedges(reports: list[dict], seeds: set[int], code_sizes: set[int]) -> list[str]:
    """What the verdict does not say."""
    said = [
        "Intervals are over the draw of samples and test examples; they do not cover another training run, whose result may differ by more."
    ]
    columns = columns_of(reports)
    if any(column.card.get("group") == "text" and column.there() for column in columns):
        said.append(
            "Intervals of predicted text are found from blocks of it, whose symbols depend on each other."
        )
    if any(column.card.get("bound") == "lower" and column.there() for column in columns):
        said.append(
            "A lower bound says that the true log-likelihood is at least this; bounds of different k and exact values are not ranked against each other."
        )
    if len(code_sizes) > 1:
        sizes = ", ".join(map(str, sorted(code_sizes)))
        said.append(
            f"The codes differ in size ({sizes} numbers), and a larger code reconstructs better: compare errors at equal size."
        )
    said.append(
        f"Each model was trained once, with seed {min(seeds)}."
        if len(seeds) == 1
        else f"Trained with seeds {', '.join(map(str, sorted(seeds)))}."
    )
    return said
